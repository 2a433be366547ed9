"""The bridge in process: one subscription, any number of listeners."""

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import Any, Self
from uuid import UUID

import httpx

from realtime_bridge import redaction
from realtime_bridge.broadcast import Broadcaster
from realtime_bridge.changes import parse_change
from realtime_bridge.fanout import Moment
from realtime_bridge.health import BridgeState, Health, HealthBoard
from realtime_bridge.hub import Hub
from realtime_bridge.iteration import Callback, Listener, Wakeup, call_back, parse_since, user_key
from realtime_bridge.leaderboard import MOST_PLACES
from realtime_bridge.leaderboard_reader import LeaderboardReader
from realtime_bridge.listeners import CLOSE_RESTART, ListenerClosed
from realtime_bridge.messages import Message, MessageType
from realtime_bridge.metrics import Counters
from realtime_bridge.proxies import is_loopback
from realtime_bridge.reader import Reader, key_headers
from realtime_bridge.settings import BridgeSettings
from realtime_bridge.source import Down, Frame, Ready, Source
from realtime_bridge.state import Store
from realtime_bridge.sync import Synchroniser

log = logging.getLogger(__name__)

_LONGEST_WINDOW = 3600.0


def wall_and_monotonic() -> Moment:
    """The machine's clocks."""
    return Moment(time.monotonic(), time.time())


