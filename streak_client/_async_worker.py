"""The task that drains an outbox in the background, for as long as anything waits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from streak_client._drain import Pause, logger, next_pause, pause_without_outbox
from streak_client.errors import StreakError


class AsyncWorker:
    """Sends portion after portion in a task of its own, until nothing waits.

    Args:
        due_in: Says when there is something to send; see `Outbox.due_in`.
        portion: Sends some; tells whether to go on, None if another drains.
    """

    def __init__(
        self, due_in: Callable[[], Awaitable[float | None]], portion: Callable[[], Awaitable[bool | None]]
    ) -> None:
        self._due_in = due_in
        self._portion = portion
        self._task: asyncio.Task[None] | None = None
        self._called = False

    def start(self) -> None:
        """Work, unless that goes on already; it ends when there is nothing to do.

        It is the task that looks, for a look would hold up the event loop, and a task costs next to nothing.
        """
        self._called = True
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._work())

    async def pause(self, seconds: float) -> None:
        """Wait.

        Args:
            seconds: How long.
        """
        await asyncio.sleep(seconds)

    async def aclose(self) -> None:
        """Stop at once; what was being sent will be sent again, and counts once."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _work(self) -> None:
        failures = 0
        try:
            # Whoever calls while the task looks and finds nothing may have written something since.
            while self._called:
                self._called = False
                while (pause := await self._turn(failures)) is not None:
                    failures = pause.failures
                    await self.pause(pause.seconds)
        except Exception:  # noqa: BLE001 - no fault may end the program that only wanted to count
            logger.exception("the outbox cannot be drained; its activities wait for the next start")

    async def _turn(self, failures: int) -> Pause | None:
        try:
            due_in = await self._due_in()
            went_on = await self._portion() if due_in == 0 else None
        except StreakError as error:
            return pause_without_outbox(error, failures)
        return next_pause(due_in, failures, went_on=went_on)
