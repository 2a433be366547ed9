"""Real faults under load: after each, every listener's last state is the database's (-s prints how long it took)."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from uuid import UUID

import asyncpg
import pytest

from local_supabase.database_errors import DATABASE_ERRORS
from local_supabase.faults import Faults
from local_supabase.stack import StackInfo
from realtime_bridge import Bridge, BridgeState, ServedBridge, serve
from tests.support.bridge import (
    Connection,
    Follower,
    agree,
    bridge_settings,
    database_state,
    in_process,
    over_sse,
    running,
)

NewUser = Callable[[], Awaitable[UUID]]
Strike = Callable[[Faults, "Scene"], Awaitable[None]]
ACT = "select * from public.update_user_streak_atomic($1, 'UTC', null, now())"
TOUCH = "update public.user_streaks set longest_streak = longest_streak + 1 where user_id = any($1)"


@dataclass
class Scene:
    """A bridge with listeners, and a load that goes on during the fault."""

    stack: StackInfo
    served: ServedBridge
    users: list[str]
    followers: list[Follower] = field(default_factory=list)
    writes: int = 0
    loading: asyncio.Task[None] | None = None
    _more: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def bridge(self) -> Bridge:
        """The bridge."""
        return self.served.bridge

    async def load(self) -> None:
        """Change every user again and again, whatever happens to the database meanwhile."""
        while True:
            with contextlib.suppress(*DATABASE_ERRORS):
                connection = await asyncpg.connect(self.stack.database_url, timeout=5)
                try:
                    while True:
                        await connection.execute(TOUCH, [UUID(user) for user in self.users], timeout=10)
                        self.writes += 1
                        self._more.set()
                        await asyncio.sleep(0.05)
                finally:
                    connection.terminate()
            await asyncio.sleep(0.1)

    async def more(self, writes: int) -> None:
        """Wait until the load has written so many times more."""
        goal = self.writes + writes
        async with asyncio.timeout(60):
            while self.writes < goal:
                if self.loading is not None and self.loading.done():
                    self.loading.result()  # a load that ended says why, at once
                self._more.clear()
                await self._more.wait()

    async def lost(self, disconnects: int = 1) -> None:
        """Wait until the bridge has noticed that its session ended."""
        goal = self._disconnects + disconnects
        async with asyncio.timeout(60):
            while self.bridge.counters.disconnects < goal:
                await self.more(1)

    def wake(self) -> None:
        """Let those who wait look again."""
        self._more.set()

    def mark(self) -> None:
        """Count disconnections from here."""
        self._disconnects = self.bridge.counters.disconnects


@pytest.fixture
async def scene(stack: StackInfo, db: Connection, new_user: NewUser, faults: Faults) -> AsyncIterator[Scene]:
    """Five users, listeners in process and over SSE with and without debounce, and changes all the time."""
    users = [str(await new_user()) for _ in range(5)]
    for user in users:
        await db.execute(ACT, UUID(user))
    # Short time-outs stand for the long ones of production.
    settings = bridge_settings(stack, rest_timeout=1.0, ready_timeout=3.0)
    async with serve(settings) as served, contextlib.AsyncExitStack() as exits:
        await served.bridge.wait_live(20)
        made = Scene(stack, served, users)
        for name, source in (
            ("all", in_process(served.bridge, None, debounce=0)),
            ("some", in_process(served.bridge, users, debounce=0.3, max_wait=1)),
            ("sse", over_sse(served.url, stack.secret_key, users, debounce=0)),
        ):
            follower = Follower(name, None if name == "all" else users)
            made.followers.append(await exits.enter_async_context(running(follower, source)))
        made.mark()
        made.loading = asyncio.create_task(made.load())
        made.loading.add_done_callback(lambda _: made.wake())
        try:
            await made.more(3)
            yield made
        finally:
            made.loading.cancel()
            await asyncio.wait([made.loading])
            await faults.restore()


def closed_with(code: int) -> Strike:
    """The server closes the socket with a code."""

    async def strike(faults: Faults, scene: Scene) -> None:
        await faults.close(code)
        await scene.lost()

    return strike


async def aborted(faults: Faults, scene: Scene) -> None:
    """The connection breaks without a word."""
    await faults.abort()
    await scene.lost()


async def half_open(faults: Faults, scene: Scene) -> None:
    """The socket stays open and brings nothing: the bridge finds out by reading the change log."""
    await faults.half_open()
    # Not by the websocket's ping, which takes 40 s.
    await scene.bridge.wait_for(lambda health: "silent" in (health.reason or ""), 60)


async def refused(faults: Faults, scene: Scene) -> None:
    """The server refuses connections for a while."""
    await faults.refuse(4)
    await faults.close(1012)
    await scene.lost(3)


async def late_ready(faults: Faults, scene: Scene) -> None:
    """After the join nothing flows for a while, and what happens until then is lost."""
    await faults.late_ready(2)
    await faults.abort()
    await scene.lost()
    await scene.more(20)


async def never_ready(faults: Faults, scene: Scene) -> None:
    """The server joins and is never ready: the session is replaced until it is."""
    await faults.late_ready(3600)
    await faults.abort()
    await scene.lost(2)
    await faults.late_ready(0)


async def subscribed_again(faults: Faults, scene: Scene) -> None:
    """The server repeats that it is ready, which means that something may have been lost."""
    resyncs = scene.bridge.counters.resyncs
    await faults.drop_changes(20)
    await faults.subscribed_again()
    async with asyncio.timeout(60):
        while scene.bridge.counters.resyncs == resyncs:
            await scene.more(1)


async def channel_crash(faults: Faults, scene: Scene) -> None:
    """The channel crashes on the server."""
    await faults.phx_error()
    await scene.lost()


async def token_expiry(faults: Faults, scene: Scene) -> None:
    """The server says that the token has expired, and closes the channel for good."""
    await faults.token_expiry()
    await scene.lost()


async def rate_limit(faults: Faults, scene: Scene) -> None:
    """The server ends the channel for too many messages, and refuses the next joins."""
    await faults.rate_limit(joins=2)
    await faults.rate_limit()
    await scene.lost(3)


async def silent_loss(faults: Faults, scene: Scene) -> None:
    """The server loses 500 changes without a word."""
    before = (await faults.stats())["changes_dropped"]
    await faults.drop_changes(500)
    async with asyncio.timeout(60):
        while (await faults.stats())["changes_dropped"] < before + 500:
            await scene.more(5)


async def oversize(faults: Faults, scene: Scene) -> None:
    """A frame of more than 1 MiB makes the client close the socket."""
    await faults.oversize()
    await scene.lost()


async def garbage(faults: Faults, scene: Scene) -> None:
    """Frames that are none of the protocol do no harm, or cost a session at most."""
    await faults.garbage()
    await scene.more(20)


async def rest_errors(faults: Faults, scene: Scene) -> None:
    """REST answers 503 while the stream breaks and comes back."""
    await faults.rest_error(503, path="/rest/v1/")
    await faults.abort()
    await scene.lost()
    async with asyncio.timeout(60):
        while scene.bridge.health.state is not BridgeState.DEGRADED or not scene.bridge.counters.rest_errors:
            await scene.more(1)
    await faults.rest_restore()


async def rest_hangs(faults: Faults, scene: Scene) -> None:
    """REST does not answer while changes are lost."""
    errors = scene.bridge.counters.rest_errors
    await faults.rest_hang()
    await faults.drop_changes(50)
    async with asyncio.timeout(60):
        while scene.bridge.counters.rest_errors == errors:
            await scene.more(1)
    await faults.rest_restore()


async def rest_slow(faults: Faults, scene: Scene) -> None:
    """REST takes its time while the stream breaks and comes back."""
    await faults.rest_delay(0.5)
    await faults.abort()
    await scene.lost()
    await scene.more(20)
    await faults.rest_restore()


async def postgres_killed(faults: Faults, scene: Scene) -> None:
    """PostgreSQL dies and starts again."""
    await faults.postgres_kill()
    await asyncio.sleep(1)  # nothing tells when a dead database has been dead for long enough
    await faults.postgres_start()
    await scene.more(5)


STRIKES: dict[str, Strike] = {
    "closed 1000": closed_with(1000),
    "closed 1001": closed_with(1001),
    "closed 1012": closed_with(1012),
    "aborted": aborted,
    "half-open": half_open,
    "refused": refused,
    "late ready": late_ready,
    "never ready": never_ready,
    "subscribed again": subscribed_again,
    "phx_error": channel_crash,
    "token expiry": token_expiry,
    "rate limit": rate_limit,
    "500 lost": silent_loss,
    "over 1 MiB": oversize,
    "garbage": garbage,
    "REST 503": rest_errors,
    "REST hangs": rest_hangs,
    "REST slow": rest_slow,
    "PostgreSQL killed": postgres_killed,
}


@pytest.mark.parametrize("name", STRIKES)
async def test_no_fault_leaves_a_listener_behind(name: str, scene: Scene, faults: Faults) -> None:
    """Whatever fails, with changes going on meanwhile, every listener ends with the state of the database."""
    await STRIKES[name](faults, scene)
    await faults.restore()
    began = time.perf_counter()
    await scene.more(2)
    users, scene.users = scene.users, []  # the load writes nothing from now on
    await scene.more(2)
    db = await asyncpg.connect(scene.stack.database_url)
    try:
        await agree(scene.followers, db, users)
    finally:
        await db.close()
    took = time.perf_counter() - began
    await scene.bridge.wait_live(40)
    live = time.perf_counter() - began
    print(f"\n{name}: agreed after {took:.2f} s, live after {live:.2f} s, {scene.writes} writes")  # noqa: T201 - figures


async def test_every_subscribed_means_reading_what_may_be_lost(
    stack: StackInfo, db: Connection, new_user: NewUser, faults: Faults
) -> None:
    """A repeated "Subscribed to PostgreSQL" alone makes the bridge find what was lost: changes, deletes and all."""
    users = [str(await new_user()) for _ in range(3)]
    for user in users:
        await db.execute(ACT, UUID(user))
    # The background reconcile is too slow to help here.
    async with Bridge(bridge_settings(stack, reconcile_interval=3600.0)) as bridge:
        await bridge.wait_live(20)
        async with running(Follower("one", users), in_process(bridge, users, debounce=0)) as follower:
            await agree([follower], db, users)
            before = (await faults.stats())["changes_dropped"]
            await faults.drop_changes(2)
            await db.execute(TOUCH, [UUID(users[0])])
            await db.execute("delete from public.user_streaks where user_id = $1", UUID(users[1]))
            async with asyncio.timeout(60):
                while (await faults.stats())["changes_dropped"] < before + 2:
                    await db.execute("select 1")
            assert not follower.knows(await database_state(db, users))
            await faults.subscribed_again()
            await agree([follower], db, users)


async def test_the_change_log_finds_users_nobody_knew(
    stack: StackInfo, db: Connection, new_user: NewUser, faults: Faults
) -> None:
    """A first activity that Realtime lost reaches those who listen to everybody, through the change log."""
    user = str(await new_user())
    async with Bridge(bridge_settings(stack)) as bridge:
        await bridge.wait_live(20)
        async with running(Follower("all", None), in_process(bridge, None, debounce=0)) as follower:
            await faults.drop_changes(1)
            await db.execute(ACT, UUID(user))
            await agree([follower], db, [user])
            assert bridge.counters.missed == 1


async def test_a_library_that_died_in_silence_is_noticed(stack: StackInfo, db: Connection, new_user: NewUser) -> None:
    """When the library's listen task dies although the socket stays open, a fresh session follows."""
    user = str(await new_user())

    def die(_: object) -> None:
        bridge.source.tap = None
        raise RuntimeError("a callback that raises")

    async with Bridge(bridge_settings(stack, reconcile_interval=3600.0)) as bridge:
        await bridge.wait_live(20)
        async with running(Follower("one", [user]), in_process(bridge, [user], debounce=0)) as follower:
            bridge.source.tap = die
            await db.execute(ACT, UUID(user))
            await bridge.wait_for(lambda health: health.state is BridgeState.DEGRADED, 20)
            await bridge.wait_live(20)
            await db.execute(TOUCH, [UUID(user)])
            await agree([follower], db, [user])
