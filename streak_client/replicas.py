"""Reads from a read replica that are never older than what the caller has seen.

A replica lags behind: usually by milliseconds, sometimes by minutes. The version of a streak says whether an answer is
new enough: what is older than the caller knows is read from the primary instead.

    async with AsyncStreakClient(url, key) as primary, AsyncStreakClient(replica_url, key, caching=None) as replica:
        reader = AsyncReplicaReader(primary, replica)
        result = await primary.update_user_streak(user_id, "Europe/Paris")
        reader.seen(user_id, result.version)
        streak = await reader.get_user_streak(user_id)  # never older than the update

Leaderboards and lists have no version: read them from the replica's client, and they are as old as the replica.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from uuid import UUID

from cachetools import TTLCache

from streak_client import _inputs
from streak_client.async_client import AsyncStreakClient
from streak_client.client import StreakClient
from streak_client.errors import InvalidInputError, StreakError
from streak_client.models import UserStreak

REMEMBERED_USERS = 100_000
REMEMBERED_SECONDS = 3600.0


@dataclass
class ReplicaCounts:
    """Where reads were answered.

    Attributes:
        replica: By the replica.
        behind: By the primary, as the replica was behind.
        failed: By the primary, as the replica did not answer.
    """

    replica: int = 0
    behind: int = 0
    failed: int = 0


class _Versions:
    """The policy of both readers: what has been seen of whom, and whether an answer is new enough."""

    def __init__(self) -> None:
        self._seen: TTLCache[UUID, int] = TTLCache(REMEMBERED_USERS, REMEMBERED_SECONDS)
        self._lock = threading.Lock()
        self.counts = ReplicaCounts()

    def seen(self, user_id: UUID | str, version: int) -> None:
        """Note a version of a user's streak.

        What is noted is remembered for an hour, and for the 100,000 users noted last.

        Args:
            user_id: Whose.
            version: Of an answer, an event or a request: what is older will not be answered.

        Raises:
            InvalidInputError: An argument is wrong; the error's `field` names it.
        """
        checked = _inputs.user_id(user_id)
        with self._lock:
            self._seen[checked] = max(_check_version(version), self._seen.get(checked, 0))

    def _needed(self, user_id: UUID, min_version: int) -> int:
        with self._lock:
            return max(_check_version(min_version), self._seen.get(user_id, 0))

    def _takes(self, streak: UserStreak, needed: int) -> bool:
        new_enough = streak.version >= needed
        with self._lock:
            if new_enough:
                self.counts.replica += 1
            else:
                self.counts.behind += 1
        return new_enough

    def _note_failure(self, error: StreakError) -> None:
        # What is wrong with the arguments would be wrong at the primary, too.
        if isinstance(error, InvalidInputError):
            raise error
        with self._lock:
            self.counts.failed += 1

    def _correct(self, streak: UserStreak, needed: int) -> UserStreak:
        """Take the primary's word: a row that was deleted, or made anew, begins with a low version again."""
        with self._lock:
            if self._seen.get(streak.user_id) == needed:
                self._seen[streak.user_id] = streak.version
        return streak


class AsyncReplicaReader(_Versions):
    """Reads streaks from a replica, or from the primary where the replica is behind or away; for coroutines.

    Args:
        primary: The client that writes.
        replica: A client with the replica's URL and `caching=None`: a cache of its own would add to the lag.

    Attributes:
        counts: Where reads were answered.
    """

    def __init__(self, primary: AsyncStreakClient, replica: AsyncStreakClient) -> None:
        super().__init__()
        self._primary, self._replica = primary, replica

    async def get_user_streak(self, user_id: UUID | str, *, min_version: int = 0) -> UserStreak:
        """Read a user's streak, no older than what has been seen.

        Args:
            user_id: Whose.
            min_version: The version that the caller knows of, such as one that a browser has been shown.

        Returns:
            The streak.

        Raises:
            InvalidInputError: An argument is wrong; the error's `field` names it.
            StreakError: Neither answers; see `streak_client.errors`.
        """
        checked = _inputs.user_id(user_id)
        needed = self._needed(checked, min_version)
        try:
            streak = await self._replica.get_user_streak(checked)
        except StreakError as error:
            self._note_failure(error)
        else:
            if self._takes(streak, needed):
                return streak
        return self._correct(await self._primary.get_user_streak(checked), needed)


class ReplicaReader(_Versions):
    """Reads streaks from a replica, or from the primary where the replica is behind or away; for threads.

    Args:
        primary: The client that writes.
        replica: A client with the replica's URL and `caching=None`: a cache of its own would add to the lag.

    Attributes:
        counts: Where reads were answered.
    """

    def __init__(self, primary: StreakClient, replica: StreakClient) -> None:
        super().__init__()
        self._primary, self._replica = primary, replica

    def get_user_streak(self, user_id: UUID | str, *, min_version: int = 0) -> UserStreak:
        """Read a user's streak, no older than what has been seen.

        Args:
            user_id: Whose.
            min_version: The version that the caller knows of, such as one that a browser has been shown.

        Returns:
            The streak.

        Raises:
            InvalidInputError: An argument is wrong; the error's `field` names it.
            StreakError: Neither answers; see `streak_client.errors`.
        """
        checked = _inputs.user_id(user_id)
        needed = self._needed(checked, min_version)
        try:
            streak = self._replica.get_user_streak(checked)
        except StreakError as error:
            self._note_failure(error)
        else:
            if self._takes(streak, needed):
                return streak
        return self._correct(self._primary.get_user_streak(checked), needed)


def _check_version(version: object) -> int:
    if isinstance(version, bool) or not isinstance(version, int) or version < 0:
        raise InvalidInputError("version must be a whole number from 0 up.", field="min_version")
    return version
