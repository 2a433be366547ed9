"""What listeners receive: one frozen `Message` for every surface, encoded at most once for each."""

import json
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import StrEnum
from functools import cached_property, lru_cache
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from realtime_bridge.changes import StreakRow


class MessageType(StrEnum):
    """What a message is about."""

    SNAPSHOT = "snapshot"
    CHANGE = "change"
    DELETE = "delete"
    RESET = "reset"
    STATE = "state"
    BOARD = "board"


class EventName(StrEnum):
    """What happened to a streak, from the listener's last state to the new one."""

    STARTED = "started"
    INCREMENTED = "incremented"
    RESET = "reset"
    RECOVERED = "recovered"
    LAPSED = "lapsed"
    MILESTONE = "milestone"
    UPDATED = "updated"


@dataclass(frozen=True, slots=True)
class Streak:
    """A streak as ``get_user_streak`` answers it; zeros and nulls for a user without a row.

    Attributes:
        current_streak: Days, 0 from ``expires_at`` on.
        longest_streak: Days.
        last_active_date: In the stored zone.
        timezone: The stored IANA zone; without a row the one that a first activity would count in.
        is_active_today: Whether today, in that zone, is covered.
        days_since_activity: Whole days, never negative.
        expires_at: UTC.
        version: Orders the states of one row; 0 without a row.
    """

    current_streak: int = 0
    longest_streak: int = 0
    last_active_date: date | None = None
    timezone: str | None = None
    is_active_today: bool = False
    days_since_activity: int | None = None
    expires_at: datetime | None = None
    version: int = 0

    @property
    def json(self) -> str:
        """`as_dict` as JSON text; by hand, because it is made anew for every change."""
        day, since, ends = self.last_active_date, self.days_since_activity, self.expires_at
        return (
            f'{{"current_streak":{self.current_streak},"longest_streak":{self.longest_streak},'
            f'"last_active_date":{_quoted(day and day.isoformat())},"timezone":{_quoted(self.timezone)},'
            f'"is_active_today":{"true" if self.is_active_today else "false"},'
            f'"days_since_activity":{"null" if since is None else since},'
            f'"expires_at":{_quoted(ends and ends.isoformat())},"version":{self.version}}}'
        )

    def as_dict(self) -> dict[str, Any]:
        """The streak with JSON values: dates and instants in ISO 8601."""
        return {
            "current_streak": self.current_streak,
            "longest_streak": self.longest_streak,
            "last_active_date": self.last_active_date and self.last_active_date.isoformat(),
            "timezone": self.timezone,
            "is_active_today": self.is_active_today,
            "days_since_activity": self.days_since_activity,
            "expires_at": self.expires_at and self.expires_at.isoformat(),
            "version": self.version,
        }


