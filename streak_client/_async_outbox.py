"""The outbox for tasks: each of its operations in a thread, so that no disk or network holds up the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager
from datetime import datetime

from streak_client._batch import Prepared
from streak_client._drain import Outcomes
from streak_client._outbox import Outbox
from streak_client._outbox_store import OutboxEntry
from streak_client.errors import StreakError


class AsyncOutbox:
    """What `Outbox` does, awaited; its methods say what.

    Args:
        outbox: Where activities wait.
    """

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox
        self._releasing: set[asyncio.Future[None]] = set()

    async def hold(self, prepared: Prepared, now: datetime) -> int | None:
        """Write an activity down before it is sent."""
        return await asyncio.to_thread(self._outbox.hold, prepared, now)

    async def remove(self, entry_id: int | None) -> None:
        """Forget an activity that has its answer."""
        await asyncio.to_thread(self._outbox.remove, entry_id)

    async def keep(self, entry_id: int | None, prepared: Prepared, error: StreakError, now: datetime) -> bool:
        """Keep an activity that could not be sent."""
        return await asyncio.to_thread(self._outbox.keep, entry_id, prepared, error, now)

    def abandon(self, entry_id: int | None) -> None:
        """Let an activity wait whose sender was stopped, who can await nothing any more; `aclose` waits for it."""
        release = asyncio.get_running_loop().run_in_executor(None, self._outbox.abandon, entry_id)
        self._releasing.add(release)
        release.add_done_callback(self._releasing.discard)

    async def entries(self, limit: int) -> list[OutboxEntry]:
        """Look at what waits."""
        return await asyncio.to_thread(self._outbox.entries, limit)

    async def depth(self) -> int:
        """Count what waits."""
        return await asyncio.to_thread(self._outbox.depth)

    async def due_in(self) -> float | None:
        """Say when there is something to send."""
        return await asyncio.to_thread(self._outbox.due_in)

    async def settle(self, outcomes: Outcomes) -> bool:
        """Note what became of entries that were sent."""
        return await asyncio.to_thread(self._outbox.settle, outcomes)

    @asynccontextmanager
    async def draining(self) -> AsyncIterator[bool]:
        """Become the one who drains.

        Yields:
            Whether it worked.
        """
        context = self._outbox.draining()
        entering = asyncio.ensure_future(asyncio.to_thread(context.__enter__))
        try:
            yield await asyncio.shield(entering)
        finally:
            # A thread cannot be stopped half-way: what it claims for a caller who has gone must be given back all the
            # same, by a task that nobody cancels.
            leaving = asyncio.ensure_future(_leave(context, entering))
            try:
                await asyncio.shield(leaving)
            finally:
                await asyncio.wait([leaving])

    async def aclose(self) -> None:
        """Close the outbox, once all that was abandoned waits in it."""
        if self._releasing:
            await asyncio.wait(self._releasing)
        await asyncio.to_thread(self._outbox.close)


async def _leave(context: AbstractContextManager[bool], entering: asyncio.Future[bool]) -> None:
    await asyncio.wait([entering])
    await asyncio.to_thread(context.__exit__, None, None, None)
