"""The thread that drains an outbox in the background, for as long as anything waits."""

from __future__ import annotations

import threading
from collections.abc import Callable

from streak_client._drain import Pause, logger, next_pause, pause_without_outbox
from streak_client.errors import StreakError


class Worker:
    """Sends portion after portion in a thread of its own, until nothing waits.

    Args:
        due_in: Says when there is something to send; see `Outbox.due_in`.
        portion: Sends some; tells whether to go on, None if another drains.
    """

    def __init__(self, due_in: Callable[[], float | None], portion: Callable[[], bool | None]) -> None:
        self._due_in = due_in
        self._portion = portion
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._called = False
        self._stopped = threading.Event()

    def start(self) -> None:
        """Work, unless that goes on already or there is nothing to do.

        It looks before it makes a thread, which would cost each call more than the look.
        """
        if not self._something_waits():
            return
        with self._starting:
            self._called = True
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="streaks-outbox", daemon=True)
                self._thread.start()

    def pause(self, seconds: float) -> None:
        """Wait, but no longer than until the worker is closed.

        Args:
            seconds: How long.
        """
        self._stopped.wait(seconds)

    def close(self) -> None:
        """Stop, after the portion that is under way."""
        self._stopped.set()
        with self._starting:
            thread = self._thread
        if thread is not None:
            thread.join()

    def _something_waits(self) -> bool:
        try:
            return self._due_in() is not None
        except StreakError:
            return True  # what may be there is worth waiting for

    def _work(self) -> None:
        failures = 0
        try:
            while self._go_on():
                while not self._stopped.is_set() and (pause := self._turn(failures)) is not None:
                    failures = pause.failures
                    self.pause(pause.seconds)
        except Exception:  # noqa: BLE001 - no fault may end the program that only wanted to count
            logger.exception("the outbox cannot be drained; its activities wait for the next start")
            self._thread = None

    def _go_on(self) -> bool:
        # Whoever calls while the thread looks and finds nothing may have written something since.
        with self._starting:
            going_on, self._called = self._called and not self._stopped.is_set(), False
            if not going_on:
                self._thread = None
            return going_on

    def _turn(self, failures: int) -> Pause | None:
        try:
            due_in = self._due_in()
            went_on = self._portion() if due_in == 0 else None
        except StreakError as error:
            return pause_without_outbox(error, failures)
        return next_pause(due_in, failures, went_on=went_on)
