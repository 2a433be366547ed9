"""Reference model of the streak rules (README, How it stays right) in plain Python.

A user is a set of ledger days, a row of counters and what was answered before. Every operation is a pure function: it
takes a user (or all users) and a clock, and returns the new user and the answer. Nothing here knows SQL: the state
machines in ``tests/integration`` compare it with the database, so it must stay an opinion of its own.

Times are aware datetimes; days are dates; zones are IANA names.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from enum import StrEnum
from uuid import UUID

from tests.model_time import expiry, local_day, zone_name

DAY = timedelta(days=1)
FUTURE_LIMIT = timedelta(minutes=5)
AGE_LIMIT = timedelta(days=7)
ZONE_HOLD = timedelta(hours=12)
MAX_REQUEST_ID = 100


class Kind(StrEnum):
    """What a ledger day is (rule 2)."""

    ACTIVE = "active"
    REPAIRED = "repaired"
    SKIPPED = "skipped"


class ChangeType(StrEnum):
    """What a call did to the streak (rule 3 and section 4)."""

    FIRST_ACTIVITY = "FIRST_ACTIVITY"
    STREAK_INCREMENT = "STREAK_INCREMENT"
    STREAK_MAINTAINED = "STREAK_MAINTAINED"
    STREAK_RESET = "STREAK_RESET"
    STREAK_RECOVERED = "STREAK_RECOVERED"
    STREAK_LAPSED = "STREAK_LAPSED"
    STREAK_IMPORTED = "STREAK_IMPORTED"
    STREAK_REBUILT = "STREAK_REBUILT"


class RefusedError(Exception):
    """A call that is refused and changes nothing; ``word`` is what stands in DETAIL."""

    def __init__(self, word: str, sqlstate: str = "22023") -> None:
        super().__init__(word)
        self.word = word
        self.sqlstate = sqlstate


@dataclass(frozen=True)
class Entry:
    """One ledger day: its kind, the instant of its activity (only an active day has one), and the deciding zone."""

    kind: Kind
    at: datetime | None
    zone: str


Ledger = Mapping[date, Entry]


@dataclass(frozen=True)
class Row:
    """The row in ``user_streaks``; ``base`` is a longest streak that no ledger explains."""

    current: int
    longest: int
    run: int
    last: date
    zone: str
    version: int
    expires_at: datetime
    base: int = 0


@dataclass(frozen=True)
class Change:
    """One history row."""

    change_type: ChangeType
    old_current: int
    new_current: int
    old_longest: int
    new_longest: int
    day: date
    zone: str
    version: int
    request_id: str | None


@dataclass(frozen=True)
class Cause:
    """Why a row changes: the change type, the day it is about, the zone that decided, and the call's request id."""

    change_type: ChangeType
    day: date
    zone: str
    request_id: str | None = None


@dataclass(frozen=True)
class Answer:
    """What a writing call answers, the message aside."""

    current_streak: int
    longest_streak: int
    last_active_date: date
    change_type: ChangeType
    timezone: str
    version: int
    expires_at: datetime
    replayed: bool = False
    success: bool = True


@dataclass(frozen=True)
class Reading:
    """What ``get_user_streak`` answers."""

    current_streak: int = 0
    longest_streak: int = 0
    last_active_date: date | None = None
    timezone: str | None = None
    is_active_today: bool = False
    days_since_activity: int | None = None
    expires_at: datetime | None = None
    version: int = 0


@dataclass(frozen=True)
class User:
    """All that the rules know of one user."""

    ledger: Ledger = field(default_factory=dict)
    row: Row | None = None
    history: tuple[Change, ...] = ()
    requests: Mapping[str, Answer] = field(default_factory=dict)
    profile_zone: str | None = None


@dataclass(frozen=True)
class Activity:
    """One activity as a caller reports it; None stands for the default of the parameter."""

    user_id: UUID
    at: datetime | None = None
    zone: str | None = None
    request_id: str | None = None


# Counting the ledger (rule 2).


def runs(ledger: Ledger) -> list[list[date]]:
    """The ledger's days as unbroken sequences, the latest last (rule 2)."""
    found: list[list[date]] = []
    for day in sorted(ledger):
        if found and found[-1][-1] + DAY == day:
            found[-1].append(day)
        else:
            found.append([day])
    return found


def counting_days(ledger: Ledger, run: Sequence[date]) -> int:
    """How many days of a run count; a skipped one covers its day and counts 0 (rule 2)."""
    return sum(ledger[day].kind is not Kind.SKIPPED for day in run)


