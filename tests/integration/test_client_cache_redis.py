"""The cache of reads that several processes share in a real Redis."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import httpx
import pytest
import respx
from prometheus_client import CollectorRegistry
from redis import Redis

from local_supabase.stack import StackInfo
from streak_client import (
    Activity,
    AsyncStreakClient,
    Caching,
    ConfigurationError,
    DatabaseError,
    Settings,
    StreakClient,
    _redis,
    _shared_cache,
)
from streak_client.rest.serving import rest_app
from tests.support.fault_proxy import FaultProxy, fault_proxy
from tests.support.redis_server import RedisServer, free_port, redis_server

NewUser = Callable[[], Awaitable[UUID]]
URL, KEY, USER = "http://streaks.test", "sb_secret_x", UUID(int=1)
NOON = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
STREAK: dict[str, Any] = {
    "current_streak": 3,
    "longest_streak": 5,
    "last_active_date": "2026-11-22",
    "timezone": "UTC",
    "is_active_today": True,
    "days_since_activity": 0,
    "expires_at": "2026-11-24T00:00:00+00:00",
    "version": 7,
}
KINDS = pytest.mark.parametrize("kind", [AsyncStreakClient, StreakClient])


@pytest.fixture
async def redis(tmp_path: Path) -> AsyncIterator[RedisServer]:
    """A Redis of this test's own."""
    async with redis_server(tmp_path) as server:
        yield server


@pytest.fixture
async def proxy(stack: StackInfo) -> AsyncIterator[FaultProxy]:
    """The stack behind a proxy that counts requests."""
    async with fault_proxy(stack.supabase_url, lambda: None) as counted:
        yield counted


async def done(call: Callable[..., Any], *args: Any) -> Any:
    """Call a client of either kind; the sync one in a thread."""
    return await call(*args) if inspect.iscoroutinefunction(call) else await asyncio.to_thread(call, *args)


async def shut(*clients: AsyncStreakClient | StreakClient) -> None:
    """Close clients of either kind."""
    for client in clients:
        await done(client.aclose if isinstance(client, AsyncStreakClient) else client.close)


async def test_what_one_reads_others_need_not(
    stack: StackInfo, proxy: FaultProxy, redis: RedisServer, new_user: NewUser
) -> None:
    """A streak is read from the database once for all processes, and every write of any drops it for all."""
    user, caching = await new_user(), Caching(store=redis.url)
    async with AsyncStreakClient(proxy.url, stack.secret_key, caching=caching) as one:
        two = StreakClient(proxy.url, stack.secret_key, caching=caching)
        assert (await one.get_user_streak(user)).version == 0
        assert (await done(two.get_user_streak, user)).version == 0
        assert (proxy.seen.total(), one.cache_info(), two.cache_info()) == (1, (0, 1, 0, 0), (1, 0, 0, 0))
        await one.update_user_streak(user, "UTC", activity_at=datetime.now(UTC) - timedelta(days=2))
        assert (await done(two.get_user_streak, user)).version == 1
        await done(two.update_user_streaks, [Activity(user, timezone="UTC")])
        assert (await one.get_user_streak(user)).version == 2
        yesterday = datetime.now(UTC).date() - timedelta(days=1)
        await one.recover_user_streak(user, yesterday, yesterday, "ill")
        assert (await done(two.get_user_streak, user)).current_streak == 3
        before = proxy.seen.total()
        assert await one.get_user_streak(user) == await done(two.get_user_streak, user)
        assert proxy.seen.total() == before
        await shut(two)


