"""Answers that may be a little old, so that a hundred dashboards cost the database no more than one."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Any

# A read that took long is kept for longer, so that the database has time for others, but never for this many seconds.
_SHARE = 20
_LONGEST = 10.0


class Cache:
    """Keeps answers for a while; who asks meanwhile waits for the same read.

    Args:
        most: How many answers.
        clock: Monotonic seconds.
    """

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._clock = clock
        self._entries: OrderedDict[Hashable, tuple[float, asyncio.Task[Any]]] = OrderedDict()

    async def get(self, key: Hashable, life: float, read: Callable[[], Awaitable[Any]]) -> Any:
        """Give the kept answer, or read a new one.

        Args:
            key: What is asked for.
            life: Seconds for which the answer is good; longer after a read that took long. 0: it is read anew by
                whoever comes after it was read.
            read: Reads it. What it raises reaches everybody who waits, and is not kept.

        Returns:
            The answer.
        """
        until, task = self._entries.get(key, (0.0, None))
        if task is None or (task.done() and self._clock() >= until):
            task = asyncio.ensure_future(self._read(key, life, read))
            task.add_done_callback(_note_failure)
            self._entries[key] = (0.0, task)
            self._entries.move_to_end(key)
            while len(self._entries) > self._most:
                self._entries.popitem(last=False)
        # Shielded: others may wait for the same read when one of them goes.
        return await asyncio.shield(task)

    async def _read(self, key: Hashable, life: float, read: Callable[[], Awaitable[Any]]) -> Any:
        began = self._clock()
        answer = await read()
        ended = self._clock()
        entry = self._entries.get(key)
        if entry is not None:
            patience = min(_SHARE * (ended - began), _LONGEST) if life else 0.0
            self._entries[key] = (ended + max(life, patience), entry[1])
        return answer


def _note_failure(task: asyncio.Task[Any]) -> None:
    # Whoever asked may be gone: a failure that nobody waits for any more is no news.
    if not task.cancelled():
        task.exception()
