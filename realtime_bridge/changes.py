"""What the database says about a streak: rows and changes, parsed once at the border into frozen values."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

TABLE = "user_streaks"
COLUMNS = (
    "id",
    "user_id",
    "version",
    "run_length",
    "longest_streak",
    "last_active_date",
    "timezone",
    "expires_at",
    "last_activity_at",
)


class PartialRowError(ValueError):
    """A row lacks columns, so that it must be read again."""


@dataclass(frozen=True, slots=True)
class StreakRow:
    """One row of ``user_streaks``, as far as listeners need it.

    Attributes:
        id: The row's own key, all that a DELETE carries.
        user_id: Whose streak it is.
        version: Grows by one with every change of the row.
        run_length: Counting days of the run; what the streak is worth until ``expires_at``.
        longest_streak: The longest run ever.
        last_active_date: The run's last day in the stored zone.
        timezone: The stored IANA zone.
        expires_at: When the streak lapses, in epoch seconds.
        last_activity_at: The last counted activity, in epoch seconds.
    """

    id: str
    user_id: str
    version: int
    run_length: int
    longest_streak: int
    last_active_date: date | None
    timezone: str | None
    expires_at: float | None
    last_activity_at: float | None

    def streak_at(self, wall: float) -> int:
        """The current streak at an instant given in epoch seconds."""
        return self.run_length if self.expires_at is None or wall < self.expires_at else 0


@dataclass(frozen=True, slots=True)
class Upsert:
    """A row was inserted or updated."""

    row: StreakRow


@dataclass(frozen=True, slots=True)
class Delete:
    """A row was deleted; the server names only its key."""

    row_id: str


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Something changed, but the message does not say enough: it must be read over REST.

    Attributes:
        user_id: Whose row, if the message says so.
        row_id: Which row, if the message says so.
    """

    user_id: str | None
    row_id: str | None


Change = Upsert | Delete | Unreadable


def parse_row(record: Mapping[str, Any]) -> StreakRow:
    """Parse a row as REST and Realtime send it.

    Args:
        record: Column names and JSON values.

    Returns:
        The row.

    Raises:
        PartialRowError: A column is missing or holds no value of its type.
    """
    try:
        return StreakRow(
            id=_key(record["id"]),
            user_id=_key(record["user_id"]),
            version=int(record["version"]),
            run_length=int(record["run_length"]),
            longest_streak=int(record["longest_streak"]),
            last_active_date=_day(record["last_active_date"]),
            timezone=record["timezone"],
            expires_at=_instant(record["expires_at"]),
            last_activity_at=_instant(record["last_activity_at"]),
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise PartialRowError(f"row of {TABLE} cannot be read: {type(error).__name__} {error}") from error


def parse_change(payload: Mapping[str, Any]) -> Change:
    """Parse the payload of a ``postgres_changes`` event. Never raises: what cannot be read is `Unreadable`."""
    data = payload.get("data")
    if not isinstance(data, Mapping):
        return Unreadable(None, None)
    if data.get("type") == "DELETE":
        row_id = _optional_key(data.get("old_record"), "id")
        return Delete(row_id) if row_id else Unreadable(None, None)
    record = data.get("record")
    if not data.get("errors") and isinstance(record, Mapping):
        try:
            return Upsert(parse_row(record))
        except PartialRowError:
            pass
    return Unreadable(_optional_key(record, "user_id"), _optional_key(record, "id"))


def _key(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise TypeError("a key must be a string")
    return value.lower()


def _optional_key(record: Any, name: str) -> str | None:
    value = record.get(name) if isinstance(record, Mapping) else None
    return value.lower() if isinstance(value, str) and value else None


def _day(value: Any) -> date | None:
    return None if value is None else date.fromisoformat(value)


def _instant(value: Any) -> float | None:
    # lite writes a space and "+00" where PostgREST writes "T" and "+00:00"; fromisoformat reads both.
    if value is None or value == "infinity":
        return None
    moment = datetime.fromisoformat(value)
    if moment.tzinfo is None:
        raise ValueError("an instant needs an offset")
    return moment.astimezone(UTC).timestamp()  # raises where the UTC date is none of Python's
