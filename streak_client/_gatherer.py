"""Sends threads' updates, gathered or each on its own: whoever comes first, or is woken for it, sends for all."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias
from uuid import UUID

from streak_client._batch import Prepared
from streak_client._calls import fail_all, send_prepared, update_user_streak
from streak_client._driver import Driver
from streak_client._gate import Entry, Gate, Gathering
from streak_client.errors import StreakError
from streak_client.models import StreakUpdate

# What has been read of users may be old as soon as their updates have left, and until they have come to an end.
Forget: TypeAlias = Callable[[Iterable[UUID]], None]


@dataclass(eq=False, slots=True)
class _Waiter(Entry):
    woken: threading.Event = field(default_factory=threading.Event)
    outcome: StreakUpdate | StreakError | None = None


class Gatherer:
    """Sends the updates of all threads together.

    Args:
        driver: Makes the requests.
        options: How simultaneous updates share requests.
        forget: Told of the users of each request at its end, before its callers have their answers.
    """

    def __init__(self, driver: Driver, options: Gathering, forget: Forget) -> None:
        self._driver = driver
        self._forget = forget
        self._gate: Gate[_Waiter] = Gate(options)
        self._room = threading.Semaphore(options.max_waiting)
        self._lock = threading.Lock()

    def submit(self, prepared: Prepared) -> StreakUpdate:
        """Count one activity, together with whatever else is being counted.

        Args:
            prepared: The activity.

        Returns:
            The answer to this activity.

        Raises:
            StreakError: This activity's own error.
        """
        with self._room:
            waiter = _Waiter(prepared, since=time.monotonic())
            with self._lock:
                self._gate.add(waiter)
            try:
                outcome = self._outcome(waiter)
            finally:
                with self._lock:
                    self._gate.drop(waiter)
        if isinstance(outcome, StreakError):
            raise outcome
        return outcome

    def close(self) -> None:
        """Do nothing: each request belongs to a caller, who is still there."""

    def _outcome(self, waiter: _Waiter) -> StreakUpdate | StreakError:
        while waiter.outcome is None:
            with self._lock:
                batch = self._gate.take(time.monotonic())
                patience = None if batch else self._gate.wait(time.monotonic())
            if batch:
                self._send(batch)
            else:
                waiter.woken.wait(patience)
                waiter.woken.clear()
        return waiter.outcome

    def _send(self, batch: Sequence[_Waiter]) -> None:
        elements = [waiter.prepared for waiter in batch]
        outcomes: list[StreakUpdate | StreakError] | None = None
        try:
            outcomes = self._driver.run(send_prepared(elements))
        finally:
            outcomes = outcomes or fail_all(elements)
            with self._lock:
                self._gate.finish(batch)
                # One of those who wait must send what may leave now; it may be gone by then, so all are asked.
                heirs = self._gate.waiting()
            _wake(heirs)
            try:
                self._forget({element.user_id for element in elements})
            finally:
                for waiter, outcome in zip(batch, outcomes, strict=True):
                    waiter.outcome = outcome
                _wake(batch)


class SingleSender:
    """Sends each update on its own.

    Args:
        driver: Makes the requests.
        forget: Told of the user of each request at its end, before the caller has the answer.
    """

    def __init__(self, driver: Driver, forget: Forget) -> None:
        self._driver = driver
        self._forget = forget

    def submit(self, prepared: Prepared) -> StreakUpdate:
        """Count one activity.

        Args:
            prepared: The activity.

        Returns:
            The answer to it.

        Raises:
            StreakError: It could not be counted.
        """
        try:
            return self._driver.run(update_user_streak(prepared))
        finally:
            self._forget([prepared.user_id])

    def close(self) -> None:
        """Do nothing: each request belongs to a caller, who is still there."""


def _wake(waiters: Sequence[_Waiter]) -> None:
    for waiter in waiters:
        waiter.woken.set()