def run_length(ledger: Ledger) -> int:
    """The counting days of the run that ends on the last ledger day (rule 2)."""
    return counting_days(ledger, runs(ledger)[-1])


def longest_run(ledger: Ledger) -> int:
    """The counting days of the best run that the ledger holds (rule 2)."""
    return max(counting_days(ledger, run) for run in runs(ledger))


def effective(row: Row, now: datetime) -> int:
    """The current streak at an instant: the run before ``expires_at``, 0 from then on (rule 7)."""
    return row.run if now < row.expires_at else 0


# Zones (rule 6).


def fallback_zone(user: User) -> str:
    """The zone when none is sent: the stored one, else the profile's, else UTC (rule 6)."""
    if user.row is not None:
        return user.row.zone
    return zone_name(user.profile_zone) or "UTC"


def own_zone(user: User, sent: str | None) -> str:
    """The zone sent where it is one, else the fallback (rule 6)."""
    return zone_name(sent) or fallback_zone(user)


def instants(ledger: Ledger) -> list[tuple[datetime, date, str]]:
    """The activities that entered a day, in order of time and then of days, each with the zone that decided."""
    return sorted((entry.at, day, entry.zone) for day, entry in ledger.items() if entry.at is not None)


def deciding_zone(user: User, at: datetime, sent: str | None) -> str:
    """The zone of the nearest activity that entered a day within 12 hours, else the zone sent (rule 6).

    Of two that are equally near, the earlier one decides; of two at one instant the one on the later day.
    """
    near = [
        (abs(at - other), other, -day.toordinal(), zone)
        for other, day, zone in instants(user.ledger)
        if abs(at - other) <= ZONE_HOLD
    ]
    return min(near)[-1] if near else own_zone(user, sent)


def stored_zone_after(user: User, at: datetime, deciding: str) -> str:
    """The deciding zone becomes the stored one unless a counted activity is later (rule 6)."""
    if user.row is not None and any(other > at for other, *_ in instants(user.ledger)):
        return user.row.zone
    return deciding


# Writing: the one place where a row changes (rules 2, 7 and 8).


def recount(user: User, now: datetime, ledger: Ledger, zone: str) -> Row:
    """The next row for a ledger and a stored zone.

    While ``last`` stays, ``expires_at`` never moves back (rule 6), so no late day and no repeat takes time away.
    """
    last = max(ledger)
    expires_at = expiry(last, zone)
    if user.row is not None and user.row.last == last:
        expires_at = max(expires_at, user.row.expires_at)
    longest = max(longest_run(ledger), user.row.longest if user.row else 0)
    base = user.row.base if user.row else 0
    row = Row(0, longest, run_length(ledger), last, zone, next_version(user), expires_at, base)
    return dataclasses.replace(row, current=effective(row, now))


def next_version(user: User) -> int:
    """One more than any version before, also than those of a row that has gone (rule 8)."""
    return 1 + max((change.version for change in user.history), default=0)


def answer_of(row: Row, now: datetime, change_type: ChangeType, zone: str) -> Answer:
    """The answer of a writing call: the effective streak (rule 7) and the zone used (rule 6)."""
    return Answer(effective(row, now), row.longest, row.last, change_type, zone, row.version, row.expires_at)


def written(user: User, ledger: Ledger, row: Row, cause: Cause) -> User:
    """The user after a write, with the one history row that explains it (rule 8)."""
    change = Change(
        cause.change_type,
        old_current=user.row.current if user.row else 0,
        new_current=row.current,
        old_longest=user.row.longest if user.row else 0,
        new_longest=row.longest,
        day=cause.day,
        zone=cause.zone,
        version=row.version,
        request_id=cause.request_id,
    )
    return dataclasses.replace(user, ledger=ledger, row=row, history=(*user.history, change))


def answered(user: User, now: datetime, ledger: Ledger, row: Row, cause: Cause) -> tuple[User, Answer]:
    """A write and its answer, kept for replays if the call has a request id (rule 5)."""
    answer = answer_of(row, now, cause.change_type, cause.zone)
    after = written(user, ledger, row, cause)
    if cause.request_id is None:
        return after, answer
    return dataclasses.replace(after, requests={**user.requests, cause.request_id: answer}), answer


def replay(user: User, request_id: str | None) -> Answer | None:
    """The first answer to a request id, if the call wrote (rule 5)."""
    check_request_id(request_id)
    if request_id is None or request_id not in user.requests:
        return None
    return dataclasses.replace(user.requests[request_id], replayed=True)


# One activity (rules 3 to 6).


