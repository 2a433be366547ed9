"""The rate guard for coroutines."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from limits.aio.storage import MovingWindowSupport, Storage
from limits.aio.strategies import MovingWindowRateLimiter
from limits.storage import storage_from_string

from streak_client._guard import RateLimit, in_memory, note_failure, opening_store, parse, refused

if TYPE_CHECKING:
    from redis.asyncio import ConnectionPool


class AsyncGuard:
    """Counts updates of each user in a sliding window.

    Args:
        options: How many, and where they are counted.

    Raises:
        ConfigurationError: The limit or the store is malformed, or the store's library is missing.
    """

    def __init__(self, options: RateLimit) -> None:
        self._item = parse(options)
        with opening_store():
            self._pool = None if in_memory(options) else _open_pool(options)
            # redis-py is the official client, which the sync guard uses too.
            pooled: Any = {} if self._pool is None else {"implementation": "redispy", "connection_pool": self._pool}
            storage = storage_from_string(f"async+{options.store}", **pooled)
        assert isinstance(storage, Storage)  # noqa: S101
        assert isinstance(storage, MovingWindowSupport)  # noqa: S101
        self._limiter = MovingWindowRateLimiter(storage)

    async def aclose(self) -> None:
        """Close the connections to the store."""
        if self._pool is not None:
            await self._pool.disconnect()

    async def check(self, user_id: UUID) -> None:
        """Count an update.

        Args:
            user_id: Whose.

        Raises:
            RateLimitedError: There were too many; `retry_after` says when the next may come.
        """
        try:
            if await self._limiter.hit(self._item, str(user_id)):
                return
            stats = await self._limiter.get_window_stats(self._item, str(user_id))
        except Exception as error:  # noqa: BLE001 - whatever a store raises, it must not cost the user the day
            note_failure(error)
            return
        raise refused(self._item, stats.reset_time)


def _open_pool(options: RateLimit) -> ConnectionPool:
    from redis.asyncio import ConnectionPool  # noqa: PLC0415 - an extra

    return ConnectionPool.from_url(options.store)
