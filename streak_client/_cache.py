"""What a read may be answered with without asking, and for how long."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from typing import Generic, NamedTuple, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cachetools import TLRUCache

from streak_client import _inputs
from streak_client._redis import is_redis
from streak_client.errors import ConfigurationError
from streak_client.models import UserStreak

V = TypeVar("V")
LONGEST_TTL = 3600.0


@dataclass(frozen=True, slots=True)
class Caching:
    """How reads of single streaks are cached.

    Attributes:
        ttl: Seconds for which an answer may be given again; never past the streak's expiry or the user's midnight.
        size: The most users whose streaks are kept; those read longest ago go first. A Redis has limits of its own.
        store: ``"memory://"``, or the URL of a Redis that several processes share (``"redis://host:6379/0"``), which
            is never shown. Then a write through any of them drops what all have cached.
    """

    ttl: float = 60.0
    size: int = 10_000
    store: str = field(default="memory://", repr=False)

    def __post_init__(self) -> None:
        if not (self.store == "memory://" or is_redis(self.store)):
            raise ConfigurationError("the cache's store must be memory:// or a redis:// URL")
        _inputs.whole_number(self.size, "size", 1)
        if not 0 < self.ttl <= LONGEST_TTL:
            raise ConfigurationError(f"ttl must be more than 0 and at most {LONGEST_TTL:g} seconds")


class CacheInfo(NamedTuple):
    """How the cache does.

    Attributes:
        hits: Reads answered from the cache.
        misses: Reads that had to ask, those that shared a request included.
        size: Users whose streaks this process keeps now.
        failures: How often a shared store could not be used; the database was read instead.
    """

    hits: int
    misses: int
    size: int
    failures: int = 0


def fresh_until(streak: UserStreak, now: datetime, ttl: float) -> float:
    """Say until when a streak's answer holds, unless the user acts.

    Args:
        streak: The answer.
        now: When it was given.
        ttl: The longest time in seconds.

    Returns:
        Epoch seconds: the end of `ttl`, the streak's expiry or the user's midnight, whichever comes first.
    """
    bounds = [now.timestamp() + ttl, _next_midnight(streak.timezone, now)]
    if streak.expires_at is not None and streak.expires_at > now:
        bounds.append(streak.expires_at.timestamp())
    return min(bounds)


def _next_midnight(zone_name: str, now: datetime) -> float:
    try:
        zone = ZoneInfo(zone_name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return now.timestamp()  # a zone that only the database knows: its midnight may be now
    tomorrow = now.astimezone(zone).date() + timedelta(days=1)
    # Of a midnight that comes twice this is the first; one that clocks jump over is the instant of the jump.
    return datetime.combine(tomorrow, time(), zone).astimezone(UTC).timestamp()


class _Kept(NamedTuple):
    streak: UserStreak
    until: float


class StreakCache(Generic[V]):
    """Streaks by user, and the reads under way that others may share.

    Safe to use from any thread.

    Args:
        options: How reads are cached.
    """

    def __init__(self, options: Caching) -> None:
        self._options = options
        self._now = 0.0
        self._kept: TLRUCache[UUID, _Kept] = TLRUCache(
            options.size, ttu=lambda _, kept, __: kept.until, timer=lambda: self._now
        )
        self._loading: dict[UUID, V] = {}
        self._hits = self._misses = 0
        self._lock = threading.Lock()

    def lookup(self, user_id: UUID, now: datetime) -> UserStreak | None:
        """Find a streak that still holds.

        Args:
            user_id: Whose.
            now: The present instant.

        Returns:
            The streak; None if it must be read.
        """
        with self._lock:
            self._now = now.timestamp()
            kept = self._kept.get(user_id)
            if kept is None:
                self._misses += 1
                return None
            self._hits += 1
            return kept.streak

    def join(self, user_id: UUID, mine: V) -> V:
        """Take part in a read that is under way, or begin one.

        Args:
            user_id: Whose streak is read.
            mine: What stands for the read if it begins now.

        Returns:
            What stands for the read that is under way: `mine` if the caller must make it.
        """
        with self._lock:
            return self._loading.setdefault(user_id, mine)

    def leave(self, user_id: UUID, mine: V, streak: UserStreak | None, now: datetime) -> None:
        """End a read.

        Args:
            user_id: Whose streak was read.
            mine: What stood for the read.
            streak: The answer; None if it failed. It is not kept if the user acted meanwhile.
            now: When it began.
        """
        with self._lock:
            if self._loading.get(user_id) is not mine:
                return
            del self._loading[user_id]
            if streak is not None:
                self._now = now.timestamp()
                self._kept[user_id] = _Kept(streak, fresh_until(streak, now, self._options.ttl))

    def drop(self, user_id: UUID) -> None:
        """Forget a user's streak, since a write may have changed it; what is being read may be old already.

        Args:
            user_id: Whose.
        """
        with self._lock:
            self._kept.pop(user_id, None)
            self._loading.pop(user_id, None)

    def info(self) -> CacheInfo:
        """Count.

        Returns:
            Hits, misses and size.
        """
        with self._lock:
            return CacheInfo(self._hits, self._misses, len(self._kept))
