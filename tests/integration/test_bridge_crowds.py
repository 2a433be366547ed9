"""Faults of listeners, of the bridge's own process, of clocks and of the configuration."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from uuid import UUID

import asyncpg
import httpx
import pytest

from local_supabase.stack import StackInfo
from realtime_bridge import Bridge, BridgeState, serve
from realtime_bridge.fanout import Moment
from tests.support.bridge import Connection, Follower, agree, bridge_settings, in_process, running
from tests.support.sse_crowd import all_reach, crowd, handshake, never_reading, request

NewUser = Callable[[], Awaitable[UUID]]
ACT = "select * from public.update_user_streak_atomic($1, 'UTC', null, now())"
TOUCH = "update public.user_streaks set longest_streak = longest_streak + 1 where user_id = any($1)"
VISITORS = 1000


@pytest.fixture
async def users(db: Connection, new_user: NewUser) -> list[str]:
    """Twenty users with a streak."""
    made = [await new_user() for _ in range(20)]
    for user in made:
        await db.execute(ACT, user)
    return [str(user) for user in made]


async def versions(db: Connection, users: list[str]) -> dict[str, int]:
    """The version of each user's row."""
    rows = await db.fetch("select user_id, version from public.user_streaks where user_id = any($1)", users)
    return {str(row["user_id"]): row["version"] for row in rows}


