"""Keeps the store true where the stream cannot: loads, re-reads, catches up after gaps, and reconciles slowly for ever.

Nothing is buffered while a read is under way: the store merges by version, so that reads and the stream may overtake
each other (see `state`).
"""

import asyncio
import contextlib
import logging
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

from realtime_bridge.backoff import BackOff
from realtime_bridge.fanout import Moment
from realtime_bridge.health import HealthBoard
from realtime_bridge.hub import EVERYBODY, Hub
from realtime_bridge.reader import PAGE_USERS, HistoryRow, Reader, ReadError
from realtime_bridge.settings import BridgeSettings

log = logging.getLogger(__name__)

_READERS = 3
_SEED = 1000
#: Users whom nobody follows by name but who are read again after a gap: a DELETE leaves no trace in the change log.
_RECENT_AFTER_GAP = 2000
_SLICE = 2 * PAGE_USERS
_DEGRADED_INTERVAL = 2.0


class Cursor:
    """Where to read on in the change log. Pure.

    Ids are given before commit, so a lower id may appear after a higher one. What the last pass could not see yet had
    its id for `overlap` seconds then at most: the next one begins where a pass ended that much before the last began.

    Args:
        overlap: The longest that a transaction takes, in seconds.
    """

    def __init__(self, overlap: float) -> None:
        self._overlap = overlap
        self._marks: deque[tuple[float, float, int]] = deque()

    def __bool__(self) -> bool:
        return bool(self._marks)

    def note(self, began: float, ended: float, last_id: int) -> None:
        """A pass between two monotonic times saw everything visible up to an id."""
        self._marks.append((began, ended, last_id))

    def start(self) -> int:
        """The id after which the next pass must read."""
        sure = self._marks[-1][0] - self._overlap
        while len(self._marks) > 1 and self._marks[1][1] <= sure:
            self._marks.popleft()
        return self._marks[0][2]


