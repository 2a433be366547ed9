"""The rate guard for coroutines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from limits.aio.storage import MovingWindowSupport, Storage
from limits.aio.strategies import MovingWindowRateLimiter
from limits.storage import storage_from_string

from streak_client._guard import STORE, RateLimit, in_memory, note_failure, parse, refused
from streak_client._redis import Pause, open_async, opening

if TYPE_CHECKING:
    from redis.asyncio import Redis


class AsyncGuard:
    """Counts updates of each user in a sliding window.

    Args:
        options: How many, and where they are counted.

    Raises:
        ConfigurationError: The limit or the store is malformed, or the store's library is missing.
    """

    def __init__(self, options: RateLimit) -> None:
        self._item = parse(options)
        self._redis = None if in_memory(options) else open_async(options.store, STORE)
        self._limiter = MovingWindowRateLimiter(_storage(options.store, self._redis))
        self._pause = Pause()

    async def aclose(self) -> None:
        """Close the connections to the store."""
        if self._redis is not None:
            await self._redis.aclose()

    async def check(self, user_id: UUID) -> None:
        """Count an update.

        Args:
            user_id: Whose.

        Raises:
            RateLimitedError: There were too many; `retry_after` says when the next may come.
        """
        if self._pause.lasts():
            return
        try:
            if await self._limiter.hit(self._item, str(user_id)):
                return
            stats = await self._limiter.get_window_stats(self._item, str(user_id))
        except Exception as error:  # noqa: BLE001 - whatever a store raises, it must not cost the user the day
            if self._pause.begin():
                note_failure(error)
            return
        raise refused(self._item, stats.reset_time)


def _storage(location: str, redis: Redis | None) -> Storage:
    # redis-py is the official client, which the sync guard uses too.
    pooled: Any = {} if redis is None else {"implementation": "redispy", "connection_pool": redis.connection_pool}
    with opening(STORE):
        storage = storage_from_string(f"async+{location}", **pooled)
    # What `parse` lets pass is these; the types do not say so.
    assert isinstance(storage, Storage)  # noqa: S101
    assert isinstance(storage, MovingWindowSupport)  # noqa: S101
    return storage
