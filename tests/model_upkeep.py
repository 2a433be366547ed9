"""Reference model, second half: what maintenance, repair, imports and batches do."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from uuid import UUID

from tests.model import (
    Activity,
    Answer,
    Cause,
    ChangeType,
    Entry,
    Kind,
    Ledger,
    RefusedError,
    Row,
    User,
    answer_of,
    answered,
    bridged,
    check_time,
    dates,
    longest_run,
    own_zone,
    recount,
    replay,
    update,
    written,
)
from tests.model_time import exists, local_day, zone_name

MAX_RECOVERY_DAYS = 366

# Maintenance and repair (section 4).


def lapse(users: Mapping[UUID, User], now: datetime, limit: int) -> dict[UUID, User]:
    """``expire_lapsed_streaks``: the users it changed, at most ``limit``, the longest expired first (rule 7)."""
    due = [(user.row.expires_at, user_id) for user_id, user in users.items() if user.row and is_due(user.row, now)]
    return {user_id: lapse_one(users[user_id]) for _, user_id in sorted(due)[:limit]}


def is_due(row: Row, now: datetime) -> bool:
    """Whether the column still shows a streak that has expired (rule 7)."""
    return row.current > 0 and now >= row.expires_at


def lapse_one(user: User) -> User:
    """One lapse: the column falls to 0; neither the run nor the ledger is touched (rule 7)."""
    assert user.row is not None
    row = dataclasses.replace(user.row, current=0, version=user.row.version + 1)
    return written(user, user.ledger, row, Cause(ChangeType.STREAK_LAPSED, row.last, row.zone))


def recover(user: User, now: datetime, first: date, last: date, request_id: str | None = None) -> tuple[User, Answer]:
    """``recover_user_streak``: the missed days of a range enter as repaired.

    Raises:
        RefusedError: for a range before the first ledger day, after local yesterday, over 366 days or empty, and for
            a user without a ledger.
    """
    before = replay(user, request_id)
    if before is not None:
        return user, before
    row = check_range(user, now, first, last)
    ledger = repaired(user.ledger, first, last, row.zone)
    if ledger == user.ledger:
        return user, answer_of(row, now, ChangeType.STREAK_MAINTAINED, row.zone)
    ledger = bridged(user, ledger, set(ledger) - set(user.ledger))
    after = recount(user, now, ledger, row.zone)
    return answered(user, now, ledger, after, Cause(ChangeType.STREAK_RECOVERED, last, row.zone, request_id))


def check_range(user: User, now: datetime, first: date, last: date) -> Row:
    """The user's row, if the range may be repaired (section 4)."""
    if user.row is None:
        raise RefusedError("NO_STREAK")
    if first > last:
        raise RefusedError("RANGE_INVALID")
    if (last - first).days + 1 > MAX_RECOVERY_DAYS:
        raise RefusedError("RANGE_TOO_LONG")
    if first < min(user.ledger):
        raise RefusedError("RANGE_TOO_EARLY")
    if last >= local_day(now, user.row.zone):
        raise RefusedError("RANGE_TOO_LATE")
    return user.row


def repaired(ledger: Ledger, first: date, last: date, zone: str) -> Ledger:
    """The ledger with the missed days of a range; a date that the zone never had was not missed: it is skipped."""
    missed = [day for day in dates(first, last) if day not in ledger]
    return {**ledger, **{day: Entry(missed_kind(day, zone), None, zone) for day in missed}}


def missed_kind(day: date, zone: str) -> Kind:
    """Repaired, or skipped for a date that never was (rules 2 and 9)."""
    return Kind.REPAIRED if exists(day, zone) else Kind.SKIPPED


def falsify(user: User, run: int, longest: int) -> User:
    """What a change of the counters by hand leaves: another version and its history row (rule 8)."""
    assert user.row is not None
    row = dataclasses.replace(user.row, current=0, run=run, longest=longest)
    if row == user.row:
        return user
    row = dataclasses.replace(row, version=row.version + 1)
    return written(user, user.ledger, row, Cause(ChangeType.STREAK_REBUILT, row.last, row.zone))


def rebuild(user: User, now: datetime) -> User:
    """``rebuild_user_streak``: the row from the ledger; writes only what differs (rule 2).

    A lapse that no sweep has written yet is no difference.

    Raises:
        RefusedError: for a user without a streak.
    """
    if user.row is None:
        raise RefusedError("NO_STREAK")
    longest = max(longest_run(user.ledger), user.row.base)
    row = dataclasses.replace(recount(user, now, user.ledger, user.row.zone), longest=longest)
    as_it_was = dataclasses.replace(row, version=user.row.version, current=user.row.current)
    if user.row == as_it_was and user.row.current in (row.current, row.run):
        return user
    return written(user, user.ledger, row, Cause(ChangeType.STREAK_REBUILT, row.last, row.zone))


# Many at once (section 4).


def import_activity(users: Mapping[UUID, User], now: datetime, events: Sequence[Activity]) -> dict[UUID, User]:
    """``import_user_activity``: the users that it changed. All events enter, or none.

    Raises:
        RefusedError: for an unknown user, or an event in the future.
    """
    by_user: dict[UUID, list[tuple[datetime, str | None]]] = {}
    for event in events:
        if event.user_id not in users:
            raise RefusedError("USER_NOT_FOUND", "23503")
        assert event.at is not None
        check_time(now, event.at)
        by_user.setdefault(event.user_id, []).append((event.at, event.zone))
    after = {user_id: import_one(users[user_id], now, own) for user_id, own in by_user.items()}
    return {user_id: user for user_id, user in after.items() if user is not users[user_id]}


def import_one(user: User, now: datetime, events: Sequence[tuple[datetime, str | None]]) -> User:
    """One user's import: each event's own zone gives its day; a day keeps its first activity.

    An event without a zone takes the stored one: for a new user the latest event's, so that importing again, when that
    is stored, gives the same days. Of events at one instant the first by the name of its zone comes first.
    """
    latest = max(at for at, _ in events)
    sent_last = min(filter(None, (zone_name(sent) for at, sent in events if at == latest)), default=None)
    stored = user.row.zone if user.row else own_zone(user, sent_last)
    fresh: dict[date, Entry] = {}
    for at, zone in sorted((at, zone_name(sent) or stored) for at, sent in events):
        day = local_day(at, zone)
        if day not in user.ledger or user.ledger[day].kind is not Kind.ACTIVE:
            fresh.setdefault(day, Entry(Kind.ACTIVE, at, zone))
    if not fresh:
        return user
    ledger = bridged(user, {**user.ledger, **fresh}, fresh)
    row = recount(user, now, ledger, stored)
    return written(user, ledger, row, Cause(ChangeType.STREAK_IMPORTED, row.last, row.zone))


def batch(
    users: Mapping[UUID, User], now: datetime, activities: Sequence[Activity]
) -> tuple[dict[UUID, User], list[Answer | RefusedError]]:
    """``update_user_streaks_batch``: elements act in array order; a bad one harms no other."""
    after, answers = dict(users), list[Answer | RefusedError]()
    for one in activities:
        try:
            after[one.user_id], answer = update(known(after, one.user_id), now, one)
            answers.append(answer)
        except RefusedError as refusal:
            answers.append(refusal)
    return after, answers


def known(users: Mapping[UUID, User], user_id: UUID) -> User:
    """The user, if there is one (section 4)."""
    if user_id not in users:
        raise RefusedError("USER_NOT_FOUND", "23503")
    return users[user_id]
