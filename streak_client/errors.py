"""Every error that the client raises, and how a failed call becomes one of them.

::

    StreakError
     ├── InvalidInputError              INVALID_INPUT            the caller's argument `field` is wrong
     │    └── UserNotFoundError         USER_NOT_FOUND           no such user in auth.users
     ├── ConfigurationError             CONFIGURATION            URL, key or migrations are not right
     ├── PermissionDeniedError          PERMISSION_DENIED        the key is refused, or may not do this
     ├── ConcurrentModificationError    CONCURRENT_MODIFICATION  another call changed the row first
     ├── RateLimitedError               RATE_LIMITED             too many calls; `retry_after` says how long
     ├── DatabaseError                  DATABASE_ERROR           PostgreSQL or the API failed
     ├── ConnectionFailedError          CONNECTION_FAILED        the service cannot be reached
     ├── RequestTimeoutError            TIMEOUT                  no answer in time
     └── InvalidResponseError           INVALID_RESPONSE         the answer is not what the contract says

`code` is stable and meant for programs, the message is meant for people. `retryable` says whether the same call,
unchanged, can succeed later. No message holds a key.
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar


class ErrorCode(StrEnum):
    """The stable codes of :class:`StreakError`."""

    INVALID_INPUT = "INVALID_INPUT"
    USER_NOT_FOUND = "USER_NOT_FOUND"
    CONFIGURATION = "CONFIGURATION"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    CONCURRENT_MODIFICATION = "CONCURRENT_MODIFICATION"
    RATE_LIMITED = "RATE_LIMITED"
    DATABASE_ERROR = "DATABASE_ERROR"
    CONNECTION_FAILED = "CONNECTION_FAILED"
    TIMEOUT = "TIMEOUT"
    INVALID_RESPONSE = "INVALID_RESPONSE"


class StreakError(Exception):
    """Anything that went wrong with a call about streaks.

    Args:
        message: What happened, for people.
        code: The stable code; each subclass has its own default.
        retryable: Whether the same call can succeed later; each subclass has its own default.
        detail: The machine-readable word that the database sent, such as ``ACTIVITY_TOO_OLD``.
        status: The HTTP status of the answer, if there was one.
        sqlstate: The SQLSTATE or PostgREST code of the answer, if there was one.
    """

    default_code: ClassVar[ErrorCode] = ErrorCode.DATABASE_ERROR
    default_retryable: ClassVar[bool] = False

    def __init__(  # noqa: PLR0913 - keywords, all optional
        self,
        message: str,
        *,
        code: ErrorCode | None = None,
        retryable: bool | None = None,
        detail: str | None = None,
        status: int | None = None,
        sqlstate: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = self.default_code if code is None else code
        self.retryable = self.default_retryable if retryable is None else retryable
        self.detail = detail
        self.status = status
        self.sqlstate = sqlstate

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.message!r}, code={self.code.value!r}, retryable={self.retryable})"

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions pickle by calling cls(*args), which would drop everything that is keyword-only.
        return (_rebuild, (type(self), self.message, self.__dict__.copy()))


def _rebuild(cls: type[StreakError], message: str, state: dict[str, object]) -> StreakError:
    error = cls.__new__(cls)
    Exception.__init__(error, message)
    error.__dict__.update(state)
    return error


class InvalidInputError(StreakError):
    """An argument is missing, malformed or out of range; nothing was changed.

    Args:
        message: What is wrong, for people.
        field: The name of the argument at fault, if it is known.
        detail: The machine-readable word that the database sent.
        status: The HTTP status of the answer, if there was one.
        sqlstate: The SQLSTATE of the answer, if there was one.
    """

    default_code = ErrorCode.INVALID_INPUT

    def __init__(
        self,
        message: str,
        *,
        field: str | None = None,
        detail: str | None = None,
        status: int | None = None,
        sqlstate: str | None = None,
    ) -> None:
        super().__init__(message, detail=detail, status=status, sqlstate=sqlstate)
        self.field = field


class UserNotFoundError(InvalidInputError):
    """There is no such user in ``auth.users``."""

    default_code = ErrorCode.USER_NOT_FOUND


class ConfigurationError(StreakError):
    """The URL, the key or the database's migrations are not what the client needs."""

    default_code = ErrorCode.CONFIGURATION


class PermissionDeniedError(StreakError):
    """The service refused the key, or the key's role may not do this."""

    default_code = ErrorCode.PERMISSION_DENIED


class ConcurrentModificationError(StreakError):
    """Another call changed the same row first, and the retries were used up."""

    default_code = ErrorCode.CONCURRENT_MODIFICATION
    default_retryable = True


class RateLimitedError(StreakError):
    """Too many calls.

    Args:
        message: What happened, for people.
        retry_after: Seconds until a call may succeed, if the service said so.
        status: The HTTP status of the answer, if there was one.
    """

    default_code = ErrorCode.RATE_LIMITED
    default_retryable = True

    def __init__(self, message: str, *, retry_after: float | None = None, status: int | None = None) -> None:
        super().__init__(message, status=status)
        self.retry_after = retry_after


class DatabaseError(StreakError):
    """PostgreSQL, or the REST API in front of it, failed."""

    default_code = ErrorCode.DATABASE_ERROR


class ConnectionFailedError(StreakError):
    """The service cannot be reached, or hung up before the whole answer had come."""

    default_code = ErrorCode.CONNECTION_FAILED
    default_retryable = True


class RequestTimeoutError(StreakError):
    """No answer came in time; whether the call took effect is not known."""

    default_code = ErrorCode.TIMEOUT
    default_retryable = True


class InvalidResponseError(StreakError):
    """The answer is not what the contract says, for example a proxy's page instead of JSON."""

    default_code = ErrorCode.INVALID_RESPONSE
    default_retryable = True
