"""The bridge on a real stack: every surface, every debounce, and who may hear whom."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import httpx
import pytest
import websockets

from local_supabase.stack import StackInfo
from realtime_bridge import ServedBridge, serve
from tests.support.bridge import (
    Connection,
    Follower,
    agree,
    bridge_settings,
    database_state,
    in_process,
    over_sse,
    over_websocket,
    running,
)
from tests.support.stack import user_token

NewUser = Callable[[], Awaitable[UUID]]
ACT = "select * from public.update_user_streak_atomic($1, 'UTC', null, now() - make_interval(days => $2))"
TOUCH = "update public.user_streaks set longest_streak = longest_streak + 1 where user_id = $1"


@pytest.fixture
async def served(stack: StackInfo) -> AsyncIterator[ServedBridge]:
    """A bridge that is live, with its server."""
    async with serve(bridge_settings(stack)) as running_bridge:
        await running_bridge.bridge.wait_live(20)
        yield running_bridge


def bearer(token: str) -> dict[str, str]:
    """The header that carries a token."""
    return {"Authorization": f"Bearer {token}"}


async def test_an_activity_reaches_listeners_on_every_surface(
    served: ServedBridge, stack: StackInfo, db: Connection, new_user: NewUser
) -> None:
    """One activity reaches an in-process, an SSE and a WebSocket listener: a snapshot first, then `started`."""
    user = str(await new_user())
    token = user_token(stack, user)
    kinds: dict[str, AsyncIterator[dict[str, Any]]] = {
        "in process": in_process(served.bridge, [user], debounce=0),
        "SSE": over_sse(served.url, token, [user], debounce=0),
        "WebSocket": over_websocket(served.url, token, [user], debounce=0),
    }
    async with contextlib.AsyncExitStack() as exits:
        followers = [
            await exits.enter_async_context(running(Follower(name, [user]), source)) for name, source in kinds.items()
        ]
        for follower in followers:
            await follower.until(lambda one: bool(one.messages))
        await db.execute(ACT, UUID(user), 0)
        await agree(followers, db, [user])
        for follower in followers:
            assert [message["type"] for message in follower.messages] == ["snapshot", "change"]
            assert follower.messages[0]["streak"]["current_streak"] == 0
            assert (follower.messages[1]["event"], follower.messages[1]["streak"]["current_streak"]) == ("started", 1)


async def test_a_user_without_a_streak_has_the_zone_of_the_profile(
    served: ServedBridge, stack: StackInfo, db: Connection, new_user: NewUser
) -> None:
    """A snapshot without a row is what get_user_streak says, the profile's zone included, after a DELETE too."""
    plain, tokyo = str(await new_user()), str(await new_user())
    await db.execute(
        "insert into public.user_profiles (user_id, timezone) values ($1, 'Asia/Tokyo') "
        "on conflict (user_id) do update set timezone = excluded.timezone",
        UUID(tokyo),
    )
    async with running(Follower("first", [plain, tokyo]), in_process(served.bridge, [plain, tokyo])) as first:
        await agree([first], db, [plain, tokyo])
        assert [first.states[user]["timezone"] for user in (plain, tokyo)] == ["UTC", "Asia/Tokyo"]
        await db.execute(ACT, UUID(tokyo), 0)
        await agree([first], db, [plain, tokyo])
        await db.execute("delete from public.user_streaks where user_id = $1", UUID(tokyo))
        await agree([first], db, [plain, tokyo])
        late = over_sse(served.url, user_token(stack, tokyo), None)
        async with running(Follower("late", [tokyo]), late) as second:
            await agree([second], db, [tokyo])
            assert second.states[tokyo]["timezone"] == "Asia/Tokyo"
    async with httpx.AsyncClient(base_url=served.url, headers=bearer(user_token(stack, tokyo))) as http:
        (own,) = (await http.get("/snapshot")).json()["streaks"]
    assert own["streak"] == (await database_state(db, [tokyo]))[tokyo]


