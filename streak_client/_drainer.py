"""Drains the outbox for threads, in the background and on request."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from uuid import UUID

from streak_client._batch import Prepared
from streak_client._drain import CHUNK, CONGESTION, note_unsent, send_entries
from streak_client._driver import Driver
from streak_client._outbox import Outbox
from streak_client._worker import Worker
from streak_client.errors import InvalidInputError, StreakError
from streak_client.models import ProblemSolved, StreakUpdate


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
        self._worker = Worker(self._outbox.due_in, self._portion)

    def send(self, prepared: Prepared, count: Callable[[Prepared], StreakUpdate]) -> ProblemSolved:
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
            self._outbox.abandon(held)
            raise
        else:
            self._outbox.remove(held)
            answer = ProblemSolved(result, queued=False)
        self.start()
        return answer

    def start(self) -> None:
        """Drain in the background, for as long as anything waits."""
        self._worker.start()

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
                # Another may have sent some since they were counted.
                return self._outbox.depth()
            if went_on is None:
                self._worker.pause(CONGESTION)
        return left

    def close(self) -> None:
        """Stop draining in the background, and close the outbox; what waits stays there."""
        self._worker.close()
        self._outbox.close()

    def _portion(self) -> bool | None:
        with self._outbox.draining() as mine:
            if not mine:
                return None
            entries = self._outbox.entries(CHUNK)
            outcomes = self._driver.run(send_entries(entries, self._clock()))
            self._forget(entry.user_id for entry in entries)
            return self._outbox.settle(outcomes)
