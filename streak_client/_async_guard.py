"""The rate guard for coroutines."""

from __future__ import annotations

from uuid import UUID

from limits.aio.storage import MovingWindowSupport, Storage
from limits.aio.strategies import MovingWindowRateLimiter
from limits.storage import storage_from_string

from streak_client._guard import RateLimit, note_failure, opening_store, parse, refused, store_options


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
            storage = storage_from_string(f"async+{options.store}", **store_options(options))
        assert isinstance(storage, Storage)  # noqa: S101
        assert isinstance(storage, MovingWindowSupport)  # noqa: S101
        self._limiter = MovingWindowRateLimiter(storage)

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