async def test_every_listener_ends_with_the_state_of_the_database(
    served: ServedBridge, stack: StackInfo, db: Connection, new_user: NewUser
) -> None:
    """After a burst of concurrent updates listeners of every kind and debounce hold what the database holds."""
    users = [str(await new_user()) for _ in range(12)]
    wishes: list[dict[str, float]] = [
        {"debounce": 0},
        {"debounce": 0.3, "max_wait": 0.5},
        {"debounce": 1, "max_wait": 1},
        {},
    ]
    async with contextlib.AsyncExitStack() as exits:
        followers = []
        for number, wish in enumerate(wishes):
            named = users[number : number + 6]
            for follower, source in (
                (Follower(f"all {wish}", None), in_process(served.bridge, None, **wish)),
                (Follower(f"some {wish}", named), in_process(served.bridge, named, **wish)),
                (Follower(f"sse {wish}", named), over_sse(served.url, stack.secret_key, named, **wish)),
                (Follower(f"ws {wish}", named), over_websocket(served.url, stack.secret_key, named, **wish)),
            ):
                followers.append(await exits.enter_async_context(running(follower, source)))
        for follower in followers:
            if follower.users is not None:
                await follower.until(lambda one: len(one.states) == len(one.users or ()))
        await burst(stack, users)
        took = await agree(followers, db, users)
        print(f"every listener agreed {took:.2f} s after the burst; {served.bridge.counters}")  # noqa: T201 - a figure for -s
        undebounced = next(one for one in followers if one.name == "some {'debounce': 0}")
        slowest = next(one for one in followers if one.name == "some {'debounce': 1, 'max_wait': 1}")
        assert len(slowest.messages) < len(undebounced.messages)


async def burst(stack: StackInfo, users: list[str]) -> None:
    """Let five clients write at the same time: activities in any order, changes by hand, a user made anew."""

    async def client(days: int) -> None:
        connection = await asyncpg.connect(stack.database_url)
        try:
            for user in users[days:] + users[:days]:
                await connection.execute(ACT, UUID(user), days)
                await connection.execute(TOUCH, UUID(user))
        finally:
            await connection.close()

    await asyncio.gather(*(client(days) for days in range(5)))
    connection = await asyncpg.connect(stack.database_url)
    try:
        for user in users[:2]:
            await connection.execute("delete from public.user_streaks where user_id = $1", UUID(user))
        await connection.execute(ACT, UUID(users[0]), 0)
    finally:
        await connection.close()


async def test_a_listener_that_reconnects_misses_nothing(
    served: ServedBridge, stack: StackInfo, db: Connection, new_user: NewUser
) -> None:
    """With the id of its last message an SSE listener gets what changed meanwhile, and no second snapshot."""
    user = str(await new_user())
    follower = Follower("SSE", [user])
    async with running(follower, over_sse(served.url, stack.secret_key, [user], debounce=0)):
        await db.execute(ACT, UUID(user), 1)
        await agree([follower], db, [user])
    async with running(Follower("witness", [user]), in_process(served.bridge, [user], debounce=0)) as witness:
        await db.execute(ACT, UUID(user), 0)
        await agree([witness], db, [user])
    seen = len(follower.messages)
    again = over_sse(served.url, stack.secret_key, [user], debounce=0, since=follower.last_id)
    async with running(follower, again):
        await agree([follower], db, [user])
    assert [(one["type"], one["event"]) for one in follower.messages[seen:]] == [("change", "incremented")]


async def test_an_id_of_another_run_is_a_reset(served: ServedBridge, stack: StackInfo, new_user: NewUser) -> None:
    """A listener of a bridge that has gone is told to forget what it knows, and gets a snapshot."""
    user = str(await new_user())
    async with running(
        Follower("SSE", [user]), over_sse(served.url, stack.secret_key, [user], since="gone:7")
    ) as follower:
        await follower.until(lambda one: user in one.states)
        assert [message["type"] for message in follower.messages] == ["reset", "snapshot"]


async def test_two_bridges_serve_every_listener(stack: StackInfo, db: Connection, new_user: NewUser) -> None:
    """Bridges side by side each bring everything, and a listener may resume at the other one."""
    user = str(await new_user())
    async with serve(bridge_settings(stack)) as one, serve(bridge_settings(stack)) as two:
        for bridge in (one.bridge, two.bridge):
            await bridge.wait_live(20)
        first, second = Follower("one", [user]), Follower("two", [user])
        async with (
            running(first, over_sse(one.url, stack.secret_key, [user], debounce=0)),
            running(second, over_sse(two.url, stack.secret_key, [user], debounce=0)),
        ):
            await db.execute(ACT, UUID(user), 0)
            await agree([first, second], db, [user])
        moved = over_sse(two.url, stack.secret_key, [user], debounce=0, since=first.last_id)
        async with running(first, moved):
            await db.execute(TOUCH, UUID(user))
            await agree([first], db, [user])