@asynccontextmanager
async def bridge_process(stack: StackInfo, port: int) -> AsyncIterator[asyncio.subprocess.Process]:
    """`python -m realtime_bridge` in a process of its own, ready when the block begins."""
    env = {
        **os.environ,
        "SUPABASE_URL": stack.supabase_url,
        "SUPABASE_SECRET_KEY": stack.secret_key,
        "SUPABASE_JWT_SECRET": stack.jwt_secret,
        "BRIDGE_PORT": str(port),
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "realtime_bridge", env=env, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        async with httpx.AsyncClient() as http, asyncio.timeout(30):
            while True:
                try:
                    if (await http.get(f"http://127.0.0.1:{port}/readyz")).status_code == 200:
                        break
                except httpx.TransportError:
                    pass
                await asyncio.sleep(0.05)
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await process.wait()


async def test_a_killed_bridge_comes_back_to_a_thousand_listeners(
    stack: StackInfo, db: Connection, users: list[str], unused_tcp_port: int
) -> None:
    """After kill -9 and a restart every resuming listener is reset and ends with the database's state."""
    url = f"http://127.0.0.1:{unused_tcp_port}"
    wanted = [users[number % len(users)] for number in range(VISITORS)]
    need_files(2 * VISITORS)
    async with crowd(url, stack.secret_key, wanted) as visitors:
        async with bridge_process(stack, unused_tcp_port) as process:
            await all_reach(visitors, await versions(db, users))
            await db.execute(TOUCH, users)
            await all_reach(visitors, await versions(db, users))
            process.kill()
            await process.wait()
        await db.execute(TOUCH, users)
        async with bridge_process(stack, unused_tcp_port) as process:
            began = time.perf_counter()
            await all_reach(visitors, await versions(db, users))
            took = time.perf_counter() - began
            assert all(visitor.resets == 1 for visitor in visitors)
            process.send_signal(signal.SIGTERM)
            assert await process.wait() == 0
    print(f"\n{VISITORS} listeners resumed {took:.2f} s after the bridge was ready again")  # noqa: T201 - a figure


async def test_a_thousand_listeners_that_come_at_once(stack: StackInfo, db: Connection, users: list[str]) -> None:
    """A thousand listeners that connect in the same moment are served by a few reads, not by a thousand."""
    need_files(3 * VISITORS)
    async with serve(bridge_settings(stack)) as served:
        await served.bridge.wait_live(20)
        wanted = [users[number % len(users)] for number in range(VISITORS)]
        began = time.perf_counter()
        async with crowd(served.url, stack.secret_key, wanted) as visitors:
            await all_reach(visitors, await versions(db, users))
            took = time.perf_counter() - began
            await db.execute(TOUCH, users)
            await all_reach(visitors, await versions(db, users))
            assert served.bridge.listeners == VISITORS
            assert [visitor.connections for visitor in visitors] == [1] * VISITORS
    print(f"\n{VISITORS} listeners had their snapshot after {took:.2f} s")  # noqa: T201 - a figure for -s


async def test_listeners_that_never_read_harm_nobody(stack: StackInfo, db: Connection, users: list[str]) -> None:
    """A hundred connections that never read are closed as slow, and those who read get everything meanwhile."""
    async with serve(bridge_settings(stack, slow_after=5.0)) as served:
        bridge = served.bridge
        await bridge.wait_live(20)
        kinds = (
            request(stack.secret_key, "debounce=0"),
            request(stack.secret_key, "debounce=0", forwarded_for="203.0.113.9"),  # by a proxy: not its own address
            handshake(stack.secret_key, "debounce=0"),
        )
        idlers = [never_reading(served.url, kinds[number % 3]) for number in range(100)]
        try:
            async with running(Follower("reader", users), in_process(bridge, users, debounce=0)) as reader:
                async with asyncio.timeout(90):
                    while bridge.counters.slow < len(idlers):
                        await db.execute(TOUCH, users)
                await agree([reader], db, users)
                # Not only forgotten: their connections are gone too, although nobody reads what they were sent.
                async with httpx.AsyncClient() as http, asyncio.timeout(20):
                    while "streak_bridge_connections 0.0" not in (await http.get(f"{served.url}/metrics")).text:
                        await db.execute(TOUCH, users)
                took = await agree([reader], db, users)
                print(f"\nwho reads agreed after {took:.2f} s")  # noqa: T201 - a figure for -s
        finally:
            for idler in idlers:
                idler.close()


@asynccontextmanager
async def changing(stack: StackInfo, users: list[str]) -> AsyncIterator[None]:
    """Change users all the time while the block runs."""
    enough = asyncio.Event()

    async def load() -> None:
        connection = await asyncpg.connect(stack.database_url)
        try:
            while not enough.is_set():
                await connection.execute(TOUCH, users, timeout=30)
                await asyncio.sleep(0.05)
        finally:
            await connection.close()

    async with asyncio.TaskGroup() as group:
        # Ended between two statements: one that was cut off might be carried out later.
        group.create_task(load())
        try:
            yield
        finally:
            enough.set()


def streak_of(follower: Follower, user: str) -> int | None:
    """The current streak of a user as a follower knows it."""
    state = follower.states.get(user)
    return None if state is None else int(state["current_streak"])


async def test_the_clock_may_be_set(stack: StackInfo, db: Connection, users: list[str]) -> None:
    """The wall clock set back, forward and back again under load: lapses are told, and taken back without a change."""
    shift = 0.0

    def now() -> Moment:
        return Moment(time.monotonic(), time.time() + shift)

    quiet, busy = users[:1], users[1:]
    async with Bridge(bridge_settings(stack), now=now) as bridge:
        await bridge.wait_live(20)
        async with (
            running(Follower("one", quiet), in_process(bridge, quiet, debounce=0.2, max_wait=1)) as one,
            running(Follower("all", None), in_process(bridge, None, debounce=0.2, max_wait=1)) as everybody,
        ):
            async with changing(stack, busy):
                await one.until(lambda follower: quiet[0] in follower.states, within=60)
                shift = -7200.0
                await db.execute(TOUCH, quiet)
                await agree([one], db, quiet, within=60)
                shift = 3 * 86_400.0
                for follower in (one, everybody):
                    await follower.until(lambda each: streak_of(each, quiet[0]) == 0, within=60)
                shift = 0.0
                took = await agree([one], db, quiet, within=60)
            await agree([everybody], db, users, within=60)
            print(f"\nclock set: agreed after {took:.2f} s")  # noqa: T201 - a figure for -s


async def test_a_database_that_is_read_only_for_a_while(stack: StackInfo, db: Connection, users: list[str]) -> None:
    """While nothing can be written listeners keep what they have, and afterwards changes flow on."""
    async with serve(bridge_settings(stack)) as served:
        await served.bridge.wait_live(20)
        async with running(Follower("one", users), in_process(served.bridge, users, debounce=0)) as follower:
            await db.execute("alter system set default_transaction_read_only = on")
            await db.execute("select pg_reload_conf()")
            try:
                await served.bridge.wait_live(20)
                await agree([follower], db, users)
                async with running(Follower("late", users), in_process(served.bridge, users)) as late:
                    await agree([late], db, users)
            finally:
                await db.execute("set default_transaction_read_only = off")
                await db.execute("alter system reset default_transaction_read_only")
                await db.execute("select pg_reload_conf()")
            await db.execute(TOUCH, users)
            took = await agree([follower], db, users)
            print(f"\nread-only: agreed after {took:.2f} s")  # noqa: T201 - a figure for -s


async def degraded(bridge: Bridge) -> tuple[str, str]:
    """Wait for a configuration fault; return its reason and remedy."""
    await bridge.wait_for(lambda health: health.remedy is not None, 20)
    assert bridge.health.state is BridgeState.DEGRADED
    return str(bridge.health.reason), str(bridge.health.remedy)


async def test_a_wrong_key_is_a_configuration_fault(stack: StackInfo, caplog: pytest.LogCaptureFixture) -> None:
    """A key that the project does not know is reported with what to set, at /readyz too, and shown nowhere."""
    wrong = "sb_secret_" + "x" * 31
    async with serve(bridge_settings(stack, supabase_secret_key=wrong)) as served:
        _, remedy = await degraded(served.bridge)
        assert "SUPABASE_SECRET_KEY" in remedy
        async with httpx.AsyncClient() as http:
            ready = await http.get(f"{served.url}/readyz")
        assert ready.status_code == 503
        assert ready.json()["remedy"] == remedy
    assert wrong not in caplog.text + ready.text


async def test_a_table_missing_from_the_publication_is_a_configuration_fault(
    stack: StackInfo, db: Connection, users: list[str]
) -> None:
    """A table that is not published is reported with its remedy, read meanwhile, and followed live once it is."""
    await db.execute("alter publication supabase_realtime drop table public.user_streaks")
    try:
        async with Bridge(bridge_settings(stack)) as bridge:
            _, remedy = await degraded(bridge)
            assert remedy == "Run: alter publication supabase_realtime add table public.user_streaks"
            async with running(Follower("one", users), in_process(bridge, users, debounce=0)) as follower:
                await db.execute(TOUCH, users)
                await agree([follower], db, users)
                assert follower.messages[0]["state"] == "degraded"
                await db.execute("alter publication supabase_realtime add table public.user_streaks")
                await bridge.wait_live(60)
                await db.execute(TOUCH, users)
                await agree([follower], db, users)
    finally:
        published = "select count(*) from pg_publication_tables where pubname = 'supabase_realtime' and tablename = $1"
        if not await db.fetchval(published, "user_streaks"):
            await db.execute("alter publication supabase_realtime add table public.user_streaks")


def need_files(count: int) -> None:
    """Raise the limit on open files if the machine lets us."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < count + 200:
        if hard != resource.RLIM_INFINITY and hard < count + 200:
            pytest.skip("needs more open files than this machine allows")
        resource.setrlimit(resource.RLIMIT_NOFILE, (count + 200, hard))
