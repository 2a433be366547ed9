"""Reference model, third part: what operators do on purpose, written down from the functions' comments alone.

Undoing an activity, repairing after an outage and undoing that, merging two accounts, archiving and erasing.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Mapping
from datetime import date, datetime, timedelta
from uuid import UUID

from tests.model import (
    DAY,
    Answer,
    Cause,
    ChangeType,
    Entry,
    Kind,
    Ledger,
    RefusedError,
    User,
    answered,
    bridged,
    dates,
    effective,
    instants,
    longest_run,
    read,
    recount,
    replay,
    written,
)
from tests.model_time import expiry, local_day
from tests.model_upkeep import recover

TICK = timedelta(microseconds=1)
RANK = {Kind.SKIPPED: 0, Kind.REPAIRED: 1, Kind.ACTIVE: 2}

# Corrections: days leave the ledger.


def touched(user: User, now: datetime, day: date | None, **changes: object) -> User:
    """A row that changes without a recount: its own version and history row."""
    assert user.row is not None
    row = dataclasses.replace(user.row, **changes, version=user.row.version + 1)  # type: ignore[arg-type]
    row = dataclasses.replace(row, current=effective(row, now), longest=max(row.longest, row.base))
    return written(user, user.ledger, row, Cause(ChangeType.STREAK_REBUILT, day or row.last, row.zone))


def dropped(user: User, cause: Cause) -> tuple[User, Answer]:
    """A user whose ledger is empty has no row; the history goes on."""
    assert user.row is not None
    nothing = dataclasses.replace(user.row, current=0, longest=0, version=user.row.version + 1)
    after = written(user, {}, nothing, cause)
    # an answer without a last day and an expiry, which the type of other answers does not know
    answer = Answer(0, 0, None, cause.change_type, cause.zone, nothing.version, None)  # type: ignore[arg-type]
    requests = user.requests if cause.request_id is None else {**user.requests, cause.request_id: answer}
    return dataclasses.replace(after, row=None, requests=requests), answer


def corrected(user: User, now: datetime, ledger: Ledger, cause: Cause, *, keep_longest: bool) -> tuple[User, Answer]:
    """The user with fewer days: recounted, the longest streak too unless it is to be kept."""
    assert user.row is not None
    if not ledger:
        return dropped(user, dataclasses.replace(cause, zone=user.row.zone))
    if keep_longest and user.row.longest > user.row.base and longest_run(ledger) < user.row.longest:
        user = touched(user, now, cause.day, base=user.row.longest)
        assert user.row is not None
    row = recount(user, now, ledger, cause.zone)
    row = dataclasses.replace(row, longest=max(longest_run(ledger), row.base))
    return answered(user, now, ledger, row, cause)


def undo(user: User, now: datetime, day: date, request_id: str | None) -> tuple[User, Answer]:
    """``undo_user_activity``: as if nothing had counted on the day.

    Raises:
        RefusedError: for a user without a streak, a day that does not count, and the last day of a user whose longest
            streak no ledger explains.
    """
    first = replay(user, request_id)
    if first is not None:
        return user, first
    if user.row is None:
        raise RefusedError("NO_STREAK")
    solid = sorted(one for one, entry in user.ledger.items() if entry.kind is not Kind.SKIPPED)
    if day not in solid:
        raise RefusedError("DAY_NOT_COUNTED")
    before = max((one for one in solid if one < day), default=None)
    after = min((one for one in solid if one > day), default=None)
    if before is None and after is None and user.row.base:
        raise RefusedError("DAY_IS_LAST")
    ledger = {
        one: entry
        for one, entry in user.ledger.items()
        if (before is not None and one <= before) or (after is not None and one >= after)
    }
    if before is not None:
        ledger = dict(bridged(user, ledger, {before}))
    cause = Cause(ChangeType.STREAK_REBUILT, day, zone_without(user, day, ledger), request_id)
    return corrected(user, now, ledger, cause, keep_longest=False)


def zone_without(user: User, day: date, ledger: Ledger) -> str:
    """The stored zone after a day has gone: the one that the latest activity brought goes with it."""
    assert user.row is not None
    gone, left = user.ledger[day], instants(ledger)
    if gone.at is not None and gone.at == instants(user.ledger)[-1][0] and gone.zone == user.row.zone and left:
        return left[-1][-1]
    return user.row.zone


# Outages.


def outage_gaps(user: User, now: datetime, began: datetime, ended: datetime) -> list[tuple[date, date]]:
    """The missing stretches of a ledger all of whose days an outage touched; today can still be used."""
    if user.row is None:
        return []
    today = local_day(now, user.row.zone)
    ends = [*itertools.pairwise(sorted(user.ledger)), (user.row.last, today)]
    gaps = [(before + DAY, after - DAY) for before, after in ends if before + DAY <= after - DAY < today]
    return [(first, last) for first, last in gaps if was_touched(user, first, last, began, ended)]


def was_touched(user: User, first: date, last: date, began: datetime, ended: datetime) -> bool:
    """Whether an outage touched each day of a stretch, by the zone of the day before it."""
    assert user.row is not None
    zone = user.row.zone if first > user.row.last else user.ledger[first - DAY].zone
    return local_day(began, zone) <= first and last <= local_day(ended - TICK, zone)


def repair(user: User, now: datetime, began: datetime, ended: datetime) -> tuple[User, set[date]]:
    """A mass repair for one user: the user, and the days that it entered."""
    entered: set[date] = set()
    for first, last in outage_gaps(user, now, began, ended):
        user, _ = recover(user, now, first, last)
        entered |= set(dates(first, last))
    return user, entered


def undo_repair(user: User, now: datetime, days: set[date]) -> tuple[User, int]:
    """The undoing of a repair for one user: the user, and how many days it took out."""
    gone = {day for day in days if day in user.ledger and user.ledger[day].kind is not Kind.ACTIVE}
    ledger = {day: entry for day, entry in user.ledger.items() if day not in gone}
    if not gone or not ledger:
        return user, 0
    assert user.row is not None
    cause = Cause(ChangeType.STREAK_REBUILT, min(days), user.row.zone)
    after, _ = corrected(user, now, ledger, cause, keep_longest=True)
    return after, len(gone)


# Two accounts.


def united(ours: Ledger, theirs: Ledger) -> dict[date, Entry]:
    """The union of two ledgers: active before repaired before skipped, of two active days the earlier instant."""
    union = dict(ours)
    for day, entry in theirs.items():
        if day not in union or better(entry, union[day]):
            union[day] = entry
    return union


def taken_over(ours: Ledger, theirs: Ledger) -> set[date]:
    """The days of their ledger that a union takes from it."""
    return {day for day, entry in theirs.items() if day not in ours or better(entry, ours[day])}


def better(one: Entry, than: Entry) -> bool:
    """Whether an entry of the same day wins."""
    if RANK[one.kind] != RANK[than.kind]:
        return RANK[one.kind] > RANK[than.kind]
    return one.kind is Kind.ACTIVE and one.at is not None and (than.at is None or one.at < than.at)


def merge(
    users: Mapping[UUID, User], now: datetime, source: UUID, into: UUID, request_id: str | None
) -> tuple[dict[UUID, User], Answer]:
    """``merge_user_streaks``: both users after it, and the answer."""
    target, other = users[into], users[source]
    first = replay(target, request_id)
    if first is not None:
        return dict(users), first
    if other.row is None:
        return dict(users), nothing_to_merge(target, now)
    gone, _ = dropped(other, Cause(ChangeType.STREAK_REBUILT, other.row.last, other.row.zone))
    if target.row is None:
        # a row of no days that begins with what the other knew
        empty = dataclasses.replace(other.row, current=0, longest=0, run=0, version=max_version(target))
        merged = dataclasses.replace(target, row=empty, ledger=other.ledger)
    else:
        merged = with_ledger(target, other, now)
    assert merged.row is not None
    row = recount(merged, now, merged.ledger, zone_of_both(target, other))
    row = dataclasses.replace(row, longest=max(row.longest, row.base))
    cause = Cause(ChangeType.STREAK_IMPORTED, row.last, row.zone, request_id)
    merged, answer = answered(merged, now, merged.ledger, row, cause)
    return {**users, into: merged, source: gone}, answer


def max_version(user: User) -> int:
    """The version at which a user's history stands."""
    return max((change.version for change in user.history), default=0)


