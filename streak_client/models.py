"""What goes in and what comes out: frozen models with dates, aware instants and UUIDs instead of strings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import Annotated, Any, TypeAlias
from uuid import UUID
from zoneinfo import ZoneInfo

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict

from streak_client.errors import InvalidResponseError, StreakError


def _full_offset(value: Any) -> Any:
    """Write the offset ``+00`` as ``+00:00``: PostgreSQL's text form is not quite ISO 8601, and pydantic wants ISO."""
    # a date alone has a hyphen there, too, and no colon
    return f"{value}:00" if isinstance(value, str) and value[-3:-2] in ("+", "-") and ":" in value else value


Instant = Annotated[AwareDatetime, BeforeValidator(_full_offset)]
"""A point in time: an aware `datetime`, read from either of the two forms that the REST servers send."""


class ChangeType(StrEnum):
    """What a call or a job did to a streak."""

    FIRST_ACTIVITY = "FIRST_ACTIVITY"
    STREAK_INCREMENT = "STREAK_INCREMENT"
    STREAK_MAINTAINED = "STREAK_MAINTAINED"
    STREAK_RESET = "STREAK_RESET"
    STREAK_RECOVERED = "STREAK_RECOVERED"
    STREAK_LAPSED = "STREAK_LAPSED"
    STREAK_IMPORTED = "STREAK_IMPORTED"
    STREAK_REBUILT = "STREAK_REBUILT"


class LeaderboardOrder(StrEnum):
    """What a leaderboard is ordered by."""

    CURRENT_STREAK = "current_streak"
    LONGEST_STREAK = "longest_streak"


class _Model(BaseModel):
    # A newer database may send more columns than this client knows.
    model_config = ConfigDict(frozen=True, extra="ignore")


Zone: TypeAlias = str | ZoneInfo
"""An IANA time zone, by name or as an object."""


class StreakUpdate(_Model):
    """The answer to an activity.

    Attributes:
        success: Always true; failures raise. Kept because the original schema's answer has it.
        current_streak: Days in the streak now.
        longest_streak: Days in the longest streak ever.
        last_active_date: The local day that the streak ends on.
        change_type: What the activity did.
        message: The same for people; names a time zone that was sent but is none.
        timezone: The IANA zone that decided the day.
        version: The row's version after the call; a higher one is newer.
        expires_at: The streak is lost unless another activity comes before this instant.
        replayed: Whether this is the first answer to the same request id, given again.
    """

    success: bool
    current_streak: int
    longest_streak: int
    last_active_date: date
    change_type: ChangeType
    message: str
    timezone: str
    version: int
    expires_at: Instant
    replayed: bool


class UserStreak(_Model):
    """A user's streak, as it counts at this moment.

    Attributes:
        user_id: Whose streak it is.
        current_streak: Days in the streak; 0 once it has lapsed.
        longest_streak: Days in the longest streak ever.
        last_active_date: The local day of the last activity; None without any.
        timezone: The user's stored IANA zone; without any activity the one that a first activity would use.
        is_active_today: Whether today, in that zone, already counts.
        days_since_activity: Local days since `last_active_date`, never negative; None without any activity.
        expires_at: The streak is lost unless another activity comes before this instant; None without any activity.
        version: The row's version, higher is newer; 0 without any activity.
    """

    user_id: UUID
    current_streak: int
    longest_streak: int
    last_active_date: date | None
    timezone: str
    is_active_today: bool
    days_since_activity: int | None
    expires_at: Instant | None
    version: int


class LeaderboardEntry(_Model):
    """One place on the leaderboard; users with equal streaks share a rank."""

    rank: int
    user_id: UUID
    current_streak: int
    longest_streak: int
    last_active_date: date | None
    is_active_today: bool


@dataclass(frozen=True, slots=True)
class ProblemSolved:
    """What became of an activity that must not be lost.

    Attributes:
        result: The answer, if the activity was counted at once.
        queued: Whether it is in the outbox, to be counted later as of its own time.
        error: Why it was not counted at once.
    """

    result: StreakUpdate | None
    queued: bool
    error: StreakError | None = None


