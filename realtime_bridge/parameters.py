"""The parameters of requests: what is wrong is refused by its name, and nothing is guessed."""

import math
import re

from starlette.requests import HTTPConnection

from realtime_bridge.iteration import parse_since, user_key

# Python reads other scripts' digits, underscores and spaces as well, which PostgreSQL does not.
_USER = re.compile(r"[0-9A-Fa-f{}-]+")
_SECONDS = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_WHOLE = re.compile(r"[0-9]{1,9}")


class BadRequest(ValueError):  # noqa: N818 - named as HTTP names it
    """A parameter is wrong.

    Attributes:
        field: Which.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


def single(connection: HTTPConnection, name: str) -> str | None:
    """A parameter that stands once, or not at all (None).

    Raises:
        BadRequest: It stands there several times.
    """
    values = connection.query_params.getlist(name)
    if len(values) > 1:
        raise BadRequest(name, f"{name} may be given once")
    return values[0] if values else None


def whole_number(connection: HTTPConnection, name: str, most: int) -> int | None:
    """A number from 1 on.

    Raises:
        BadRequest: It is none, or more than `most`.
    """
    text = single(connection, name)
    if text is None:
        return None
    if not _WHOLE.fullmatch(text) or not 1 <= int(text) <= most:
        raise BadRequest(name, f"{name} must be a whole number from 1 to {most}")
    return int(text)


def seconds(connection: HTTPConnection, name: str) -> float | None:
    """A number of seconds.

    Raises:
        BadRequest: It is none.
    """
    text = single(connection, name)
    if text is None:
        return None
    value = float(text) if _SECONDS.fullmatch(text) else math.nan
    if not math.isfinite(value):
        raise BadRequest(name, f"{name} must be a number of seconds")
    return value


def user(text: str, name: str) -> str:
    """A user's id, in the form that the database uses.

    Raises:
        BadRequest: It is no UUID.
    """
    try:
        return user_key(text if _USER.fullmatch(text) else "")
    except ValueError:
        raise BadRequest(name, f"{name} must be a UUID") from None


def message_id(text: str | None, name: str, what: str) -> tuple[str, int] | None:
    """The id of a message, ``<epoch>:<seq>``.

    Args:
        text: The id, or None.
        name: The parameter.
        what: What it must be, for people.

    Raises:
        BadRequest: It has another form.
    """
    readable = text is None or (text.isascii() and text.isprintable())
    try:
        return parse_since(text if readable else "")
    except ValueError:
        raise BadRequest(name, f"{name} must be {what}") from None