def update(user: User, now: datetime, activity: Activity) -> tuple[User, Answer]:
    """``update_user_streak_atomic`` for a user who exists.

    Raises:
        RefusedError: for a request id that is too long, or an activity in the future or too old (rule 4).
    """
    first = replay(user, activity.request_id)
    if first is not None:
        return user, first
    at = now if activity.at is None else activity.at
    check_time(now, at, oldest=now - AGE_LIMIT)
    zone = deciding_zone(user, at, activity.zone)
    day = local_day(at, zone)
    stored = stored_zone_after(user, at, zone)
    if day in user.ledger and user.ledger[day].kind is Kind.ACTIVE:
        return repeat(user, now, stored, Cause(ChangeType.STREAK_MAINTAINED, day, zone, activity.request_id))
    ledger = bridged(user, {**user.ledger, day: Entry(Kind.ACTIVE, at, zone)}, {day})
    row = recount(user, now, ledger, stored)
    return answered(user, now, ledger, row, Cause(classify(user, row, day, at), day, zone, activity.request_id))


def check_request_id(request_id: str | None) -> None:
    """An over-long request id is refused (section 4)."""
    if request_id is not None and len(request_id) > MAX_REQUEST_ID:
        raise RefusedError("REQUEST_ID_TOO_LONG")


def check_time(now: datetime, at: datetime, oldest: datetime | None = None) -> None:
    """More than 5 minutes ahead is refused, and so is what is older than ``oldest`` (rule 4)."""
    if at > now + FUTURE_LIMIT:
        raise RefusedError("ACTIVITY_IN_FUTURE")
    if oldest is not None and at < oldest:
        raise RefusedError("ACTIVITY_TOO_OLD")


def repeat(user: User, now: datetime, stored: str, cause: Cause) -> tuple[User, Answer]:
    """An activity on a day that is active already: writes only if it changes the stored zone (rules 3 and 6)."""
    assert user.row is not None
    if stored == user.row.zone:
        return user, answer_of(user.row, now, cause.change_type, cause.zone)
    return answered(user, now, user.ledger, recount(user, now, user.ledger, stored), cause)


def keeps(row: Row, day: date, at: datetime) -> bool:
    """Whether an activity after ``last`` continues the run: the next date, or before ``expires_at`` (rule 3)."""
    return day == row.last + DAY or at < row.expires_at


def classify(user: User, after: Row, day: date, at: datetime) -> ChangeType:
    """The change type of an activity that entered a day (rule 3)."""
    before = user.row
    if before is None:
        return ChangeType.FIRST_ACTIVITY
    if day > before.last:
        return ChangeType.STREAK_INCREMENT if keeps(before, day, at) else ChangeType.STREAK_RESET
    moved = (after.run, after.longest) != (before.run, before.longest)
    return ChangeType.STREAK_RECOVERED if moved else ChangeType.STREAK_MAINTAINED


def bridged(user: User, ledger: Ledger, entered: Iterable[date]) -> Ledger:
    """The ledger with the gaps beside newly entered days covered where the later activity kept the streak (rule 3).

    A gap is covered when the activity after it came before the day in front of it expired. That is the rule of
    STREAK_INCREMENT, asked of late days and imports too: in whatever order events arrive, a journey or a date that a
    zone never had is no missed day.
    """
    days, new, result = sorted(ledger), set(entered), dict(ledger)
    for before, after in itertools.pairwise(days):
        at = ledger[after].at
        if at is None or not {before, after} & new or at >= deadline(user, ledger, before):
            continue
        for gap in dates(before + DAY, after - DAY):
            result[gap] = Entry(Kind.SKIPPED, None, ledger[after].zone)
    return result


def deadline(user: User, ledger: Ledger, day: date) -> datetime:
    """When a ledger day stops carrying the streak: the row's ``expires_at`` for ``last``, else its own (rule 7)."""
    if user.row is not None and day == user.row.last:
        return user.row.expires_at
    return expiry(day, ledger[day].zone)


def dates(first: date, last: date) -> list[date]:
    """All dates from first to last, both included; none if last is before first."""
    return [first + n * DAY for n in range((last - first).days + 1)]


# Reading (rule 7 and section 4).


def read(user: User, now: datetime) -> Reading:
    """``get_user_streak``: today is the stored zone's; without a row zeros, nulls and the zone of a first activity."""
    row = user.row
    if row is None:
        return Reading(timezone=fallback_zone(user))
    today = local_day(now, row.zone)
    return Reading(
        current_streak=effective(row, now),
        longest_streak=row.longest,
        last_active_date=row.last,
        timezone=row.zone,
        is_active_today=row.last >= today,
        days_since_activity=max(0, (today - row.last).days),
        expires_at=row.expires_at,
        version=row.version,
    )
