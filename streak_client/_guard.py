"""The rate guard: at most so many updates a minute and user."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from limits import RateLimitItem
from limits import parse as parse_limit
from limits.errors import ConfigurationError as LimitsConfigurationError
from limits.storage import MovingWindowSupport, Storage, storage_from_string
from limits.strategies import MovingWindowRateLimiter

from streak_client._redis import Pause, open_sync, opening
from streak_client.errors import ConfigurationError, RateLimitedError

if TYPE_CHECKING:
    from redis import Redis

logger = logging.getLogger("streak_client")

STORE = "the rate limit's store"


@dataclass(frozen=True, slots=True)
class RateLimit:
    """How many updates of one user are let through.

    Attributes:
        limit: Such as ``"10/minute"``; any such span that has just passed holds at most that many.
        store: ``"memory://"``, or the URL of a Redis that several processes share (``"redis://host:6379/0"``), which
            is never shown.
    """

    limit: str = "10/minute"
    store: str = "memory://"

    def __repr__(self) -> str:
        return f"RateLimit({self.limit!r})"


class Guard:
    """Counts updates of each user in a sliding window.

    Args:
        options: How many, and where they are counted.

    Raises:
        ConfigurationError: The limit or the store is malformed, or the store's library is missing.
    """

    def __init__(self, options: RateLimit) -> None:
        self._item = parse(options)
        self._redis = None if in_memory(options) else open_sync(options.store, STORE)
        self._limiter = MovingWindowRateLimiter(_storage(options.store, self._redis))
        self._pause = Pause()

    def close(self) -> None:
        """Close the connections to the store."""
        if self._redis is not None:
            self._redis.close()

    def check(self, user_id: UUID) -> None:
        """Count an update.

        Args:
            user_id: Whose.

        Raises:
            RateLimitedError: There were too many; `retry_after` says when the next may come.
        """
        if self._pause.lasts():
            return
        try:
            if self._limiter.hit(self._item, str(user_id)):
                return
            stats = self._limiter.get_window_stats(self._item, str(user_id))
        except Exception as error:  # noqa: BLE001 - whatever a store raises, it must not cost the user the day
            if self._pause.begin():
                note_failure(error)
            return
        raise refused(self._item, stats.reset_time)


def _storage(location: str, redis: Redis | None) -> Storage:
    pooled: Any = {} if redis is None else {"connection_pool": redis.connection_pool}
    with opening(STORE):
        storage = storage_from_string(location, **pooled)
    # What `parse` lets pass is these; the types do not say so.
    assert isinstance(storage, Storage)  # noqa: S101
    assert isinstance(storage, MovingWindowSupport)  # noqa: S101
    return storage


def parse(options: RateLimit) -> RateLimitItem:
    """Read a limit.

    Args:
        options: The limit as text.

    Returns:
        The limit.

    Raises:
        ConfigurationError: It is malformed, or the store is none that is supported.
    """
    if not options.store.startswith(("memory://", "redis://", "rediss://")):
        raise ConfigurationError("the rate limit's store must be memory:// or a redis:// URL")
    try:
        return parse_limit(options.limit)
    except (ValueError, LimitsConfigurationError):
        raise ConfigurationError(f"the rate limit {options.limit!r} is none, such as '10/minute'") from None


def in_memory(options: RateLimit) -> bool:
    """Tell whether the count is this process's own.

    Args:
        options: The store's URL.

    Returns:
        False for Redis.
    """
    return options.store.startswith("memory:")


def note_failure(error: Exception) -> None:
    """Log that a store failed, without its URL, which may hold a password.

    Args:
        error: What it raised.
    """
    logger.warning("the rate guard's store failed (%s); the update is let through", type(error).__name__)


def refused(item: RateLimitItem, reset_time: float) -> RateLimitedError:
    """Word a refusal.

    Args:
        item: The limit.
        reset_time: When the window has room again, in epoch seconds.

    Returns:
        The error to raise.
    """
    return RateLimitedError(f"More than {item} of this user.", retry_after=max(0.0, reset_time - time.time()))
