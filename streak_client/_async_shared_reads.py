"""Reads whose cache several processes share, for coroutines."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any
from uuid import UUID

from streak_client._cache import CacheInfo, Caching
from streak_client._redis import open_async
from streak_client._shared_cache import ASK, KEEP, Load, SharedCache, Step, StoreError, Wait
from streak_client.errors import StreakError
from streak_client.models import UserStreak

DROPPED_AT_ONCE = 1_000


class AsyncSharedReads:
    """Answers reads from a Redis; without it, from the database.

    Args:
        load: Reads a user's streak.
        options: How reads are cached.
        clock: Tells the present instant.
        project: The project's URL.

    Raises:
        ConfigurationError: redis-py is missing, or the URL is malformed.
    """

    def __init__(
        self,
        load: Callable[[UUID], Coroutine[Any, Any, UserStreak]],
        options: Caching,
        clock: Callable[[], datetime],
        project: str,
    ) -> None:
        self._load = load
        self._redis = open_async(options.store, "The cache's Redis")
        from redis.exceptions import RedisError  # noqa: PLC0415 - an extra

        self._failures = (RedisError, OSError)
        self._cache = SharedCache(options, project, clock)
        self._scripts = {body: self._redis.register_script(body) for body in (ASK, KEEP)}

    async def aclose(self) -> None:
        """Close the connections."""
        await self._redis.aclose()

    async def get(self, user_id: UUID) -> UserStreak:
        """Read a streak.

        Args:
            user_id: Whose.

        Returns:
            The streak.

        Raises:
            StreakError: It could not be read.
        """
        flow = self._cache.read(user_id)
        try:
            step = next(flow)
            while True:
                try:
                    result = await self._take(step)
                except (StreakError, StoreError) as error:
                    step = flow.throw(error)
                else:
                    step = flow.send(result)
        except StopIteration as stop:
            streak: UserStreak = stop.value
            return streak

    async def _take(self, step: Step) -> object:
        if isinstance(step, Load):
            return await self._load(step.user_id)
        if isinstance(step, Wait):
            await asyncio.sleep(step.seconds)
            return None
        with self._translated():
            return await self._scripts[step.body](keys=step.keys, args=step.args)

    async def drop(self, user_ids: Iterable[UUID]) -> None:
        """Forget users' streaks, for all processes, since a write may have changed them.

        Args:
            user_ids: Whose.
        """
        keys = self._cache.all_keys(user_ids)
        try:
            for start in range(0, len(keys), DROPPED_AT_ONCE):
                with self._translated():
                    await self._redis.unlink(*keys[start : start + DROPPED_AT_ONCE])
        except StoreError as failure:
            self._cache.note(failure)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except self._failures as failure:
            raise StoreError(type(failure).__name__) from failure

    def info(self) -> CacheInfo:
        """Count.

        Returns:
            Hits, misses and failures.
        """
        return self._cache.info()
