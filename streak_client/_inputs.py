"""The checks that run before anything is sent: each returns the clean value or names the field at fault."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

from streak_client.errors import InvalidInputError
from streak_client.models import LeaderboardOrder

MAX_REQUEST_ID_LENGTH = 100
MAX_REASON_LENGTH = 500
FUTURE_TOLERANCE = timedelta(minutes=5)
MAX_LEADERBOARD_LIMIT = 1_000
MAX_LEADERBOARD_OFFSET = 1_000_000  # what the database lets the service skip
MAX_INTEGER, MAX_BIGINT = 2**31 - 1, 2**63 - 1  # what PostgreSQL's types hold
# No IANA name comes near it; what is longer is no zone, and need not travel to be told so.
MAX_TIMEZONE_LENGTH = 100

_UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}", re.IGNORECASE)
_NOT_TEXT = {"Cc", "Cs"}  # control characters and lone surrogates: no name holds one, and PostgreSQL refuses some


def refuse(field: str, problem: str) -> InvalidInputError:
    """Word what is wrong with an argument.

    Args:
        field: The argument's name.
        problem: What is wrong, as the rest of a sentence.

    Returns:
        The error to raise.
    """
    return InvalidInputError(f"{field} {problem}", field=field)


def is_plain_text(value: str) -> bool:
    """Tell whether a string is free of control characters and lone surrogates.

    Args:
        value: Any string.

    Returns:
        True if every character can be stored and shown.
    """
    return value.isprintable() or not any(unicodedata.category(character) in _NOT_TEXT for character in value)


def user_id(value: object, field: str = "user_id") -> UUID:
    """Check a user id.

    Args:
        value: A `UUID`, or its usual form with hyphens.
        field: The argument's name, for the error.

    Returns:
        The id.

    Raises:
        InvalidInputError: It is missing or no UUID.
    """
    if isinstance(value, UUID):
        return value
    if value is None or value == "":
        raise refuse(field, "is required")
    if not isinstance(value, str):
        raise refuse(field, f"must be a UUID, not {type(value).__name__}")
    # UUID() also takes braces, urn: prefixes and hyphens anywhere: more than anyone means to write.
    if not _UUID.fullmatch(value):
        raise refuse(field, "is not a UUID")
    return UUID(value)


def user_ids(values: object, field: str = "user_ids") -> list[UUID]:
    """Check a list of user ids.

    Args:
        values: Any iterable of ids, but not one string.
        field: The argument's name, for the error.

    Returns:
        The ids in the order given.

    Raises:
        InvalidInputError: It is no list, or an element is no UUID; the field names the element.
    """
    return [user_id(value, f"{field}[{index}]") for index, value in enumerate(sequence(values, field))]


def sequence(values: object, field: str) -> Sequence[object]:
    """Check that an argument holds several values.

    Args:
        values: Any iterable, but not one string.
        field: The argument's name, for the error.

    Returns:
        The values as a list.

    Raises:
        InvalidInputError: It is a string, bytes or not iterable.
    """
    if isinstance(values, str | bytes):
        raise refuse(field, f"must be a list, not {type(values).__name__}")
    try:
        return list(values)  # type: ignore[call-overload, no-any-return]
    except TypeError:
        raise refuse(field, f"must be a list, not {type(values).__name__}") from None


def activity_at(value: object, now: datetime, field: str = "activity_at") -> datetime:
    """Check the time of an activity.

    Args:
        value: An aware `datetime`.
        now: The present instant.
        field: The argument's name, for the error.

    Returns:
        The same instant in UTC.

    Raises:
        InvalidInputError: It is no `datetime`, naive, or more than five minutes in the future. An old one passes:
            only the database knows whether its request was answered before it grew old.
    """
    if not isinstance(value, datetime):
        raise refuse(field, f"must be a datetime, not {type(value).__name__}")
    if value.utcoffset() is None:
        raise refuse(field, "must be an aware datetime: it has no UTC offset")
    try:
        instant = value.astimezone(UTC)
    except OverflowError:
        raise refuse(field, "is out of range") from None
    if instant > now + FUTURE_TOLERANCE:
        raise refuse(field, "is more than 5 minutes in the future")
    return instant


def request_id(value: object, field: str = "request_id") -> str:
    """Check a request id.

    Args:
        value: The id.
        field: The argument's name, for the error.

    Returns:
        The id, unchanged.

    Raises:
        InvalidInputError: It is empty, too long, or holds control characters.
    """
    return _text(value, field, MAX_REQUEST_ID_LENGTH)


def reason(value: object, field: str = "reason") -> str:
    """Check the reason of a recovery.

    Args:
        value: The reason, for the audit trail.
        field: The argument's name, for the error.

    Returns:
        The reason, unchanged.

    Raises:
        InvalidInputError: It is empty, too long, or holds control characters.
    """
    return _text(value, field, MAX_REASON_LENGTH)


def _text(value: object, field: str, longest: int) -> str:
    if not isinstance(value, str):
        raise refuse(field, f"must be a string, not {type(value).__name__}")
    if not value.strip():
        raise refuse(field, "must not be empty")
    if len(value) > longest:
        raise refuse(field, f"must have at most {longest} characters")
    if not is_plain_text(value):
        raise refuse(field, "must not hold control characters")
    return value


def timezone(value: object, field: str = "timezone") -> str | None:
    """Check the form of a time zone; whether it is one, the database decides.

    A wrong zone must never cost the user the day, so what could not even travel there is dropped instead of refused.

    Args:
        value: An IANA name, a `zoneinfo.ZoneInfo`, or None.
        field: The argument's name, for the error.

    Returns:
        The name to send; None if there is none, or it cannot be a zone's name.

    Raises:
        InvalidInputError: It is neither a string nor a `ZoneInfo`.
    """
    name = getattr(value, "key", value)
    if name is None:
        return None
    if not isinstance(name, str):
        raise refuse(field, f"must be an IANA time zone name, not {type(value).__name__}")
    return name if len(name) <= MAX_TIMEZONE_LENGTH and is_plain_text(name) else None


def day(value: object, field: str) -> date:
    """Check a calendar day.

    Args:
        value: A `date`; a `datetime` is refused, since its day depends on a zone.
        field: The argument's name, for the error.

    Returns:
        The day, unchanged.

    Raises:
        InvalidInputError: It is no plain `date`.
    """
    if not isinstance(value, date) or isinstance(value, datetime):
        raise refuse(field, f"must be a date, not {type(value).__name__}")
    return value


def day_range(first: object, last: object) -> tuple[date, date]:
    """Check a range of calendar days.

    Args:
        first: The first day.
        last: The last day, included.

    Returns:
        Both days.

    Raises:
        InvalidInputError: One is no date, or the range is empty.
    """
    first_day, last_day = day(first, "first_day"), day(last, "last_day")
    if last_day < first_day:
        raise refuse("last_day", "must not be before first_day")
    return first_day, last_day


def whole_number(value: object, field: str, lowest: int, highest: int | None = None) -> int:
    """Check a count.

    Args:
        value: An `int`.
        field: The argument's name, for the error.
        lowest: The least that is allowed.
        highest: The most that is allowed; None for no bound.

    Returns:
        The number, unchanged.

    Raises:
        InvalidInputError: It is no integer, or out of bounds.
    """
    if not isinstance(value, int) or isinstance(value, bool):
        raise refuse(field, f"must be an integer, not {type(value).__name__}")
    if value < lowest or (highest is not None and value > highest):
        raise refuse(field, f"must be at least {lowest}" if highest is None else f"must be {lowest} to {highest}")
    return value


def leaderboard_order(value: object, field: str = "order_by") -> LeaderboardOrder:
    """Check a leaderboard's order.

    Args:
        value: ``"current_streak"`` or ``"longest_streak"``.
        field: The argument's name, for the error.

    Returns:
        The order.

    Raises:
        InvalidInputError: It is another word.
    """
    try:
        return LeaderboardOrder(value)  # type: ignore[arg-type]
    except ValueError:
        raise refuse(field, f"must be one of {', '.join(LeaderboardOrder)}") from None
