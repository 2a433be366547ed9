"""The one boundary where a failed call becomes a :class:`StreakError`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

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
        message: What to say; None makes a sentence of the word.

    Returns:
        The error for that element.
    """
    text = message or word.replace("_", " ").capitalize()
    if word == ErrorCode.CONCURRENT_MODIFICATION:
        return ConcurrentModificationError(text, detail=word)
    if word == ErrorCode.USER_NOT_FOUND:
        return UserNotFoundError(text, field="user_id", detail=word)
    if field_name := _field_of(word):
        return InvalidInputError(text, field=field_name, detail=word)
    return DatabaseError(text, detail=word)


def _from_answer(error: APIError, exchange: Exchange) -> StreakError:
    code, status = error.code or "", exchange.status or 0
    text = error.message or f"The service answered with status {status}."
    word = _word_of(error)
    if word == ErrorCode.USER_NOT_FOUND:
        return UserNotFoundError(text, field="user_id", detail=word, status=status, sqlstate=code)
    for kind, applies in (
        (ConcurrentModificationError, word == ErrorCode.CONCURRENT_MODIFICATION or code in _CONFLICT),
        (PermissionDeniedError, code in _DENIED or status in {401, 403}),
        (ConfigurationError, code in _NOT_INSTALLED or status in {404, 405} or 300 <= status < 400),  # noqa: PLR2004
        (RequestTimeoutError, code in _CANCELLED or status in {408, 504}),
    ):
        if applies:
            return kind(_explain(kind, text), detail=word, status=status, sqlstate=code)
    if status == httpx.codes.TOO_MANY_REQUESTS:
        return RateLimitedError(text, retry_after=_retry_after(exchange), status=status)
    if code.startswith(_INVALID_DATA) or status == httpx.codes.REQUEST_ENTITY_TOO_LARGE:
        return InvalidInputError(text, field=_field_of(word or ""), detail=word, status=status, sqlstate=code)
    retryable = httpx.codes.is_server_error(status)
    return DatabaseError(text, retryable=retryable, detail=word, status=status, sqlstate=code)


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
