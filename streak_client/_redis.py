"""How a Redis that several processes share is reached by its URL, which is never shown."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from streak_client.errors import ConfigurationError

if TYPE_CHECKING:
    from redis import Redis
    from redis.asyncio import Redis as AsyncRedis

SCHEMES = ("redis://", "rediss://")
DEFAULT_NAME = "streaks"
CONNECT_SECONDS = 1.0
ANSWER_SECONDS = 3.0
# Without its store, nobody makes every call wait for a time-out.
PAUSE_SECONDS = 1.0


def is_redis(location: object) -> bool:
    """Tell a Redis from a file.

    Args:
        location: A path or a URL.

    Returns:
        True for ``redis://`` and, with TLS, ``rediss://``.
    """
    return isinstance(location, str) and location.startswith(SCHEMES)


def name_in(url: str) -> str:
    """Read what keeps the keys of several projects in one Redis apart.

    Args:
        url: The URL.

    Returns:
        What stands after ``#``, or a default.
    """
    return unquote(urlsplit(url).fragment) or DEFAULT_NAME


@contextmanager
def opening(what: str) -> Iterator[None]:
    """Word what can go wrong when a store is opened.

    Args:
        what: Whose store, for the error.

    Yields:
        Nothing.

    Raises:
        ConfigurationError: redis-py is missing, or the URL is malformed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise ConfigurationError(f'{what} needs "supabase-streaks[redis]"') from error
    except (ValueError, TypeError, AttributeError):
        # The cause could repeat the URL, and with it a password.
        raise ConfigurationError(f"{what} has a malformed URL") from None


def open_sync(url: str, what: str) -> Redis:
    """Make a client; nothing is sent yet.

    Args:
        url: Where Redis is.
        what: What it is for, for the error.

    Returns:
        The client, which the caller closes.

    Raises:
        ConfigurationError: redis-py is missing, or the URL is malformed.
    """
    with opening(what):
        from redis import Redis  # noqa: PLC0415 - an extra
        from redis.backoff import NoBackoff  # noqa: PLC0415
        from redis.retry import Retry  # noqa: PLC0415

        client: Redis = Redis.from_url(url, retry=Retry(NoBackoff(), 1), **_OPTIONS)
        _check(client.connection_pool)
        return client


def open_async(url: str, what: str) -> AsyncRedis:
    """Make a client for coroutines; nothing is sent yet.

    Args:
        url: Where Redis is.
        what: What it is for, for the error.

    Returns:
        The client, which the caller closes.

    Raises:
        ConfigurationError: redis-py is missing, or the URL is malformed.
    """
    with opening(what):
        from redis.asyncio import Redis  # noqa: PLC0415 - an extra
        from redis.asyncio.retry import Retry  # noqa: PLC0415
        from redis.backoff import NoBackoff  # noqa: PLC0415

        client: Redis = Redis.from_url(url, retry=Retry(NoBackoff(), 1), **_OPTIONS)
        _check(client.connection_pool)
        return client


# One retry at once, for a connection that Redis closed while it was idle. Whoever asks has a way without Redis, so
# waiting for it would be worse than going that way.
_OPTIONS: dict[str, Any] = {
    "decode_responses": True,
    "socket_connect_timeout": CONNECT_SECONDS,
    "socket_timeout": ANSWER_SECONDS,
}


class Pause:
    """Leaves a Redis that failed alone for a moment. Safe to use from any thread."""

    def __init__(self) -> None:
        self._ends = 0.0

    def lasts(self) -> bool:
        """Tell whether to go on without Redis.

        Returns:
            True within a second after a failure.
        """
        return time.monotonic() < self._ends

    def begin(self) -> bool:
        """Note a failure.

        Returns:
            Whether it is worth a warning: False if others have just failed, too.
        """
        lasted, self._ends = self.lasts(), time.monotonic() + PAUSE_SECONDS
        return not lasted


def _check(pool: Any) -> None:
    # What the URL's query asks for is looked at only when a connection is made.
    pool.connection_class(**pool.connection_kwargs)
