"""Sends coroutines' updates, gathered or each on its own: by a task, to the end, whoever leaves meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias
from uuid import UUID

from streak_client._async_driver import AsyncDriver
from streak_client._batch import Prepared
from streak_client._calls import fail_all, send_prepared, update_user_streak
from streak_client._gate import Entry, Gate, Gathering
from streak_client.errors import StreakError
from streak_client.models import StreakUpdate

# What has been read of users may be old as soon as their updates have left, and until they have come to an end.
Forget: TypeAlias = Callable[[Iterable[UUID]], Coroutine[Any, Any, None]]


@dataclass(eq=False, slots=True)
class _Waiter(Entry):
    future: asyncio.Future[StreakUpdate]


class AsyncGatherer:
    """Sends the updates of one event loop together.

    Args:
        driver: Makes the requests.
        options: How simultaneous updates share requests.
        forget: Told of the users of each request at its end, before its callers have their answers.
    """

    def __init__(self, driver: AsyncDriver, options: Gathering, forget: Forget) -> None:
        self._driver = driver
        self._forget = forget
        self._gate: Gate[_Waiter] = Gate(options)
        self._room = asyncio.Semaphore(options.max_waiting)
        self._timer: asyncio.Handle | None = None
        self._sending: set[asyncio.Task[None]] = set()

    async def submit(self, prepared: Prepared) -> StreakUpdate:
        """Count one activity, together with whatever else is being counted.

        Args:
            prepared: The activity.

        Returns:
            The answer to this activity.

        Raises:
            StreakError: This activity's own error.
        """
        loop = asyncio.get_running_loop()
        async with self._room:
            waiter = _Waiter(prepared, loop.create_future(), since=loop.time())
            self._gate.add(waiter)
            if self._timer is None or self._gate.full():
                self._arm()  # another call makes nothing due earlier, unless it fills a request
            try:
                return await waiter.future
            finally:
                self._gate.drop(waiter)

    async def aclose(self) -> None:
        """Wait until everybody who called has an answer."""
        while self._sending or self._timer is not None:
            # A timer without requests is due in this turn of the loop or the next.
            await (asyncio.wait(self._sending) if self._sending else asyncio.sleep(0))

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        loop = asyncio.get_running_loop()
        wait = self._gate.wait(loop.time())
        if wait == 0:
            # After the coroutines that are ready now: calls made in the same turn of the loop leave together.
            self._timer = loop.call_soon(self._flush)
        elif wait is not None:
            self._timer = loop.call_later(wait, self._flush)

    def _flush(self) -> None:
        self._timer = None
        loop = asyncio.get_running_loop()
        while batch := self._gate.take(loop.time()):
            task = loop.create_task(self._send(batch))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)
        self._arm()

    async def _send(self, batch: Sequence[_Waiter]) -> None:
        elements = [waiter.prepared for waiter in batch]
        outcomes: list[StreakUpdate | StreakError] | None = None
        try:
            outcomes = await self._driver.run(send_prepared(elements))
        finally:
            outcomes = outcomes or fail_all(elements)
            self._gate.finish(batch)
            # In the next turn, even if forgetting takes long; after it, those who get their answers now may call again.
            asyncio.get_running_loop().call_soon(self._arm)
            try:
                await self._forget({element.user_id for element in elements})
            finally:
                for waiter, outcome in zip(batch, outcomes, strict=True):
                    _resolve(waiter.future, outcome)


class AsyncSingleSender:
    """Sends each update on its own.

    Args:
        driver: Makes the requests.
        forget: Told of the user of each request at its end, before the caller has the answer.
    """

    def __init__(self, driver: AsyncDriver, forget: Forget) -> None:
        self._driver = driver
        self._forget = forget
        self._sending: set[asyncio.Task[StreakUpdate]] = set()

    async def submit(self, prepared: Prepared) -> StreakUpdate:
        """Count one activity.

        Args:
            prepared: The activity.

        Returns:
            The answer to it.

        Raises:
            StreakError: It could not be counted.
        """
        # A request that is broken off may count all the same, at an instant that nobody would know.
        task = asyncio.create_task(self._send(prepared))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)
        return await asyncio.shield(task)

    async def aclose(self) -> None:
        """Wait until everybody who called has an answer."""
        while self._sending:
            await asyncio.wait(self._sending)

    async def _send(self, prepared: Prepared) -> StreakUpdate:
        try:
            return await self._driver.run(update_user_streak(prepared))
        finally:
            await self._forget([prepared.user_id])


def _resolve(future: asyncio.Future[StreakUpdate], outcome: StreakUpdate | StreakError) -> None:
    if future.done():
        return  # its caller has gone
    if isinstance(outcome, StreakError):
        future.set_exception(outcome)
    else:
        future.set_result(outcome)