def nothing_to_merge(target: User, now: datetime) -> Answer:
    """The answer of a merge that finds no days to take over."""
    reading = read(target, now)
    values = dataclasses.asdict(reading)
    del values["is_active_today"], values["days_since_activity"]
    return Answer(change_type=ChangeType.STREAK_MAINTAINED, **values)


def zone_of_both(target: User, other: User) -> str:
    """The stored zone of the account whose latest counted activity is later; the target's on a tie."""
    assert other.row is not None
    if target.row is None:
        return other.row.zone
    ours, theirs = instants(target.ledger), instants(other.ledger)
    later = theirs and (not ours or theirs[-1][0] > ours[-1][0])
    return other.row.zone if later else target.row.zone


def with_ledger(target: User, other: User, now: datetime) -> User:
    """The target with both ledgers, and with what the other's row knew beyond its ledger."""
    assert target.row is not None
    assert other.row is not None
    union = united(target.ledger, other.ledger)
    new = taken_over(target.ledger, other.ledger)
    merged = dataclasses.replace(target, ledger=bridged(target, union, new) if new else union)
    later: dict[str, object] = {}
    fresh = expiry(other.row.last, zone_of_both(target, other))
    if (other.row.last == target.row.last and other.row.expires_at > target.row.expires_at) or (
        other.row.last > target.row.last and other.row.expires_at > fresh
    ):
        later = {"last": other.row.last, "expires_at": other.row.expires_at}
    if later or other.row.base > target.row.base:
        merged = touched(merged, now, None, base=max(target.row.base, other.row.base), **later)
    return merged


# Retention.


def archived(user: User, times: Mapping[int, datetime], before: datetime) -> User:
    """The user after the archive took what is older: its changes stay known, its requests do not."""
    old = {
        change.request_id
        for change in user.history
        if times[change.version] < before and change.version < max_version(user)
    }
    return dataclasses.replace(user, requests={key: one for key, one in user.requests.items() if key not in old})


def erased(user: User) -> User:
    """The user without a past; the profile's zone is the default again."""
    return User(profile_zone=None if user.profile_zone is None else "UTC")


def versions(user: User) -> Iterable[int]:
    """The versions in a user's history."""
    return (change.version for change in user.history)
