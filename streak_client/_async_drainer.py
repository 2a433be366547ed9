"""Drains the outbox with a task, in the background and on request."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractContextManager, asynccontextmanager
from datetime import datetime
from uuid import UUID

from streak_client._async_driver import AsyncDriver
from streak_client._batch import Prepared
from streak_client._drain import (
    CHUNK,
    CONGESTION,
    Pause,
    logger,
    next_pause,
    note_unsent,
    pause_without_outbox,
    send_entries,
)
from streak_client._outbox import Outbox
from streak_client.errors import InvalidInputError, StreakError
from streak_client.models import ProblemSolved, StreakUpdate

Count = Callable[[Prepared], Awaitable[StreakUpdate]]


async def _leave(context: AbstractContextManager[bool], entering: asyncio.Future[bool]) -> None:
    await asyncio.wait([entering])
    await asyncio.to_thread(context.__exit__, None, None, None)


class AsyncDrainer:
    """Keeps what could not be sent, and sends it as soon as the service is back.

    Args:
        driver: Makes the requests.
        outbox: Where activities wait.
        clock: Tells the present instant.
        forget: Told whose streaks have changed.
    """

    def __init__(
        self,
        driver: AsyncDriver,
        outbox: Outbox,
        clock: Callable[[], datetime],
        forget: Callable[[Iterable[UUID]], Awaitable[None]],
    ) -> None:
        self._driver = driver
        self._outbox = outbox
        self._clock = clock
        self._forget = forget
        self._task: asyncio.Task[None] | None = None
        self._called = False
        self._releasing: set[asyncio.Future[bool]] = set()

    async def send(self, prepared: Prepared, count: Count) -> ProblemSolved:
        """Count an activity that is on the disk before it leaves.

        Args:
            prepared: The activity.
            count: Makes the attempts.

        Returns:
            The answer, or that the activity waits, and why.

        Raises:
            InvalidInputError: The activity is refused, and kept nowhere.
        """
        held = await asyncio.to_thread(self._outbox.hold, prepared, self._clock())
        try:
            result = await count(prepared)
        except InvalidInputError:
            await asyncio.to_thread(self._outbox.remove, held)
            raise
        except StreakError as error:
            queued = await asyncio.to_thread(self._outbox.keep, held, prepared, error, self._clock())
            note_unsent(error, queued=queued)
            answer = ProblemSolved(None, queued, error)
        except BaseException:
            # The caller has been stopped, but the activity has happened. Nothing may be awaited here.
            release = asyncio.get_running_loop().run_in_executor(None, self._outbox.release, held, None)
            self._releasing.add(release)
            release.add_done_callback(self._releasing.discard)
            raise
        else:
            await asyncio.to_thread(self._outbox.remove, held)
            answer = ProblemSolved(result, queued=False)
        self.start()
        return answer

    def start(self) -> None:
        """Drain in the background, unless that goes on already; it ends when there is nothing to send."""
        self._called = True
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._work())

    async def drain(self) -> int:
        """Send what waits, until nothing waits or the service fails.

        Returns:
            How many activities still wait.

        Raises:
            StreakError: The outbox itself cannot be reached.
        """
        while left := await asyncio.to_thread(self._outbox.depth):
            went_on = await self._portion()
            if went_on is False:
                return left
            if went_on is None:
                await asyncio.sleep(CONGESTION)
        return 0

    async def aclose(self) -> None:
        """Stop draining in the background, and close the outbox; what waits stays there."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        if self._releasing:
            await asyncio.wait(self._releasing)
        await asyncio.to_thread(self._outbox.close)

    async def _portion(self) -> bool | None:
        async with self._draining() as mine:
            if not mine:
                return None
            entries = await asyncio.to_thread(self._outbox.entries, CHUNK)
            outcomes = await self._driver.run(send_entries(entries, self._clock()))
            await self._forget(entry.user_id for entry in entries)
            return await asyncio.to_thread(self._outbox.settle, outcomes)

    @asynccontextmanager
    async def _draining(self) -> AsyncIterator[bool]:
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

    async def _work(self) -> None:
        failures = 0
        try:
            # Whoever calls while the task looks and finds nothing may have written something since.
            while self._called:
                self._called = False
                while (pause := await self._turn(failures)) is not None:
                    failures = pause.failures
                    await asyncio.sleep(pause.seconds)
        except Exception:  # noqa: BLE001 - no fault may end the program that only wanted to count
            logger.exception("the outbox cannot be drained; its activities wait for the next start")

    async def _turn(self, failures: int) -> Pause | None:
        try:
            due_in = await asyncio.to_thread(self._outbox.due_in)
            went_on = await self._portion() if due_in == 0 else None
        except StreakError as error:
            return pause_without_outbox(error, failures)
        return next_pause(due_in, failures, went_on=went_on)
