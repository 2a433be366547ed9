"""The rate guard whose count several processes share in a real Redis."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from uuid import UUID, uuid4

import httpx
import pytest

from local_supabase.stack import StackInfo
from streak_client import AsyncStreakClient, RateLimit, RateLimitedError, Settings, StreakClient, _redis
from streak_client.rest.serving import rest_app
from tests.support.redis_server import RedisServer, redis_server

NewUser = Callable[[], Awaitable[UUID]]


@pytest.fixture
async def redis(tmp_path: Path) -> AsyncIterator[RedisServer]:
    """A Redis of this test's own."""
    async with redis_server(tmp_path) as server:
        yield server


async def test_servers_share_the_count(stack: StackInfo, redis: RedisServer, new_user: NewUser) -> None:
    """Two servers with one Redis let ten updates of a user through between them, and say when the next may come."""
    user, other, settings = await new_user(), await new_user(), Settings(stack.supabase_url, stack.secret_key)
    limit = RateLimit(store=redis.url)
    headers = {"Authorization": f"Bearer {stack.secret_key}"}

    async def update(api: httpx.AsyncClient, who: UUID) -> httpx.Response:
        return await api.post("/api/streak/update", json={"userId": str(who), "timezone": "UTC"}, headers=headers)

    async with (
        rest_app(settings, rate_limit=limit) as first,
        rest_app(settings, rate_limit=limit) as second,
        httpx.AsyncClient(transport=httpx.ASGITransport(first), base_url="http://api.test") as one,
        httpx.AsyncClient(transport=httpx.ASGITransport(second), base_url="http://api.test") as two,
    ):
        answers = [await update(api, user) for _ in range(5) for api in (one, two)]
        refused = [await update(api, user) for api in (one, two)]
        assert (await update(two, other)).status_code == 200
    statuses = [answer.status_code for answer in (*answers, *refused)]
    assert statuses == [200] * 10 + [429] * 2
    assert all(0 < int(answer.headers["retry-after"]) <= 60 for answer in refused)


async def test_sync_and_async_clients_share_the_count(stack: StackInfo, redis: RedisServer, new_user: NewUser) -> None:
    """The sync and the async client count in the same window."""
    user, limit = await new_user(), RateLimit("2/minute", redis.url)
    async with AsyncStreakClient(stack.supabase_url, stack.secret_key, rate_limit=limit) as asynchronous:
        await asynchronous.update_user_streak(user, "UTC")
        with StreakClient(stack.supabase_url, stack.secret_key, rate_limit=limit) as synchronous:
            synchronous.update_user_streak(user, "UTC")
            with pytest.raises(RateLimitedError):
                synchronous.update_user_streak(user, "UTC")
        with pytest.raises(RateLimitedError):
            await asynchronous.update_user_streak(user, "UTC")


async def test_a_redis_that_dies_costs_nobody_the_day(
    stack: StackInfo, redis: RedisServer, new_user: NewUser, caplog: pytest.LogCaptureFixture
) -> None:
    """When Redis goes, updates go on unguarded, with a warning that does not show its URL."""
    password = uuid4().hex
    limit = RateLimit(store=redis.url.replace("//", f"//:{password}@"))
    async with AsyncStreakClient(
        stack.supabase_url, stack.secret_key, rate_limit=RateLimit("1/minute", redis.url)
    ) as client:
        user = await new_user()
        await client.update_user_streak(user, "UTC")
        with pytest.raises(RateLimitedError):
            await client.update_user_streak(user, "UTC")
        await redis.kill()
        with caplog.at_level(logging.WARNING, "streak_client"):
            assert (await client.update_user_streak(user, "UTC")).current_streak == 1
            async with AsyncStreakClient(stack.supabase_url, stack.secret_key, rate_limit=limit) as other:
                await other.update_user_streak(user, "UTC")
    assert "rate guard's store failed" in caplog.text
    assert password not in caplog.text


async def test_a_redis_that_hangs_holds_nobody_up(
    stack: StackInfo,
    redis: RedisServer,
    new_user: NewUser,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """When Redis takes connections and answers nothing, an update waits for a time-out, and those after it do not."""
    monkeypatch.setitem(_redis._OPTIONS, "socket_timeout", 0.2)  # noqa: SLF001 - nobody needs to wait for it here
    monkeypatch.setattr(_redis, "PAUSE_SECONDS", 600.0)
    user, limit = await new_user(), RateLimit("3/minute", redis.url)
    async with AsyncStreakClient(stack.supabase_url, stack.secret_key, rate_limit=limit) as asynchronous:
        with StreakClient(stack.supabase_url, stack.secret_key, rate_limit=limit) as synchronous:
            await asynchronous.update_user_streak(user, "UTC")  # so that one of them has a connection already
            redis.process.send_signal(signal.SIGSTOP)
            try:
                async with asyncio.timeout(60):
                    for _ in range(5):
                        await asynchronous.update_user_streak(user, "UTC")
                        await asyncio.to_thread(synchronous.update_user_streak, user, "UTC")
            finally:
                redis.process.send_signal(signal.SIGCONT)
    warnings = [record.message for record in caplog.records if "rate guard's store failed" in record.message]
    assert warnings == ["the rate guard's store failed (TimeoutError); the update is let through"] * 2