class HistoryEntry(_Model):
    """One change of a user's streak, as the audit trail keeps it.

    Attributes:
        id: Grows with every change of any user.
        user_id: Whose streak changed.
        change_type: What happened.
        activity_date: The local day that the change is about.
        activity_at: When the activity happened; None where the change has none.
        old_current_streak: The current streak before.
        new_current_streak: The current streak after.
        old_longest_streak: The longest streak before.
        new_longest_streak: The longest streak after.
        last_active_date: The last active day before; None for a first activity.
        new_last_active_date: The last active day after.
        expires_at: When the streak was to lapse, as of this change.
        timezone: The IANA zone that decided the day.
        version_before: The row's version before, 0 for a new row.
        version_after: The row's version after.
        request_id: The request that wrote it, if one did.
        reason: Why an operator changed it, if one did.
        duration_ms: How long the database took, in milliseconds.
        created_at: When the change was written, which may be days after the activity.
    """

    id: int
    user_id: UUID
    change_type: ChangeType
    activity_date: date
    activity_at: Instant | None = None
    old_current_streak: int
    new_current_streak: int
    old_longest_streak: int
    new_longest_streak: int
    last_active_date: date | None
    new_last_active_date: date | None = None
    expires_at: Instant | None = None
    timezone: str
    version_before: int
    version_after: int
    request_id: str | None
    reason: str | None = None
    duration_ms: int | None = None
    created_at: Instant


class StreakExplanation(_Model):
    """Why a user's streak is what it is.

    Attributes:
        user_id: Whose streak it is.
        current_streak: Days in the streak at this moment.
        longest_streak: Days in the longest streak ever.
        version: The row's version; 0 for a user without a streak.
        timezone: The IANA zone that decides which day it is.
        today: The local day in that zone; None for a user without a streak.
        rule: The rule that made it so: 2 ledger and corrections, 3 transition, 6 zone, 7 lapse.
        first_day: The first day of the unbroken run; None without one.
        last_day: Its last day.
        skipped_days: Its days that are covered and count 0.
        repaired_days: Its days that an operator entered.
        expires_at: The instant of the lapse, past or to come.
        explanation: The same for people, sentence by sentence.
        history: The latest ten changes, newest first, archived ones too.
    """

    user_id: UUID
    current_streak: int
    longest_streak: int
    version: int
    timezone: str
    today: date | None
    rule: int
    first_day: date | None
    last_day: date | None
    skipped_days: tuple[date, ...]
    repaired_days: tuple[date, ...]
    expires_at: Instant | None
    explanation: tuple[str, ...]
    history: tuple[HistoryEntry, ...]


class DayKind(StrEnum):
    """How a day came into the ledger."""

    ACTIVE = "active"
    REPAIRED = "repaired"
    SKIPPED = "skipped"


class CalendarDay(_Model):
    """One day of a user's ledger.

    Attributes:
        day: The local day.
        kind: How it came there; a skipped day keeps a streak alive but counts 0.
        activity_at: When the activity happened that made it active; None where none is known.
        timezone: The IANA zone that decided the day.
    """

    day: date
    kind: DayKind
    activity_at: Instant | None
    timezone: str


class ImportedUser(_Model):
    """What an import did to one user: the streak after it, or the code of the error that kept the user out."""

    user_id: UUID
    error: str | None
    days_added: int | None
    current_streak: int | None
    longest_streak: int | None
    last_active_date: date | None


@dataclass(frozen=True, slots=True)
class ImportSummary:
    """What an import did.

    Attributes:
        events: Activities sent.
        users: Users to whom days were added.
        days_added: Days that were not in the ledger before, of all users.
        refused: Users who could not be imported, with the reason; nothing of theirs was entered.
    """

    events: int
    users: int
    days_added: int
    refused: Mapping[UUID, StreakError]


@dataclass(frozen=True, slots=True)
class Activity:
    """Something that a user did, to be counted.

    Attributes:
        user_id: Who did it.
        activity_at: When, as an aware `datetime`; None means now (an import needs the time).
        timezone: The IANA zone the user was in; None means the stored one.
        request_id: At most 100 characters; the same id never counts twice. None means a new one.
    """

    user_id: UUID | str
    activity_at: datetime | None = None
    timezone: Zone | None = None
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class ActivityOutcome:
    """What became of one activity of a batch: a result or an error, never both.

    Attributes:
        activity: The activity as it was given.
        result: The answer, if it was counted.
        error: The reason, if it was not.
    """

    activity: Activity
    result: StreakUpdate | None = None
    error: StreakError | None = None

    def unwrap(self) -> StreakUpdate:
        """Return the result, or raise the error.

        Returns:
            The answer to this activity.

        Raises:
            StreakError: Why this activity was not counted.
        """
        if self.result is None:
            raise self.error or InvalidResponseError("The batch holds no answer for this activity.")
        return self.result