class Bridge:
    """Subscribes to ``user_streaks`` once and tells any number of listeners.

    Use it as an asynchronous context manager; it starts at once and goes on for ever, whatever Realtime, REST or the
    database do meanwhile. It never raises for their faults: `health` says how things stand.

    Args:
        settings: The settings.
        now: The clock, for tests.
    """

    def __init__(self, settings: BridgeSettings, *, now: Callable[[], Moment] = wall_and_monotonic) -> None:
        self.settings = settings
        self.epoch = secrets.token_hex(6)
        self.counters = Counters()
        self.health = Health(BridgeState.STARTING)
        self._now = now
        self._board = HealthBoard()
        self._hub = Hub(
            Store(settings.recent_limit),
            epoch=self.epoch,
            counters=self.counters,
            milestones=settings.milestones,
            mailbox_limit=settings.mailbox_limit,
            slow_after=settings.slow_after,
            board_wanted=self._want_board,
        )
        self._changed = asyncio.Event()
        self._stack = contextlib.AsyncExitStack()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._stopping = False

    async def __aenter__(self) -> Self:
        redaction.install()
        settings = self.settings
        key = settings.supabase_secret_key.get_secret_value()
        self.source = Source(
            settings.supabase_url, key, ready_timeout=settings.ready_timeout, recycle_after=settings.recycle_after
        )
        self.reader = await self._stack.enter_async_context(
            Reader(settings.supabase_url, key, timeout=settings.rest_timeout, counters=self.counters)
        )
        self.auth_http: httpx.AsyncClient | None = None
        if settings.supabase_publishable_key is not None:
            self.auth_http = await self._stack.enter_async_context(_auth_client(settings))
        self._sync = Synchroniser(
            self._hub,
            self.reader,
            self._board,
            settings,
            now=self._now,
            changed=self._conclude,
            renew=self.source.renew,
        )
        self._leaderboard = LeaderboardReader(
            self._hub,
            self.reader,
            self._sync,
            self._board,
            now=self._now,
            interval=settings.reconcile_interval,
            changed=self._conclude,
        )
        self._conclude()
        jobs: list[Callable[[], Awaitable[None]]] = [
            self._consume,
            self._sync.load,
            self._sync.reconcile,
            self._leaderboard.run,
        ]
        if settings.broadcast:
            jobs.append(Broadcaster(self, self.reader.http, f"{settings.supabase_url}/realtime/v1/api/broadcast").run)
        for job in jobs:
            task = asyncio.create_task(self._forever(job), name=f"bridge-{job.__name__}")
            self._stack.push_async_callback(_end, task)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.stop()
        if self._timer is not None:
            self._timer.cancel()
        await self._stack.aclose()

    def stop(self) -> None:
        """Tell every listener to reconnect elsewhere, and take no more. Idempotent."""
        self._stopping = True
        for sub in list(self._hub.subscribers):
            self._hub.close(sub, CLOSE_RESTART, "the bridge is stopping: reconnect")

    @property
    def listeners(self) -> int:
        """How many listeners there are."""
        return len(self._hub.subscribers)

    async def wait_live(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 - the caller's patience
        """Wait until the bridge is subscribed and synchronised.

        Args:
            timeout: Seconds; None: for ever.

        Raises:
            TimeoutError: It took longer; the message says what it waits for.
        """
        await self.wait_for(lambda health: health.state is BridgeState.LIVE, timeout)

    async def wait_for(self, fulfilled: Callable[[Health], bool], timeout: float | None = None) -> None:  # noqa: ASYNC109
        """Wait until the health is as wished.

        Args:
            fulfilled: The wish.
            timeout: Seconds; None: for ever.

        Raises:
            TimeoutError: It took longer; the message says how things stand.
        """
        try:
            async with asyncio.timeout(timeout):
                while not fulfilled(self.health):
                    await self._changed.wait()
        except TimeoutError:
            raise TimeoutError(f"the bridge is {self.health.state}: {self.health.describe()}") from None

    def listen(
        self,
        *,
        user_ids: Iterable[str | UUID] | None = None,
        debounce: float | None = None,
        max_wait: float | None = None,
        since: str | None = None,
        top: int | None = None,
    ) -> Listener:
        """Listen: first a snapshot of each user, then changes.

        Args:
            user_ids: Whom to follow; None: everybody (the snapshot then holds who changed lately).
            debounce: Seconds of quiet before a user's change is sent; 0: every change. None: the bridge's setting.
            max_wait: The longest that a change is held back, in seconds, not shorter than `debounce`.
            since: ``<epoch>:<seq>`` of the last message read before: what changed since then comes instead of a
                snapshot, or, where that is no longer known, a ``reset`` and a snapshot.
            top: Hear of the first so many places of the leaderboard (1 to 1,000) instead of users. Each message
                about it is a whole `BoardMessage`, at most twenty a second, so that `since` makes no difference.

        Returns:
            The messages, as an asynchronous iterator.

        Raises:
            ValueError: An argument is wrong; the message names it.
        """
        if self._stopping:
            raise ListenerClosed(CLOSE_RESTART, "the bridge is stopping: reconnect")
        windows = self.windows(debounce, max_wait)
        check_top(top, named=user_ids is not None)
        wakeup = Wakeup()
        sub = self._hub.add(
            None if user_ids is None else [user_key(user_id) for user_id in user_ids],
            debounce=windows[0],
            max_wait=windows[1],
            at=self._now(),
            wake=wakeup.set,
            since=parse_since(since),
            top=top,
        )
        if sub.users is not None and top is None:
            self._sync.want(sub.missing, news=False)
        self._arm()
        return Listener(self._hub, sub, wakeup, self._now)

    def head(self) -> str:
        """Where the bridge stands: a listener that resumes from here misses nothing that is read from now on."""
        return f"{self.epoch}:{self._hub.store.head}"

    def windows(self, debounce: float | None, max_wait: float | None) -> tuple[float, float]:
        """The windows of a listener, in seconds.

        Raises:
            ValueError: One is out of range; the message names it.
        """
        quiet = self.settings.debounce if debounce is None else debounce
        longest = max(self.settings.max_wait, quiet) if max_wait is None else max_wait
        for name, value in (("debounce", quiet), ("max_wait", longest)):
            if not 0 <= value <= _LONGEST_WINDOW:
                raise ValueError(f"{name} must be between 0 and {_LONGEST_WINDOW:g} seconds")
        if longest < quiet:
            raise ValueError("max_wait must not be shorter than debounce")
        # Windows that differ by less than anybody notices share their work.
        return round(quiet, 2), round(longest, 2)

    @contextlib.asynccontextmanager
    async def on_change(self, callback: Callback, **wishes: Any) -> AsyncIterator[None]:
        """Call a function with every message while the block runs.

        Args:
            callback: A function or coroutine function. An exception is logged and ends nothing. One that is too slow
                skips states of a user, never the last one, and may be told to take a fresh snapshot (``reset``).
            **wishes: The arguments of `listen`.
        """
        if wishes.get("user_ids") is not None:
            wishes["user_ids"] = list(wishes["user_ids"])  # read again for each listener
        async with self.listen(**wishes) as listener:
            again = partial(self.listen, **wishes)
            task = asyncio.create_task(call_back(listener, again, callback, wishes.get("since")))
            try:
                yield
            finally:
                await _end(task)

    def _want_board(self) -> None:
        self._leaderboard.want()

    # --- the machinery ---------------------------------------------------------------------------------------------

    async def _forever(self, job: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                await job()
            except Exception:
                # A fault of ours must not make the bridge go quiet: begin anew, and assume that something was lost.
                log.exception("bridge: %s failed and begins anew", job.__name__)
            self._sync.gap()
            await asyncio.sleep(1.0)

    async def _consume(self) -> None:
        async with contextlib.aclosing(self.source.events()) as events:
            async for event in events:
                match event:
                    case Frame(payload):
                        self._on_frame(payload)
                    case Ready():
                        self.counters.subscriptions += 1
                        self._board.stream = None
                        self._sync.gap()
                        self._conclude()
                    case Down(fault):
                        self.counters.disconnects += 1
                        self._board.stream = fault
                        self._board.synced = False
                        self._conclude()

    def _on_frame(self, payload: Mapping[str, Any]) -> None:
        self.counters.frames += 1
        merge = self._hub.apply(parse_change(payload), self._now())
        if merge.verify:
            self._sync.want(merge.verify, news=True)
        if merge.blind:
            self._sync.look()
        self._arm()

    def _conclude(self) -> None:
        health = self._board.conclude()
        if health != self.health:
            self.health = health
            log.info("bridge: %s%s", health.state, f" ({health.describe()})" if health.reason else "")
            notice = Message(MessageType.STATE, self.epoch, 0, state=health.state, reason=health.reason)
            self._hub.announce(None if health.state is BridgeState.LIVE else notice, self._now(), notice)
            self._changed.set()
            self._changed = asyncio.Event()
        self._arm()

    def _arm(self) -> None:
        """Make sure that the hub is called when something is due."""
        at = self._now()
        wait = self._hub.next_due(at)
        if wait is None or (self._timer is not None and self._timer_at <= at.mono + wait):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = at.mono + wait
        self._timer = asyncio.get_running_loop().call_later(wait, self._tick)

    def _tick(self) -> None:
        self._timer = None
        try:
            self._hub.tick(self._now())
        finally:
            self._arm()


def check_top(top: int | None, *, named: bool) -> None:
    """Check the number of places that a listener asks for.

    Args:
        top: The places.
        named: Whether it also names users.

    Raises:
        ValueError: It is out of range, or users are named too.
    """
    if top is None:
        return
    if not 1 <= top <= MOST_PLACES:
        raise ValueError(f"top must be between 1 and {MOST_PLACES}")
    if named:
        raise ValueError("top and user_id exclude each other")


async def _end(task: asyncio.Task[Any]) -> None:
    # Once is not enough: before Python 3.12 `asyncio.wait_for`, which libraries use, may swallow it.
    while not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=1.0)


def _auth_client(settings: BridgeSettings) -> httpx.AsyncClient:
    """A client of Supabase Auth with no more rights than a browser has."""
    url, headers = settings.supabase_url, key_headers(settings.supabase_publishable_key or "")
    trust = not is_loopback(url)
    return httpx.AsyncClient(base_url=f"{url}/auth/v1", headers=headers, timeout=settings.rest_timeout, trust_env=trust)
