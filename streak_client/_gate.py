"""When calls that are made at the same time leave together: the decisions of gathering, without I/O and clock."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar
from uuid import UUID

from streak_client import _inputs
from streak_client._batch import MAX_BATCH, Prepared
from streak_client.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Gathering:
    """How simultaneous updates share requests.

    A call in an idle program leaves at once. While requests are under way, further calls wait for one another.

    Attributes:
        window: The longest that a call waits for others, in seconds, as long as requests may leave.
        max_batch: The most calls in one request, 1 to 1,000. With fewer, answers come sooner under full load, and fewer
            calls a second are counted: 100 instead of 250 halved the 95th percentile for a quarter of the rate.
        max_in_flight: The most requests under way at once; beyond it, calls wait and gather.
        max_waiting: The most calls that may be waiting or under way; further callers are held back.
    """

    window: float = 0.003
    max_batch: int = 250
    max_in_flight: int = 4
    max_waiting: int = 10_000

    def __post_init__(self) -> None:
        _inputs.whole_number(self.max_batch, "max_batch", 1, MAX_BATCH)
        _inputs.whole_number(self.max_in_flight, "max_in_flight", 1)
        _inputs.whole_number(self.max_waiting, "max_waiting", 1)
        if not 0 <= self.window <= 1:
            raise ConfigurationError("window must be between 0 and 1 seconds")


@dataclass(eq=False, slots=True)
class Entry:
    """A call that waits or is under way.

    Attributes:
        prepared: What it sends.
        since: When it came, on the driver's clock.
    """

    prepared: Prepared
    since: float = field(kw_only=True)


E = TypeVar("E", bound=Entry)


class Gate(Generic[E]):
    """Holds calls until they may leave, and decides which leave together.

    The calls of one user leave in their order: while one is under way, the next stays. Nothing here takes longer
    because many calls wait, whether for many users or for one.

    Args:
        options: How simultaneous updates share requests.
    """

    def __init__(self, options: Gathering) -> None:
        self._options = options
        self._lanes: dict[UUID, deque[E]] = {}
        # Users with waiting calls and none under way, in the order of their oldest call; a dict is an ordered set.
        self._ready: dict[UUID, None] = {}
        self._ready_calls = 0
        self._busy: set[UUID] = set()
        self._in_flight = 0

    def waiting(self) -> list[E]:
        """List the calls that wait.

        Returns:
            All of them, each user's oldest first.
        """
        return [entry for lane in self._lanes.values() for entry in lane]

    def add(self, entry: E) -> None:
        """Let a call in.

        Args:
            entry: The call.
        """
        user_id = entry.prepared.user_id
        self._lanes.setdefault(user_id, deque()).append(entry)
        if user_id not in self._busy:
            self._ready[user_id] = None
            self._ready_calls += 1

    def drop(self, entry: E) -> None:
        """Forget a call whose caller has gone; nothing happens if it is under way already.

        Args:
            entry: The call.
        """
        user_id = entry.prepared.user_id
        lane = self._lanes.get(user_id)
        if lane is None or entry not in lane:
            return
        lane.remove(entry)
        if user_id in self._ready:
            self._ready_calls -= 1
        if not lane:
            del self._lanes[user_id]
            self._ready.pop(user_id, None)

    def full(self) -> bool:
        """Say whether what waits fills a request.

        Returns:
            Whether nothing is to be gained by waiting for more.
        """
        return self._ready_calls >= self._options.max_batch

    def wait(self, now: float) -> float | None:
        """Say when `take` will have something, if nothing else happens before.

        Args:
            now: The driver's clock.

        Returns:
            Seconds; 0 for at once; None if only the end of a request can change anything.
        """
        if not self._ready or self._in_flight >= self._options.max_in_flight:
            return None
        if not self._in_flight or self.full():
            return 0.0
        oldest = self._lanes[next(iter(self._ready))][0]
        return max(0.0, oldest.since + self._options.window - now)

    def take(self, now: float) -> list[E]:
        """Let the next request leave, if it is due.

        Args:
            now: The driver's clock.

        Returns:
            The calls that leave together, or none.
        """
        wait = self.wait(now)
        if wait is None or wait > 0:
            return []
        batch = list[E]()
        while self._ready and (room := self._options.max_batch - len(batch)):
            user_id = next(iter(self._ready))
            del self._ready[user_id]
            self._busy.add(user_id)
            lane = self._lanes[user_id]
            self._ready_calls -= len(lane)
            batch += [lane.popleft() for _ in range(min(room, len(lane)))]
            if not lane:
                del self._lanes[user_id]
        self._in_flight += 1
        return batch

    def finish(self, batch: Sequence[E]) -> None:
        """Note that a request has its answer.

        Args:
            batch: What `take` gave.
        """
        self._in_flight -= 1
        for user_id in {entry.prepared.user_id for entry in batch}:
            self._busy.discard(user_id)
            if lane := self._lanes.get(user_id):
                self._ready[user_id] = None
                self._ready_calls += len(lane)
