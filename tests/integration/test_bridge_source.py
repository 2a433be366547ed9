"""What keeps a bridge and its listeners going over hours: renewed sockets, rows too large, keep-alives, callbacks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from uuid import UUID

import httpx
import pytest

from local_supabase.stack import StackInfo
from realtime_bridge import Bridge, Message, serve
from tests.support.bridge import Connection, Follower, agree, bridge_settings, database_state, in_process, running

NewUser = Callable[[], Awaitable[UUID]]
ACT = "select * from public.update_user_streak_atomic($1, 'UTC', null, now())"
TOUCH = "update public.user_streaks set longest_streak = longest_streak + 1 where user_id = $1"


async def test_the_socket_is_renewed_before_its_time(stack: StackInfo, db: Connection, new_user: NewUser) -> None:
    """A socket that reaches its age is replaced by a fresh one, and what happens meanwhile reaches listeners."""
    user = await new_user()
    await db.execute(ACT, user)
    # Changes never cease, so that the stream is never idle.
    async with Bridge(bridge_settings(stack, recycle_after=2.0)) as bridge:
        follower = Follower("one", [str(user)])
        async with running(follower, in_process(bridge, [str(user)], debounce=0)):
            async with asyncio.timeout(120):
                while bridge.counters.subscriptions < 3:
                    await db.execute(TOUCH, user)
                    await asyncio.sleep(0.1)
            await agree([follower], db, [str(user)], within=60)
            assert bridge.counters.disconnects >= 2


async def test_a_row_too_large_for_realtime_is_read_over_rest(
    stack: StackInfo, db: Connection, new_user: NewUser
) -> None:
    """A change that Realtime cuts off (413) reaches listeners whole."""
    user = await new_user()
    await db.execute(ACT, user)
    await db.execute("alter table public.user_streaks add column test_padding text")
    try:
        async with Bridge(bridge_settings(stack, reconcile_interval=3600.0)) as bridge:
            await bridge.wait_live(60)
            follower = Follower("one", [str(user)])
            async with running(follower, in_process(bridge, [str(user)], debounce=0)):
                await agree([follower], db, [str(user)], within=60)
                large = "update public.user_streaks set test_padding = repeat('x', 1200000) where user_id = $1"
                await db.execute(large, user)
                await agree([follower], db, [str(user)], within=60)
                assert bridge.counters.unreadable == 1
                assert follower.states[str(user)]["version"] == 2
    finally:
        await db.execute("alter table public.user_streaks drop column test_padding")


async def past_triggers(db: Connection, statement: str, *values: object) -> None:
    """Change something as a superuser can who goes past every trigger."""
    async with db.transaction():
        await db.execute("set local session_replication_role = replica")
        await db.execute(statement, *values)


async def test_a_row_that_python_cannot_hold_stops_nobody_else(
    stack: StackInfo, db: Connection, new_user: NewUser, caplog: pytest.LogCaptureFixture
) -> None:
    """Beside a hand-made date of the year 20260 other listeners go on, and its own does once it is mended."""
    users = [str(await new_user()) for _ in range(2)]
    odd, other = users
    for user in users:
        await db.execute(ACT, UUID(user))
    by_hand = (
        "update public.user_streaks set last_active_date = $2::text::date, version = version + 1 where user_id = $1"
    )
    await past_triggers(db, by_hand, UUID(odd), "20260-03-03")
    async with serve(bridge_settings(stack, reconcile_interval=3600.0)) as served:
        bridge = served.bridge
        await bridge.wait_live(60)
        follower = Follower("both", users)
        async with running(follower, in_process(bridge, users, debounce=0)):
            for _ in range(2):
                expected = await database_state(db, [other])
                await follower.until(lambda one, known=expected: one.knows(known), within=60)  # type: ignore[misc]
                await db.execute(TOUCH, UUID(other))
            assert bridge.counters.rows_skipped >= 1
            assert odd not in follower.states
            async with httpx.AsyncClient(headers={"apikey": stack.secret_key}) as http:
                page = (await http.get(f"{served.url}/snapshot", params={"user_id": users})).json()
            assert [one["user_id"] for one in page["streaks"]] == [other]
            await past_triggers(db, by_hand, UUID(odd), "2026-03-03")
            await agree([follower], db, users, within=60)
    assert any(odd in line and "20260" not in line for line in caplog.messages)


async def test_silence_is_broken_by_keep_alives(stack: StackInfo, new_user: NewUser) -> None:
    """A stream on which nothing happens carries comments, so that no proxy takes it for dead."""
    headers, params = {"apikey": stack.secret_key}, {"user_id": str(await new_user())}
    async with serve(bridge_settings(stack, keep_alive=0.3)) as served, asyncio.timeout(60):
        await served.bridge.wait_live(60)
        async with (
            httpx.AsyncClient(timeout=None) as http,  # noqa: S113 - the block has a time-out
            http.stream("GET", f"{served.url}/events", params=params, headers=headers) as response,
        ):
            comments = 0
            async for line in response.aiter_lines():
                comments += line == ": keep-alive"
                if comments == 3:
                    break


async def test_callbacks_hear_everything(stack: StackInfo, db: Connection, new_user: NewUser) -> None:
    """Functions and coroutine functions hear every message, and one that raises harms neither itself nor others."""
    user = await new_user()
    plain: list[Message] = []
    awaited: asyncio.Queue[Message] = asyncio.Queue()
    failing: list[Message] = []

    async def wait(message: Message) -> None:
        await asyncio.sleep(0)
        awaited.put_nowait(message)

    def fail(message: Message) -> None:
        failing.append(message)
        raise RuntimeError("a fault of the page")

    async with Bridge(bridge_settings(stack)) as bridge, asyncio.timeout(60):
        await bridge.wait_live(60)
        async with (
            bridge.on_change(plain.append, user_ids=[user], debounce=0),
            bridge.on_change(fail, user_ids=[user], debounce=0),
            bridge.on_change(wait, user_ids=[user], debounce=0),
        ):
            assert (await awaited.get()).type == "snapshot"
            await db.execute(ACT, user)
            assert (await awaited.get()).event == "started"
            await db.execute(TOUCH, user)
            assert (await awaited.get()).event == "updated"
            while not len(plain) == len(failing) == 3:  # noqa: ASYNC110 - they run in tasks of their own
                await asyncio.sleep(0.01)
        assert [message.type for message in plain] == ["snapshot", "change", "change"]
        assert bridge.listeners == 0


async def test_a_callback_that_takes_too_long_is_called_again(
    stack: StackInfo, db: Connection, new_user: NewUser
) -> None:
    """A callback whose listener was closed as slow meanwhile goes on, and ends with the state of the database."""
    user = await new_user()
    await db.execute(ACT, user)
    begun, go_on, latest = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def callback(message: Message) -> None:
        begun.set()
        await go_on.wait()
        if message.streak is not None and message.streak.version == 4:
            latest.set()

    async with Bridge(bridge_settings(stack, slow_after=0.5)) as bridge, asyncio.timeout(60):
        await bridge.wait_live(60)
        async with bridge.on_change(callback, user_ids=iter([user]), debounce=0):
            await begun.wait()
            for _ in range(3):
                await db.execute(TOUCH, user)
            while not bridge.counters.slow:  # noqa: ASYNC110 - the bridge tells nobody
                await asyncio.sleep(0.05)
            go_on.set()
            await latest.wait()
        assert bridge.listeners == 0
