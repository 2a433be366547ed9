"""The faults that last, at their whole length and with the settings of production (short ones: test_bridge_faults)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from uuid import UUID

import asyncpg
import pytest

from local_supabase.faults import Faults
from local_supabase.stack import StackInfo
from realtime_bridge import serve
from tests.integration.test_bridge_faults import ACT, Scene
from tests.support.bridge import Connection, Follower, agree, bridge_settings, in_process, over_sse, running

NewUser = Callable[[], Awaitable[UUID]]
Strike = Callable[[Faults, Scene], Awaitable[None]]
MINUTE = 60.0

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]


@asynccontextmanager
async def production(stack: StackInfo, users: list[str]) -> AsyncIterator[Scene]:
    """A bridge with the time-outs and intervals of production, listeners, and changes all the time."""
    settings = bridge_settings(stack, reconcile_interval=10.0)
    async with serve(settings) as served, AsyncExitStack() as exits:
        await served.bridge.wait_live(60)
        scene = Scene(stack, served, users)
        for name, source in (
            ("all", in_process(served.bridge, None, debounce=0)),
            ("some", in_process(served.bridge, users)),
            ("sse", over_sse(served.url, stack.secret_key, users, debounce=0)),
        ):
            follower = Follower(name, None if name == "all" else users)
            scene.followers.append(await exits.enter_async_context(running(follower, source)))
        scene.mark()
        load = asyncio.create_task(scene.load())
        try:
            await scene.more(3)
            yield scene
        finally:
            load.cancel()
            await asyncio.wait([load])


async def half_open(faults: Faults, scene: Scene) -> None:
    """For a minute every socket goes half-open as soon as it is there."""
    until = time.monotonic() + MINUTE
    while time.monotonic() < until:
        await faults.half_open()
        await asyncio.sleep(2)
    await scene.lost()


async def refused(faults: Faults, scene: Scene) -> None:
    """For five minutes Realtime refuses every connection."""
    await faults.refuse(5 * MINUTE)
    await faults.close(1012)
    await asyncio.sleep(5 * MINUTE)
    await scene.lost(3)


async def late_ready(faults: Faults, scene: Scene) -> None:
    """Realtime takes most of a minute to be ready, and what happens until then is lost."""
    await faults.late_ready(MINUTE - 10)
    await faults.abort()
    await scene.lost()
    await asyncio.sleep(MINUTE)


async def rest_errors(faults: Faults, scene: Scene) -> None:
    """REST answers 503 for a minute, in which the stream breaks."""
    await faults.rest_error(503)
    await faults.abort()
    await scene.lost()
    await asyncio.sleep(MINUTE)


async def rest_hangs(faults: Faults, scene: Scene) -> None:
    """REST does not answer for a minute, in which changes are lost."""
    await faults.rest_hang()
    await faults.drop_changes(500)
    await asyncio.sleep(MINUTE)
    await scene.more(1)


async def postgres_down(faults: Faults, scene: Scene) -> None:
    """PostgreSQL is killed and stays down for a minute."""
    await faults.postgres_kill()
    await asyncio.sleep(MINUTE)
    await faults.postgres_start()
    await scene.more(3)


async def read_only(_: Faults, scene: Scene) -> None:
    """For a minute PostgreSQL takes no writes, as while its disk is full."""
    connection = await asyncpg.connect(scene.stack.database_url)
    try:
        await connection.execute("alter system set default_transaction_read_only = on")
        await connection.execute("select pg_reload_conf()")
        await asyncio.sleep(MINUTE)
        await scene.bridge.wait_live(60)
    finally:
        await connection.execute("set default_transaction_read_only = off")
        await connection.execute("alter system reset default_transaction_read_only")
        await connection.execute("select pg_reload_conf()")
        await connection.close()
    await scene.more(3)


STRIKES: dict[str, Strike] = {
    "half-open for a minute": half_open,
    "refused for five minutes": refused,
    "ready after 50 s": late_ready,
    "REST 503 for a minute": rest_errors,
    "REST hangs for a minute": rest_hangs,
    "PostgreSQL down for a minute": postgres_down,
    "PostgreSQL read-only for a minute": read_only,
}


@pytest.mark.parametrize("name", STRIKES)
async def test_no_long_fault_leaves_a_listener_behind(
    name: str, stack: StackInfo, db: Connection, new_user: NewUser, faults: Faults
) -> None:
    """However long it lasts, with changes going on meanwhile, every listener ends with the state of the database."""
    users = [str(await new_user()) for _ in range(5)]
    for user in users:
        await db.execute(ACT, UUID(user))
    async with production(stack, users) as scene:
        try:
            await STRIKES[name](faults, scene)
        finally:
            await faults.restore()
        began = time.perf_counter()
        await scene.more(2)
        scene.users = []  # the load writes nothing from now on
        await scene.more(2)
        fresh = await asyncpg.connect(stack.database_url)
        try:
            await agree(scene.followers, fresh, users, within=90)
        finally:
            await fresh.close()
        took = time.perf_counter() - began
        await scene.bridge.wait_live(90)
        live = time.perf_counter() - began
    print(f"\n{name}: agreed after {took:.2f} s, live after {live:.2f} s, {scene.writes} writes")  # noqa: T201 - figures
