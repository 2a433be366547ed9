"""Cached reads for coroutines."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

from streak_client._cache import CacheInfo, Caching, StreakCache
from streak_client.models import UserStreak


class AsyncReads:
    """Answers reads from the cache; simultaneous reads of one user share a request.

    Args:
        load: Reads a user's streak.
        options: How reads are cached.
        clock: Tells the present instant.
    """

    def __init__(
        self,
        load: Callable[[UUID], Coroutine[Any, Any, UserStreak]],
        options: Caching,
        clock: Callable[[], datetime],
    ) -> None:
        self._load = load
        self._cache: StreakCache[asyncio.Future[UserStreak]] = StreakCache(options)
        self._clock = clock
        self._tasks: set[asyncio.Task[None]] = set()

    async def get(self, user_id: UUID) -> UserStreak:
        """Read a streak.

        Args:
            user_id: Whose.

        Returns:
            The streak.

        Raises:
            StreakError: It could not be read.
        """
        now = self._clock()
        if (kept := self._cache.lookup(user_id, now)) is not None:
            return kept
        mine: asyncio.Future[UserStreak] = asyncio.get_running_loop().create_future()
        shared = self._cache.join(user_id, mine)
        if shared is mine:
            # A task of its own: the first caller may be cancelled, and the others still wait.
            task = asyncio.create_task(self._read(user_id, mine, now))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(shared)

    async def _read(self, user_id: UUID, mine: asyncio.Future[UserStreak], now: datetime) -> None:
        streak = None
        try:
            streak = await self._load(user_id)
        except BaseException as error:
            mine.set_exception(error)
            mine.exception()  # taken note of, even if every caller has gone
            if not isinstance(error, Exception):
                raise
        else:
            mine.set_result(streak)
        finally:
            self._cache.leave(user_id, mine, streak, now)

    async def drop(self, user_ids: Iterable[UUID]) -> None:
        """Forget users' streaks.

        Args:
            user_ids: Whose.
        """
        for user_id in user_ids:
            self._cache.drop(user_id)

    async def aclose(self) -> None:
        """Close nothing."""

    def info(self) -> CacheInfo:
        """Count.

        Returns:
            Hits, misses and size.
        """
        return self._cache.info()
