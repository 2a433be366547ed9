"""Reads the leaderboard for those who listen to it: when it may have changed, now and then, and never in a rush."""

import asyncio
import contextlib
import logging
from collections.abc import Callable

from realtime_bridge.backoff import BackOff
from realtime_bridge.fanout import Moment
from realtime_bridge.health import HealthBoard
from realtime_bridge.hub import Hub
from realtime_bridge.reader import Reader, ReadError
from realtime_bridge.sync import Synchroniser

log = logging.getLogger(__name__)

#: Changes that come in this time after a read share the next one.
_PAUSE = 0.5


class LeaderboardReader:
    """One read serves all listeners, however many there are and whatever they asked for.

    Args:
        hub: Says what is wanted, and gets it.
        reader: Reads.
        sync: Reads the rows of those on the board.
        board: Is told whether the reads work.
        now: The clock.
        interval: Seconds after which the board is read although nothing is known to have changed: users opt out, and
            days begin, without a change of a streak.
        changed: Called after the health or what the hub has to do next changed.
    """

    def __init__(  # noqa: PLR0913 - the joints of one part
        self,
        hub: Hub,
        reader: Reader,
        sync: Synchroniser,
        board: HealthBoard,
        *,
        now: Callable[[], Moment],
        interval: float,
        changed: Callable[[], None],
    ) -> None:
        self._hub = hub
        self._reader = reader
        self._sync = sync
        self._board = board
        self._now = now
        self._interval = interval
        self._changed = changed
        self._work = asyncio.Event()

    def want(self) -> None:
        """Read soon."""
        self._work.set()

    async def run(self) -> None:
        """Read whenever it is wanted, for ever."""
        back_off = BackOff()
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._interval):
                    await self._work.wait()
            self._work.clear()
            try:
                await self._read()
                back_off.reset()
                await asyncio.sleep(_PAUSE)
            except ReadError as error:
                self._failed(error)
                self._work.set()
                await back_off.pause()

    async def _read(self) -> None:
        limit = self._hub.leaderboard.begin()
        if limit:
            self._hub.counters.board_reads += 1
            answer = await self._reader.leaderboard(limit)
            await self._sync.read(self._hub.leaderboard.expect(answer))
            self._hub.place(answer, limit, self._now())
        if self._board.leaderboard is not None or limit:
            self._board.leaderboard = None
            self._changed()

    def _failed(self, error: ReadError) -> None:
        self._hub.counters.rest_errors += 1
        if self._board.leaderboard != error.fault:
            log.warning("leaderboard: %s", error.fault.reason)
        self._board.leaderboard = error.fault
        self._changed()
