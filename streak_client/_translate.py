"""The one boundary where a failed call becomes a :class:`StreakError`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import httpx
from postgrest.exceptions import APIError

from streak_client.errors import (
    ConcurrentModificationError,
    ConfigurationError,
    ConnectionFailedError,
    DatabaseError,
    ErrorCode,
    InvalidInputError,
    InvalidResponseError,
    PermissionDeniedError,
    RateLimitedError,
    RequestTimeoutError,
    StreakError,
    UserNotFoundError,
)

# https://www.postgresql.org/docs/17/errcodes-appendix.html and https://docs.postgrest.org/en/stable/references/errors.html
_CONFLICT = {"PT409", "40001", "40P01", "55P03", "23505"}  # no function here refuses a duplicate: it only loses races
_DENIED = {"42501", "PGRST301", "PGRST302", "PGRST303"}
_NOT_INSTALLED = {"PGRST106", "PGRST202", "PGRST203", "PGRST204", "PGRST205", "42883", "42P01", "42703"}
_CANCELLED = {"57014", "PGRST003"}
_INVALID_DATA = "22"  # the class of data exceptions; 22023 is what the functions raise themselves
# What PostgreSQL, PostgREST and @supabase/lite send, which has one code for all SQLSTATEs that it does not know; a
# gateway's page has none, or the status, or words of its own.
_CODE = re.compile(r"[0-9A-Z]{5}|PGRST[0-9A-Z]{3}|SUP")

_WORD = re.compile(r"[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+")
_FIELDS = {
    "USER_IDS": "user_ids",
    "USER": "user_id",
    "ACTIVITY": "activity_at",
    "REQUEST_ID": "request_id",
    "REASON": "reason",
    "LIMIT": "limit",
    "OFFSET": "offset",
    "ORDER": "order_by",
    "NO_STREAK": "user_id",
    "RANGE_TOO_EARLY": "first_day",
    "RANGE": "last_day",
    "BATCH": "activities",
}


class _Refusal(NamedTuple):
    message: str
    sqlstate: str
    status: int


# What the update raises when it is called for one activity. A batch says no more than the word.
_REFUSALS = {
    "USER_ID_REQUIRED": _Refusal("p_user_id: a user id is required", "22023", 400),
    "USER_NOT_FOUND": _Refusal("p_user_id: there is no such user", "23503", 409),
    "REQUEST_ID_TOO_LONG": _Refusal("p_request_id: at most 100 characters", "22023", 400),
    "ACTIVITY_IN_FUTURE": _Refusal("p_activity_at: more than 5 minutes in the future", "22023", 400),
    "ACTIVITY_TOO_OLD": _Refusal("p_activity_at: older than 7 days", "22023", 400),
    "CONCURRENT_MODIFICATION": _Refusal("the streak was changed at the same time", "PT409", 409),
}


@dataclass(slots=True)
class Exchange:
    """What the HTTP answer to one request said besides its body; the API client keeps it to itself.

    Attributes:
        status: The HTTP status; None if no answer came.
        headers: The answer's headers, with lower-case names.
    """

    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


def translate(error: Exception, exchange: Exchange) -> StreakError:
    """Turn what an attempt raised into an error of this package.

    Args:
        error: The exception; the caller keeps it as the cause.
        exchange: What is known of the answer.

    Returns:
        The error to raise.
    """
    if isinstance(error, StreakError):
        return error
    return _from_answer(error, exchange) if isinstance(error, APIError) else _from_transport(error, exchange)


def _from_transport(error: Exception, exchange: Exchange) -> StreakError:
    if isinstance(error, httpx.TimeoutException):
        return RequestTimeoutError(f"No answer in time ({type(error).__name__}).")
    if isinstance(error, httpx.UnsupportedProtocol | httpx.InvalidURL | httpx.LocalProtocolError):
        return ConfigurationError("The request could not be sent: the URL or the key is malformed.")
    if isinstance(error, httpx.TransportError):
        return ConnectionFailedError(f"The service cannot be reached, or hung up ({type(error).__name__}).")
    if isinstance(error, httpx.HTTPError | ValueError):
        return InvalidResponseError(f"The answer cannot be read ({type(error).__name__}).", status=exchange.status)
    return DatabaseError(f"The call failed in an unexpected way ({type(error).__name__}).", status=exchange.status)


def from_word(word: str, message: str | None = None) -> StreakError:
    """Turn the database's word for an error into an error, as a batch carries them per element.

    Args:
        word: Such as ``USER_NOT_FOUND``.
        message: What to say; None says what a call for that element alone would.

    Returns:
        The error for that element, equal to the one that it would meet alone.
    """
    known = _REFUSALS.get(word)
    text = message or (known.message if known else word.replace("_", " ").capitalize())
    sqlstate, status = (known.sqlstate, known.status) if known else (None, None)
    if error := _of_word(word, text, sqlstate, status):
        return error
    return DatabaseError(text, detail=word)


def _of_word(word: str | None, text: str, sqlstate: str | None, status: int | None) -> StreakError | None:
    if word is None:
        return None
    if word == ErrorCode.CONCURRENT_MODIFICATION:
        return ConcurrentModificationError(text, detail=word, status=status, sqlstate=sqlstate)
    if word == ErrorCode.USER_NOT_FOUND:
        return UserNotFoundError(text, field="user_id", detail=word, status=status, sqlstate=sqlstate)
    if field_name := _field_of(word):
        return InvalidInputError(text, field=field_name, detail=word, status=status, sqlstate=sqlstate)
    return None


def _from_answer(error: APIError, exchange: Exchange) -> StreakError:
    status = exchange.status or 0
    sqlstate = error.code if error.code and _CODE.fullmatch(error.code) else None
    code, word = sqlstate or "", _word_of(error)
    text = error.message or f"The service answered with status {status}."
    if word in _REFUSALS and (refusal := _of_word(word, text, sqlstate, status)):
        return refusal
    for kind, applies in (
        (ConcurrentModificationError, code in _CONFLICT),
        (PermissionDeniedError, code in _DENIED or status in {401, 403}),
        (ConfigurationError, code in _NOT_INSTALLED or status in {404, 405} or 300 <= status < 400),  # noqa: PLR2004
        (RequestTimeoutError, code in _CANCELLED or status in {408, 504}),
    ):
        if applies:
            return kind(_explain(kind, text), detail=word, status=status, sqlstate=sqlstate)
    if status == httpx.codes.TOO_MANY_REQUESTS:
        return RateLimitedError(text, retry_after=_retry_after(exchange), status=status)
    if code.startswith(_INVALID_DATA):
        return InvalidInputError(text, field=_field_of(word or ""), detail=word, status=status, sqlstate=sqlstate)
    retryable = httpx.codes.is_server_error(status)
    return DatabaseError(text, retryable=retryable, detail=word, status=status, sqlstate=sqlstate)


def _explain(kind: type[StreakError], text: str) -> str:
    if kind is ConfigurationError:
        return f"{text} (Is SUPABASE_URL the project's URL, and are the migrations applied?)"
    if kind is PermissionDeniedError:
        return f"{text} (Is SUPABASE_SECRET_KEY a secret key of this project?)"
    return text


def _word_of(error: APIError) -> str | None:
    found = _WORD.match(error.details) if isinstance(error.details, str) else None
    return found.group() if found else None


def _field_of(word: str) -> str | None:
    return next((name for prefix, name in _FIELDS.items() if word == prefix or word.startswith(prefix + "_")), None)


def _retry_after(exchange: Exchange) -> float | None:
    value = exchange.headers.get("retry-after", "")
    return float(value) if value.isdecimal() else None
