"""A cache of streaks that several processes share in a Redis: its decisions, without I/O.

Who finds nothing takes a lease on the user, reads the database, and stores the answer only while the lease is still
there. A write deletes answer and lease, so what was read before it is never stored after it, whichever process read.
Who finds a lease waits for the answer instead of asking the database, too.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias
from uuid import UUID, uuid4

from pydantic import ValidationError

from streak_client._cache import CacheInfo, Caching, fresh_until
from streak_client._redis import Pause
from streak_client.errors import StreakError
from streak_client.models import UserStreak

logger = logging.getLogger("streak_client")

# Of a reader that died. One that is slower stores nothing.
LEASE_SECONDS = 5.0
# After so long a wait for others, a reader asks the database itself.
PATIENCE_SECONDS = 15.0
FIRST_LOOK, LONGEST_LOOK = 0.005, 0.05

# Keys: answer and lease of a user. What is missing in an answer becomes an empty text, as Lua ends lists at nil.
ASK = """
local kept = redis.call('GET', KEYS[1])
if kept then return {kept, 0} end
return {'', redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[2]) and 1 or 0}
"""
KEEP = """
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return end
redis.call('DEL', KEYS[2])
if ARGV[2] ~= '' then redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) end
"""


class StoreError(Exception):
    """What a driver throws into the flow when Redis fails."""


@dataclass(frozen=True, slots=True)
class Script:
    """Run a script for a user; `body` is `ASK` or `KEEP`."""

    body: str
    keys: tuple[str, str]
    args: tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Wait:
    """Let some time pass."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Load:
    """Read the database."""

    user_id: UUID


Step: TypeAlias = Script | Wait | Load
ReadFlow: TypeAlias = Generator[Step, Any, UserStreak]


class SharedCache:
    """Decides what a read asks, and counts.

    Args:
        options: How reads are cached.
        project: The project's URL, which keeps apart what several projects store in one Redis.
        clock: Tells the present instant.
    """

    def __init__(self, options: Caching, project: str, clock: Callable[[], datetime]) -> None:
        self._options = options
        self._space = hashlib.sha256(project.encode()).hexdigest()[:12]
        self._clock = clock
        self._hits = self._misses = self._failures = 0
        self._pause = Pause()
        self._lock = threading.Lock()

    def keys(self, user_id: UUID) -> tuple[str, str]:
        """Name what is stored for a user.

        Args:
            user_id: Whose.

        Returns:
            The keys of answer and lease, which a cluster keeps on one node.
        """
        stem = f"streaks:{self._space}:{{{user_id}}}"
        return f"{stem}:streak", f"{stem}:lease"

    def all_keys(self, user_ids: Iterable[UUID]) -> list[str]:
        """Name what is stored for users.

        Args:
            user_ids: Whose.

        Returns:
            All their keys.
        """
        return [key for user_id in user_ids for key in self.keys(user_id)]

    def read(self, user_id: UUID) -> ReadFlow:
        """Read a streak: from the store, from another reader, or from the database.

        Args:
            user_id: Whose.

        Yields:
            What to do next.

        Returns:
            The streak.
        """
        token, now = uuid4().hex, self._clock()
        kept, mine = None, False
        if not self._pause.lasts():
            try:
                kept, mine = yield from self._ask(user_id, token)
            except StoreError as failure:
                self.note(failure)
        with self._lock:
            self._hits += kept is not None
            self._misses += kept is None
        if kept is not None:
            return kept
        return (yield from self._load(user_id, token, now) if mine else self._load_unshared(user_id))

    def _ask(self, user_id: UUID, token: str) -> Generator[Step, Any, tuple[UserStreak | None, bool]]:
        look, waited = FIRST_LOOK, 0.0
        question = Script(ASK, self.keys(user_id), (token, int(LEASE_SECONDS * 1000)))
        while True:
            text, mine = yield question
            if text:
                return _parse(text), False
            if mine or waited >= PATIENCE_SECONDS:
                return None, bool(mine)
            yield Wait(look)
            waited += look
            look = min(look * 2, LONGEST_LOOK)

    def _load(self, user_id: UUID, token: str, now: datetime) -> ReadFlow:
        try:
            streak: UserStreak = yield Load(user_id)
        except StreakError:
            yield from self._end(Script(KEEP, self.keys(user_id), (token, "", 0)))
            raise
        left = fresh_until(streak, now, self._options.ttl) - self._clock().timestamp()
        answer = streak.model_dump_json() if left >= 0.001 else ""  # noqa: PLR2004 - Redis counts milliseconds
        yield from self._end(Script(KEEP, self.keys(user_id), (token, answer, int(left * 1000))))
        return streak

    def _load_unshared(self, user_id: UUID) -> ReadFlow:
        streak: UserStreak = yield Load(user_id)
        return streak

    def _end(self, script: Script) -> Generator[Step, Any, None]:
        try:
            yield script
        except StoreError as failure:
            self.note(failure)

    def note(self, failure: StoreError) -> None:
        """Count that the store failed, and leave it alone for a moment.

        Args:
            failure: What happened; its text is a name only.
        """
        with self._lock:
            self._failures += 1
        if self._pause.begin():
            logger.warning("the cache's store failed (%s); the database is read instead", failure)

    def info(self) -> CacheInfo:
        """Count.

        Returns:
            Hits, misses and failures; the size is Redis's to know.
        """
        with self._lock:
            return CacheInfo(self._hits, self._misses, 0, self._failures)


def _parse(text: str) -> UserStreak | None:
    try:
        return UserStreak.model_validate_json(text)
    except ValidationError:
        return None  # stored by another release
