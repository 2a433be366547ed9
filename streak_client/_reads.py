"""Cached reads for threads."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import Future
from datetime import datetime
from uuid import UUID

from streak_client._cache import CacheInfo, Caching, StreakCache
from streak_client.models import UserStreak


class Reads:
    """Answers reads from the cache; simultaneous reads of one user share a request.

    Args:
        load: Reads a user's streak.
        options: How reads are cached.
        clock: Tells the present instant.
    """

    def __init__(self, load: Callable[[UUID], UserStreak], options: Caching, clock: Callable[[], datetime]) -> None:
        self._load = load
        self._cache: StreakCache[Future[UserStreak]] = StreakCache(options)
        self._clock = clock

    def get(self, user_id: UUID) -> UserStreak:
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
        mine: Future[UserStreak] = Future()
        shared = self._cache.join(user_id, mine)
        if shared is mine:
            self._read(user_id, mine, now)
        return shared.result()

    def _read(self, user_id: UUID, mine: Future[UserStreak], now: datetime) -> None:
        streak = None
        try:
            streak = self._load(user_id)
        except BaseException as error:
            mine.set_exception(error)
            if not isinstance(error, Exception):
                raise
        else:
            mine.set_result(streak)
        finally:
            self._cache.leave(user_id, mine, streak, now)

    def drop(self, user_ids: Iterable[UUID]) -> None:
        """Forget users' streaks.

        Args:
            user_ids: Whose.
        """
        for user_id in user_ids:
            self._cache.drop(user_id)

    def close(self) -> None:
        """Close nothing."""

    def info(self) -> CacheInfo:
        """Count.

        Returns:
            Hits, misses and size.
        """
        return self._cache.info()
