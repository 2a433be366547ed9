"""The REST API's leaderboard: what it keeps, and what it asks."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import httpx
import pytest
import respx
from pydantic import SecretStr

from realtime_bridge.auth import Authenticator
from realtime_bridge.settings import BridgeSettings
from streak_client import AsyncStreakClient
from streak_client.rest import create_app

URL, KEY = "http://streaks.test", "sb_secret_x"
ENTRY = {
    "rank": 1,
    "user_id": str(UUID(int=1)),
    "current_streak": 3,
    "longest_streak": 5,
    "last_active_date": "2026-11-22",
    "is_active_today": True,
}
THOUSAND = json.dumps([ENTRY] * 1_000)


@pytest.fixture
async def api() -> AsyncIterator[httpx.AsyncClient]:
    """The API in front of a Supabase that is played."""
    settings = BridgeSettings(supabase_url=URL, supabase_secret_key=SecretStr(KEY))
    async with httpx.AsyncClient() as http, AsyncStreakClient(URL, KEY, max_retries=0) as client:
        transport = httpx.ASGITransport(create_app(client, Authenticator(settings, http)))
        async with httpx.AsyncClient(transport=transport, base_url="http://api.test", headers={"apikey": KEY}) as made:
            yield made


def asked() -> respx.Route:
    """The database's function."""
    return respx.post(f"{URL}/rest/v1/rpc/get_streak_leaderboard")


@respx.mock
async def test_what_is_kept_is_bounded_by_its_size(api: httpx.AsyncClient) -> None:
    """Who asks for large pages, each another, fills no memory: the oldest go, the latest stay."""
    route = asked().respond(content=THOUSAND)

    async def read(offset: int) -> int:
        answer = await api.get("/api/streak/leaderboard", params={"limit": 1000, "offset": offset})
        assert len(answer.json()) == 1_000
        return route.call_count

    for offset in range(120):
        assert await read(offset) == offset + 1
    assert await read(119) == 120
    assert await read(0) == 121


@respx.mock
async def test_simultaneous_requests_share_a_read(api: httpx.AsyncClient) -> None:
    """Fifty who ask for a page at the same moment cost one read, and one who hangs up takes nobody along."""
    began, release = asyncio.Event(), asyncio.Event()

    async def answer(_: httpx.Request) -> httpx.Response:
        began.set()
        await release.wait()
        return httpx.Response(200, content=THOUSAND)

    route = asked().mock(side_effect=answer)
    tasks = [asyncio.create_task(api.get("/api/streak/leaderboard")) for _ in range(50)]
    await began.wait()
    tasks[0].cancel()
    await asyncio.wait([tasks[0]])
    release.set()
    answers: list[Any] = await asyncio.gather(*tasks[1:])
    assert {answer.status_code for answer in answers} == {200}
    assert route.call_count == 1


@respx.mock
async def test_a_failed_read_is_not_kept(api: httpx.AsyncClient) -> None:
    """An error is the answer to those who waited for it, not to the next."""
    asked().mock(side_effect=[httpx.ConnectError("gone"), httpx.Response(200, json=[ENTRY])])
    answers = [await api.get("/api/streak/leaderboard") for _ in range(2)]
    assert [answer.status_code for answer in answers] == [503, 200]
