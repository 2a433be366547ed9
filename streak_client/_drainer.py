"""Drains the outbox with a thread, in the background and on request."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from datetime import datetime
from uuid import UUID

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
from streak_client._driver import Driver
from streak_client._outbox import Outbox
from streak_client.errors import InvalidInputError, StreakError
from streak_client.models import ProblemSolved, StreakUpdate

Count = Callable[[Prepared], StreakUpdate]


class Drainer:
    """Keeps what could not be sent, and sends it as soon as the service is back.

    Args:
        driver: Makes the requests.
        outbox: Where activities wait.
        clock: Tells the present instant.
        forget: Told whose streaks have changed.
    """

    def __init__(
        self,
        driver: Driver,
        outbox: Outbox,
        clock: Callable[[], datetime],
        forget: Callable[[Iterable[UUID]], None],
    ) -> None:
        self._driver = driver
        self._outbox = outbox
        self._clock = clock
        self._forget = forget
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._called = False
        self._stopped = threading.Event()

    def send(self, prepared: Prepared, count: Count) -> ProblemSolved:
        """Count an activity that is on the disk before it leaves.

        Args:
            prepared: The activity.
            count: Makes the attempts.

        Returns:
            The answer, or that the activity waits, and why.

        Raises:
            InvalidInputError: The activity is refused, and kept nowhere.
        """
        held = self._outbox.hold(prepared, self._clock())
        try:
            result = count(prepared)
        except InvalidInputError:
            self._outbox.remove(held)
            raise
        except StreakError as error:
            queued = self._outbox.keep(held, prepared, error, self._clock())
            note_unsent(error, queued=queued)
            answer = ProblemSolved(None, queued, error)
        except BaseException:
            # The caller has been stopped, but the activity has happened.
            self._outbox.release(held, None)
            raise
        else:
            self._outbox.remove(held)
            answer = ProblemSolved(result, queued=False)
        self.start()
        return answer

    def start(self) -> None:
        """Drain in the background, unless that goes on already or there is nothing to send."""
        if not self._something_waits():
            return
        with self._starting:
            self._called = True
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="streaks-outbox", daemon=True)
                self._thread.start()

    def drain(self) -> int:
        """Send what waits, until nothing waits or the service fails.

        Returns:
            How many activities still wait.

        Raises:
            StreakError: The outbox itself cannot be reached.
        """
        while left := self._outbox.depth():
            went_on = self._portion()
            if went_on is False:
                return left
            if went_on is None:
                self._stopped.wait(CONGESTION)
        return 0

    def close(self) -> None:
        """Stop draining in the background, and close the outbox; what waits stays there."""
        self._stopped.set()
        with self._starting:
            thread = self._thread
        if thread is not None:
            thread.join()
        self._outbox.close()

    def _portion(self) -> bool | None:
        with self._outbox.draining() as mine:
            if not mine:
                return None
            entries = self._outbox.entries(CHUNK)
            outcomes = self._driver.run(send_entries(entries, self._clock()))
            self._forget(entry.user_id for entry in entries)
            return self._outbox.settle(outcomes)

    def _something_waits(self) -> bool:
        try:
            return self._outbox.due_in() is not None
        except StreakError:
            return True  # what may be there is worth waiting for

    def _work(self) -> None:
        failures = 0
        try:
            while self._go_on():
                while not self._stopped.is_set() and (pause := self._turn(failures)) is not None:
                    failures = pause.failures
                    self._stopped.wait(pause.seconds)
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
            due_in = self._outbox.due_in()
            went_on = self._portion() if due_in == 0 else None
        except StreakError as error:
            return pause_without_outbox(error, failures)
        return next_pause(due_in, failures, went_on=went_on)