class Synchroniser:
    """Reads over REST whatever the hub needs.

    Args:
        hub: Gets what was read.
        reader: Reads.
        board: Is told whether reads work, and when a gap is closed.
        settings: Intervals.
        now: The clock.
        changed: Called after anything changed: health, or what the hub has to do next.
        renew: Called when the stream seems dead although its socket is not.
    """

    def __init__(  # noqa: PLR0913 - the joints of one part
        self,
        hub: Hub,
        reader: Reader,
        board: HealthBoard,
        settings: BridgeSettings,
        *,
        now: Callable[[], Moment],
        changed: Callable[[], None],
        renew: Callable[[], None],
    ) -> None:
        self._hub = hub
        self._reader = reader
        self._board = board
        self._settings = settings
        self._now = now
        self._changed = changed
        self._renew = renew
        self._wanted: OrderedDict[str, bool] = OrderedDict()
        self._work = asyncio.Event()
        self._look = asyncio.Event()
        self._gaps = 0
        self._cursor = Cursor(settings.history_overlap)
        # What the change log named and a read has answered: not to be read again in the overlap.
        self._checked: OrderedDict[str, int] = OrderedDict()
        self._rota: Iterator[str] = iter(())
        self._frames_before = 0
        self._silent_passes = 0

    # --- what others ask for ---------------------------------------------------------------------------------------

    def want(self, user_ids: Iterable[str], *, news: bool) -> None:
        """Read users soon; `news` if something is known to have changed."""
        for user_id in user_ids:
            self._wanted[user_id] = news or self._wanted.get(user_id, False)
        if self._wanted:
            self._work.set()

    def look(self) -> None:
        """Read the change log now."""
        self._look.set()

    def gap(self) -> None:
        """Anything may have changed: read what may have, now."""
        self._gaps += 1
        self._board.synced = False
        self._look.set()

    # --- loading ---------------------------------------------------------------------------------------------------

    async def load(self) -> None:
        """Read wanted users, for ever."""
        async with asyncio.TaskGroup() as group:
            for _ in range(_READERS):
                group.create_task(self._load())

    async def _load(self) -> None:
        back_off = BackOff()
        while True:
            await self._work.wait()
            batch = dict(islice(self._wanted.items(), PAGE_USERS))
            if not batch:
                self._work.clear()
                continue
            for user_id in batch:
                del self._wanted[user_id]
            try:
                for news in (False, True):
                    await self._read([user for user, is_news in batch.items() if is_news is news], news=news)
                back_off.reset()
            except ReadError as error:
                self._failed(error)
                for user_id, news in batch.items():
                    self.want([user_id], news=news)
                await back_off.pause()

    async def read(self, user_ids: Sequence[str]) -> None:
        """Read users now; those not known before count as loaded, not as changed.

        Raises:
            ReadError: A read failed.
        """
        for chunk in _chunks(user_ids):
            await self._read(chunk, news=False)

    async def _read(self, user_ids: Sequence[str], *, news: bool) -> int:
        """Read at most a page of users and merge; returns how many had changed."""
        if not user_ids:
            return 0
        read_at = self._hub.store.head
        found = await self._reader.find(user_ids)
        sure = [user_id for user_id in user_ids if user_id not in found.unreadable]
        merge = self._hub.apply_read(sure, found.rows, read_at, self._now(), news=news, zones=found.zones)
        self._hub.settle(found.unreadable, self._now())  # nobody can wait for them
        self.want(merge.verify, news=True)
        self._board.rest = None
        self._changed()
        return len(merge.effects)

    def _failed(self, error: ReadError) -> None:
        self._hub.counters.rest_errors += 1
        if self._board.rest != error.fault:
            log.warning("REST: %s", error.fault.reason)
        self._board.rest = error.fault
        self._changed()

    # --- reconciling -----------------------------------------------------------------------------------------------

    async def reconcile(self) -> None:
        """Catch up after gaps at once, and look for skipped changes now and then, for ever."""
        back_off = BackOff()
        while True:
            self._look.clear()
            try:
                await self._pass()
                back_off.reset()
            except ReadError as error:
                self._failed(error)
                await back_off.pause()
                continue
            interval = self._settings.reconcile_interval
            if self._board.stream is not None:
                interval = min(interval, _DEGRADED_INTERVAL)  # the change log is all we have
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(interval):
                    await self._look.wait()

    async def _pass(self) -> None:
        gaps = self._gaps
        if not self._cursor:
            await self._seed()
        found = await self._read_log()
        if self._board.synced:
            self._judge_stream(found)
            await self._verify(list(self._next_slice()))
        elif self._board.stream is None:
            await self._verify([*self._hub.store.followed(), *self._hub.store.latest(_RECENT_AFTER_GAP)])
            if self._gaps == gaps:
                self._board.synced = True
                self._hub.leaderboard.doubt()
                self._hub.counters.resyncs += 1
                self._changed()
        self._board.rest = None
        self._changed()

    async def _seed(self) -> None:
        began = self._now().mono
        limit = min(_SEED, self._settings.recent_limit)
        tail = await self._reader.history_tail(limit)
        users = list(dict.fromkeys(line.user_id for line in reversed(tail)))
        for chunk in _chunks(users):
            await self._read(chunk, news=False)
        # What was in flight may have lower ids than what was seen: read the tail again as long as that can be. A short
        # tail is all there is, so that what comes before it is new.
        first = tail[-1].id if tail else 0
        before = first - 1 if len(tail) == limit else max(first - 1 - _SEED, 0)
        self._cursor.note(began, self._now().mono, before)
        self._remember(reversed(tail))
        self._hub.settle([EVERYBODY], self._now())

    async def _read_log(self) -> int:
        began = self._now().mono
        last = self._cursor.start()
        # What is written from now on is for the next pass: under a steady load this one would never end.
        tail = await self._reader.history_tail(1)
        goal = tail[0].id if tail else last
        found = 0
        while last < goal and (page := await self._reader.history_after(last)):
            users = list(dict.fromkeys(line.user_id for line in page if self._is_news(line)))
            for chunk in _chunks(users):
                changed = await self._read(chunk, news=True)
                self._hub.counters.missed += changed
                found += changed
            self._remember(page)
            last = max(last, page[-1].id)
        self._cursor.note(began, self._now().mono, last)
        return found

    def _is_news(self, line: HistoryRow) -> bool:
        entry = self._hub.store.get(line.user_id)
        if entry is not None and entry.row is not None and entry.row.version >= line.version:
            return False
        return self._checked.get(line.user_id, -1) < line.version

    def _remember(self, page: Iterable[HistoryRow]) -> None:
        for line in page:
            self._checked[line.user_id] = max(line.version, self._checked.pop(line.user_id, 0))
        while len(self._checked) > self._settings.recent_limit:
            self._checked.popitem(last=False)

    def _judge_stream(self, found: int) -> None:
        """A stream that says it is ready, and twice running brought nothing while the log grew, is dead."""
        frames = self._hub.counters.frames
        silent = found > 0 and frames == self._frames_before
        self._frames_before = frames
        self._silent_passes = self._silent_passes + 1 if silent else 0
        if self._silent_passes >= 2:  # noqa: PLR2004 - one pass may just be faster than the stream
            self._silent_passes = 0
            self._renew()

    async def _verify(self, users: Sequence[str]) -> None:
        for chunk in _chunks(list(dict.fromkeys(users))):
            self._hub.counters.missed += await self._read(chunk, news=True)

    def _next_slice(self) -> Iterator[str]:
        taken = list(islice(self._rota, _SLICE))
        if not taken:
            self._rota = iter(list(self._hub.store))
            taken = list(islice(self._rota, _SLICE))
        return (user_id for user_id in taken if self._hub.store.get(user_id) is not None)


def _chunks(users: Sequence[str]) -> Iterator[Sequence[str]]:
    return (users[start : start + PAGE_USERS] for start in range(0, len(users), PAGE_USERS))