async def test_a_bridge_that_stops_says_so(stack: StackInfo, new_user: NewUser) -> None:
    """On shutdown SSE listeners are told 1012 in a last message, WebSockets are closed with it, and no task is left."""
    user = str(await new_user())
    sse, ws = Follower("SSE", [user]), Follower("WebSocket", [user])
    before = len(asyncio.all_tasks())
    async with contextlib.AsyncExitStack() as exits:
        async with serve(bridge_settings(stack)) as served:
            await exits.enter_async_context(running(sse, over_sse(served.url, stack.secret_key, [user])))
            await exits.enter_async_context(running(ws, over_websocket(served.url, stack.secret_key, [user])))
            for follower in (sse, ws):
                await follower.until(lambda one: user in one.states)
        await sse.until(lambda one: one.messages[-1].get("code") == 1012)
    assert len(asyncio.all_tasks()) == before


async def test_who_may_hear_whom(served: ServedBridge, stack: StackInfo) -> None:
    """Nobody: 401; anon: 403; a user who asks for another: 403; the same for /ws, /snapshot and /ticket."""
    user, other = uuid4(), uuid4()
    own = bearer(user_token(stack, user))
    cases: list[tuple[dict[str, str], dict[str, str], int]] = [
        ({}, {}, 401),
        (bearer("nonsense"), {}, 401),
        ({"apikey": stack.publishable_key}, {}, 401),
        (bearer(user_token(stack, user, expires_in=-60)), {}, 401),
        (bearer(user_token(stack, user, role="anon")), {}, 403),
        (own, {"user_id": str(other)}, 403),
        (own, {"user_id": "me"}, 400),
        (own, {"debounce": "-1"}, 400),
        (own, {"debounce": "nan"}, 400),
        (own, {"debounce": "3", "max_wait": "1"}, 400),
        (own, {"since": "yesterday"}, 400),
    ]
    async with httpx.AsyncClient(base_url=served.url) as http:
        for headers, params, status in cases:
            answer = await http.get("/events", headers=headers, params=params)
            assert answer.status_code == status, (params, answer.text)
            assert status != 400 or answer.json()["error"]["field"] in (*params, "max_wait")
            with pytest.raises(websockets.InvalidStatus) as caught:
                await websockets.connect(
                    str(httpx.URL(served.url.replace("http", "ws", 1) + "/ws", params=params)),
                    additional_headers=headers,
                    proxy=None,
                )
            assert caught.value.response.status_code == status
        for status, headers in ((401, {}), (403, bearer(user_token(stack, user, role="anon")))):
            assert (await http.post("/ticket", headers=headers)).status_code == status
            assert (await http.get("/snapshot", headers=headers)).status_code == status
        refused = await http.get("/snapshot", headers=own, params={"user_id": str(other)})
        assert refused.status_code == 403


async def test_a_ticket_opens_what_its_token_would(
    served: ServedBridge, stack: StackInfo, db: Connection, new_user: NewUser
) -> None:
    """A browser's ticket, made by one bridge, opens its user's stream at another, and nobody else's."""
    user = str(await new_user())
    async with serve(bridge_settings(stack)) as elsewhere, httpx.AsyncClient() as http:
        answer = await http.post(f"{elsewhere.url}/ticket", headers=bearer(user_token(stack, user)))
        ticket = answer.json()["ticket"]
        assert answer.headers["cache-control"] == "no-store"
    async with running(
        Follower("browser", [user]), over_sse(served.url, "", None, ticket=ticket, debounce=0)
    ) as follower:
        await db.execute(ACT, UUID(user), 0)
        await agree([follower], db, [user])
    async with httpx.AsyncClient() as http:
        other = await http.get(f"{served.url}/events", params={"ticket": ticket, "user_id": str(uuid4())})
        assert other.status_code == 403


async def test_a_token_that_expires_ends_the_connection(
    served: ServedBridge, stack: StackInfo, new_user: NewUser
) -> None:
    """Expiry is enforced while connected: SSE says 4401 and ends, a WebSocket closes with 4401."""
    user = str(await new_user())
    token = user_token(stack, user, expires_in=2)
    async with running(Follower("SSE", [user]), over_sse(served.url, token, None)) as follower:
        address = served.url.replace("http", "ws", 1) + "/ws"
        async with websockets.connect(address, additional_headers=bearer(token), proxy=None) as socket:
            with contextlib.suppress(websockets.ConnectionClosed):
                async for _ in socket:
                    pass
            assert socket.close_code == 4401
        await follower.until(lambda one: one.messages[-1].get("code") == 4401)