async def test_servers_share_what_they_read(
    stack: StackInfo, redis: RedisServer, new_user: NewUser, caplog: pytest.LogCaptureFixture
) -> None:
    """An update through one server of the REST API is seen by a read through another at once."""
    user, caching = await new_user(), Caching(store=redis.url)
    settings, headers = Settings(stack.supabase_url, stack.secret_key), {"apikey": stack.secret_key}
    async with (
        rest_app(settings, caching=caching) as first,
        rest_app(settings, caching=caching) as second,
        httpx.AsyncClient(transport=httpx.ASGITransport(first), base_url="http://api.test", headers=headers) as one,
        httpx.AsyncClient(transport=httpx.ASGITransport(second), base_url="http://api.test", headers=headers) as two,
    ):
        assert (await two.get(f"/api/streak/{user}")).json()["current_streak"] == 0
        await one.post("/api/streak/update", json={"userId": str(user)})
        assert (await two.get(f"/api/streak/{user}")).json()["current_streak"] == 1
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@KINDS
@respx.mock
async def test_a_stampede_is_one_read(
    redis: RedisServer, kind: type[AsyncStreakClient | StreakClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Processes that ask for one user at the same time read the database once, however many they are."""
    monkeypatch.setattr(_shared_cache, "LEASE_SECONDS", 120.0)
    monkeypatch.setattr(_shared_cache, "PATIENCE_SECONDS", 120.0)
    asked, release = asyncio.Event(), asyncio.Event()

    async def answer(_: httpx.Request) -> httpx.Response:
        asked.set()
        await release.wait()
        return httpx.Response(200, json=[STREAK])

    loop = asyncio.get_running_loop()

    def blocking_answer(request: httpx.Request) -> httpx.Response:
        return asyncio.run_coroutine_threadsafe(answer(request), loop).result(60)

    effect = answer if kind is AsyncStreakClient else blocking_answer
    route = respx.post(f"{URL}/rest/v1/rpc/get_user_streak").mock(side_effect=effect)
    clients = [kind(URL, KEY, caching=Caching(store=redis.url), clock=lambda: NOON) for _ in range(4)]
    reads = [asyncio.ensure_future(done(client.get_user_streak, USER)) for client in clients]
    await asyncio.wait_for(asked.wait(), 60)
    release.set()
    assert {(await read).version for read in reads} == {7}
    assert route.call_count == 1
    assert sum(client.cache_info().hits for client in clients) == 3
    await shut(*clients)


@respx.mock
async def test_a_read_that_a_write_overtook_is_not_kept(redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """What one process read before another wrote is never stored after it."""
    monkeypatch.setattr(_shared_cache, "LEASE_SECONDS", 120.0)
    version, asked, release = 7, asyncio.Event(), asyncio.Event()

    async def answer(_: httpx.Request) -> httpx.Response:
        row = {**STREAK, "version": version}
        asked.set()
        await release.wait()
        return httpx.Response(200, json=[row])

    respx.post(f"{URL}/rest/v1/rpc/get_user_streak").mock(side_effect=answer)
    update = {**STREAK, "success": True, "change_type": "STREAK_MAINTAINED", "message": "", "replayed": False}
    respx.post(f"{URL}/rest/v1/rpc/update_user_streak_atomic").respond(json=[update])
    caching = Caching(store=redis.url)
    async with (
        AsyncStreakClient(URL, KEY, caching=caching, clock=lambda: NOON) as reader,
        AsyncStreakClient(URL, KEY, caching=caching, clock=lambda: NOON) as writer,
    ):
        early = asyncio.ensure_future(reader.get_user_streak(USER))
        await asked.wait()
        with Redis.from_url(redis.url) as store:
            (lease,) = store.scan_iter()
            assert 0 < cast("int", store.pttl(lease)) <= _shared_cache.LEASE_SECONDS * 1000, "it ends by itself"
        await writer.update_user_streak(USER)
        version = 8
        release.set()
        assert (await early).version == 7
        assert (await writer.get_user_streak(USER)).version == 8
        assert (await reader.get_user_streak(USER)).version == 8


@pytest.mark.parametrize(
    ("now", "expires_at", "longest"),
    [
        (NOON, "2026-11-24T00:00:00Z", 60.0),
        (datetime(2026, 11, 22, 23, 59, 50, tzinfo=UTC), "2026-11-24T00:00:00Z", 10.0),
        (NOON, "2026-11-22T12:00:20Z", 20.0),
    ],
)
@respx.mock
async def test_redis_forgets_in_time(redis: RedisServer, now: datetime, expires_at: str, longest: float) -> None:
    """What is stored lives for a minute, but never past the user's midnight or the streak's expiry."""
    respx.post(f"{URL}/rest/v1/rpc/get_user_streak").respond(json=[{**STREAK, "expires_at": expires_at}])
    async with AsyncStreakClient(URL, KEY, caching=Caching(store=redis.url), clock=lambda: now) as client:
        await client.get_user_streak(USER)
    with Redis.from_url(redis.url, decode_responses=True) as store:
        (key,) = store.scan_iter()
        left = store.pttl(key)
    assert isinstance(left, int)
    assert longest - 60 < left / 1000 <= longest
    assert left > 0
    assert KEY not in key


@KINDS
@respx.mock
async def test_a_failed_read_is_nobodys_answer(
    redis: RedisServer, kind: type[AsyncStreakClient | StreakClient]
) -> None:
    """An error is stored nowhere, and holds up no other reader."""
    route = respx.post(f"{URL}/rest/v1/rpc/get_user_streak")
    route.side_effect = [httpx.Response(400, json={"message": "no"}), httpx.Response(200, json=[STREAK])]
    client = kind(URL, KEY, caching=Caching(store=redis.url), clock=lambda: NOON)
    with pytest.raises(DatabaseError):
        await done(client.get_user_streak, USER)
    with Redis.from_url(redis.url) as store:
        assert list(store.scan_iter()) == []
    assert (await done(client.get_user_streak, USER)).version == 7
    await shut(client)


@respx.mock
async def test_a_reader_that_died_is_not_waited_for(redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lease that nobody gives back ends by itself, and what another release stored is read anew."""
    monkeypatch.setattr(_shared_cache, "LEASE_SECONDS", 0.2)
    route = respx.post(f"{URL}/rest/v1/rpc/get_user_streak").respond(json=[STREAK])
    async with AsyncStreakClient(URL, KEY, caching=Caching(store=redis.url), clock=lambda: NOON) as client:
        await client.get_user_streak(USER)
        with Redis.from_url(redis.url, decode_responses=True) as store:
            (key,) = store.scan_iter()
            store.delete(key)
            store.set(key.replace(":streak", ":lease"), "the dead's", px=200)
            assert (await client.get_user_streak(USER)).version == 7
            assert route.call_count == 2
            store.set(key, '{"another": "release"}')
        assert (await client.get_user_streak(USER)).version == 7
        assert route.call_count == 3


@KINDS
@respx.mock
async def test_without_its_redis_the_database_is_read(
    redis: RedisServer,
    kind: type[AsyncStreakClient | StreakClient],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """When Redis goes, reads and writes go on; that is counted, and one warning a while says so."""
    monkeypatch.setattr(_redis, "PAUSE_SECONDS", 120.0)
    route = respx.post(f"{URL}/rest/v1/rpc/get_user_streak").respond(json=[STREAK])
    update = {**STREAK, "success": True, "change_type": "STREAK_MAINTAINED", "message": "", "replayed": False}
    respx.post(f"{URL}/rest/v1/rpc/update_user_streak_atomic").respond(json=[update])
    registry = CollectorRegistry()
    caching = Caching(store=redis.url)
    client = kind(URL, KEY, caching=caching, registry=registry, clock=lambda: NOON)
    await done(client.get_user_streak, USER)
    await redis.kill()
    with caplog.at_level(logging.WARNING, "streak_client"):
        for _ in range(5):
            assert (await done(client.get_user_streak, USER)).version == 7
        assert (await done(client.update_user_streak, USER)).version == 7
    assert route.call_count == 6
    assert client.cache_info().misses == 6
    assert client.cache_info().failures >= 2
    failures = registry.get_sample_value("streak_client_cache_store_failures_total")
    assert failures == client.cache_info().failures
    assert caplog.text.count("the cache's store failed") == 1
    await shut(client)


@pytest.mark.parametrize("store", ["memcached://x", "redis://:hunter2@host:port/0", "redis://:hunter2@h/0?nonsense=1"])
def test_impossible_stores_are_refused(store: str) -> None:
    """A store that cannot work is an error when the client is made, and is not repeated."""
    with pytest.raises(ConfigurationError) as caught:
        StreakClient(URL, KEY, caching=Caching(store=store))
    assert "hunter2" not in str(caught.value)


def test_no_representation_shows_the_stores_url() -> None:
    """Neither the options nor the client show where the store is."""
    caching = Caching(store=f"redis://:hunter2@127.0.0.1:{free_port()}/0")
    with StreakClient(URL, KEY, caching=caching) as client:
        assert "hunter2" not in f"{caching!r} {client!r}"