def streak_of(row: StreakRow | None, wall: float, zone: str | None = None) -> Streak:
    """The answer of ``get_user_streak`` for a row.

    Args:
        row: The row, or None for a user without one.
        wall: Now, in epoch seconds.
        zone: The zone of a user without a row.

    Returns:
        The streak at that moment.
    """
    if row is None:
        return Streak(timezone=zone)
    last = row.last_active_date
    since = None if last is None else (_day(row.timezone, int(wall // 60)) - last).days
    return Streak(
        current_streak=row.streak_at(wall),
        longest_streak=row.longest_streak,
        last_active_date=last,
        timezone=row.timezone,
        is_active_today=since is not None and since <= 0,
        days_since_activity=None if since is None else max(since, 0),
        expires_at=None if row.expires_at is None else datetime.fromtimestamp(row.expires_at, UTC),
        version=row.version,
    )


@lru_cache(maxsize=4096)
def _day(zone: str | None, minute: int) -> date:
    """The local date: days begin on whole minutes everywhere."""
    return datetime.fromtimestamp(minute * 60, _zone(zone)).date()


@lru_cache(maxsize=4096)
def _quoted(text: str | None) -> str:
    return json.dumps(text)


@lru_cache(maxsize=1024)
def _zone(name: str | None) -> ZoneInfo:
    # The database checked the name against its own list, which may be newer than ours.
    try:
        return ZoneInfo(name or "UTC")
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return ZoneInfo("UTC")


@dataclass(frozen=True)
class Message:
    """One message to a listener.

    Attributes:
        type: What it is about.
        epoch: The run of the bridge that sent it.
        seq: Resume token: once this message is read, everything up to here has been sent to this listener. It
            never falls, but several messages may share one. After a resume a message may come twice (same version).
        user_id: Whose streak (snapshot, change, delete).
        event: What happened (change).
        streak: The new state (snapshot, change).
        state: The bridge's health, or ``closed`` (state).
        code: Close code (state ``closed``).
        reason: Why (reset, state).
    """

    type: MessageType
    epoch: str
    seq: int
    user_id: str | None = None
    event: EventName | None = None
    streak: Streak | None = None
    state: str | None = None
    code: int | None = None
    reason: str | None = None

    @property
    def id(self) -> str:
        """``<epoch>:<seq>``: what ``since=`` and ``Last-Event-ID`` take."""
        return f"{self.epoch}:{self.seq}"

    def as_dict(self) -> dict[str, Any]:
        """The message as a JSON object; what does not apply is left out."""
        body: dict[str, Any] = {"type": self.type.value, "epoch": self.epoch, "seq": self.seq}
        for name in ("user_id", "event", "state", "code", "reason"):
            value = getattr(self, name)
            if value is not None:
                body[name] = value
        if self.streak is not None:
            body["streak"] = self.streak.as_dict()
        return body

    @cached_property
    def json(self) -> str:
        """The message as JSON text."""
        if self.streak is None or self.user_id is None:
            return json.dumps(self.as_dict(), separators=(",", ":"))
        event = "" if self.event is None else f',"event":"{self.event.value}"'
        return (
            f'{{"type":"{self.type.value}","epoch":"{self.epoch}","seq":{self.seq},'
            f'"user_id":"{self.user_id}"{event},"streak":{self.streak.json}}}'
        )

    @cached_property
    def sse(self) -> bytes:
        """The message as one server-sent event."""
        return f"id: {self.id}\nevent: {self.type}\ndata: {self.json}\n\n".encode()


@dataclass(frozen=True, slots=True)
class Place:
    """A place on the leaderboard, as ``get_streak_leaderboard`` answers it.

    Attributes:
        rank: From 1; equal streaks share a rank.
        user_id: Whose; equal streaks are in the order of it.
        current_streak: Days, at least 1.
        longest_streak: Days.
        last_active_date: In the stored zone.
        is_active_today: Whether today, in that zone, is covered.
    """

    rank: int
    user_id: str
    current_streak: int
    longest_streak: int
    last_active_date: date | None
    is_active_today: bool

    def as_dict(self) -> dict[str, Any]:
        """The place with JSON values."""
        return {
            "rank": self.rank,
            "user_id": self.user_id,
            "current_streak": self.current_streak,
            "longest_streak": self.longest_streak,
            "last_active_date": self.last_active_date and self.last_active_date.isoformat(),
            "is_active_today": self.is_active_today,
        }


@dataclass(frozen=True)
class BoardMessage(Message):
    """The top of the leaderboard, for a listener that asked for ``top``. Always the whole board.

    Attributes:
        top: The places that were asked for.
        board: The places, first to last; fewer if there are fewer live streaks.
        entered: Users who were not on the listener's last board; None on its first.
        left: Users who were, and are not any more; None on its first.
    """

    top: int = 0
    board: tuple[Place, ...] = ()
    entered: tuple[str, ...] | None = None
    left: tuple[str, ...] | None = None

    def as_dict(self) -> dict[str, Any]:
        """The message as a JSON object; what does not apply is left out."""
        body = {**super().as_dict(), "top": self.top, "board": [place.as_dict() for place in self.board]}
        if self.entered is not None and self.left is not None:
            body.update(entered=list(self.entered), left=list(self.left))
        return body