async def test_a_websocket_of_a_strange_page_is_refused(served: ServedBridge, stack: StackInfo) -> None:
    """CORS does not cover WebSockets, so another origin is refused unless the settings allow it."""
    address = served.url.replace("http", "ws", 1) + "/ws"
    headers = bearer(stack.secret_key)
    with pytest.raises(websockets.InvalidStatus) as caught:
        await websockets.connect(
            address, additional_headers=headers, origin=websockets.Origin("https://evil.example"), proxy=None
        )
    assert caught.value.response.status_code == 403
    async with websockets.connect(
        address, additional_headers=headers, origin=websockets.Origin(served.url), proxy=None
    ) as socket:
        assert socket.close_code is None


async def test_a_websocket_that_talks_is_closed(served: ServedBridge, stack: StackInfo) -> None:
    """A frame from the client closes the socket with 4400, one over the limit with 1009."""
    address = served.url.replace("http", "ws", 1) + "/ws"
    for frame, code in (("hello", 4400), ("x" * 100_000, 1009)):
        async with websockets.connect(address, additional_headers=bearer(stack.secret_key), proxy=None) as socket:
            await socket.send(frame)
            with contextlib.suppress(websockets.ConnectionClosed):
                async for _ in socket:
                    pass
            assert socket.close_code == code


async def test_connections_are_limited(stack: StackInfo, new_user: NewUser) -> None:
    """One user holds so many connections and no more; the bridge takes so many and no more; places come back."""
    user = str(await new_user())
    async with serve(bridge_settings(stack, max_listeners=2, max_listeners_per_user=1)) as served:
        own, service = user_token(stack, user), stack.secret_key
        async with running(Follower("first", [user]), over_sse(served.url, own, None)) as first:
            await first.until(lambda one: bool(one.messages))
            async with httpx.AsyncClient(base_url=served.url) as http:
                assert (await http.get("/events", headers=bearer(own))).status_code == 429
                async with running(Follower("second", [user]), over_sse(served.url, service, [user])) as second:
                    await second.until(lambda one: user in one.states)
                    assert (await http.get("/events", headers=bearer(service))).status_code == 503
        async with running(Follower("again", [user]), over_sse(served.url, own, None)) as again:
            await again.until(lambda one: user in one.states)


async def test_the_snapshot_has_every_streak_page_by_page(
    served: ServedBridge, stack: StackInfo, db: Connection, new_user: NewUser
) -> None:
    """An operator reads all streaks in pages without a gap; a user reads the own one."""
    users = [str(await new_user()) for _ in range(5)]
    for user in users:
        await db.execute(ACT, UUID(user), 0)
    found: dict[str, Any] = {}
    async with httpx.AsyncClient(base_url=served.url, headers={"apikey": stack.secret_key}) as http:
        after: str | None = None
        while True:
            page = (await http.get("/snapshot", params={"limit": 2, **({"after": after} if after else {})})).json()
            assert len(page["streaks"]) <= 2
            found.update((item["user_id"], item["streak"]) for item in page["streaks"])
            after = page["next"]
            if after is None:
                break
    expected = await database_state(db, users)
    assert {user: found[user] for user in users} == expected
    assert len(found) == await db.fetchval("select count(*) from public.user_streaks")
    async with httpx.AsyncClient(base_url=served.url, headers=bearer(user_token(stack, users[0]))) as http:
        own = (await http.get("/snapshot")).json()["streaks"]
    assert own == [{"user_id": users[0], "streak": expected[users[0]]}]


async def test_operators_of_the_process_see_its_health(served: ServedBridge) -> None:
    """/healthz, /readyz and /metrics answer without a key, and tell no secret."""
    async with httpx.AsyncClient(base_url=served.url) as http:
        assert (await http.get("/healthz")).status_code == 200
        ready = await http.get("/readyz")
        assert (ready.status_code, ready.json()["state"]) == (200, "live")
        metrics = (await http.get("/metrics")).text
        assert 'streak_bridge_state{state="live"} 1.0' in metrics
        assert "sb_secret" not in metrics + json.dumps(ready.json())
