"""What the bridge reads of the database for those who ask: all of it, and not too much at a time."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from typing import Any
from uuid import UUID

import httpx
import jwt
import pytest
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.types import Message

from realtime_bridge import Bridge, BridgeSettings
from realtime_bridge.app import create_app
from realtime_bridge.changes import StreakRow
from realtime_bridge.reader import Found

KEY = "sb_secret_unit"
SECRET = "a legacy secret of thirty-two bytes or more"  # noqa: S105 - opens nothing
LIMIT = 60.0
USERS = [str(UUID(int=number)) for number in range(1, 8)]


@contextlib.asynccontextmanager
async def surfaces() -> AsyncIterator[tuple[Bridge, httpx.AsyncClient, Starlette]]:
    """A bridge whose Supabase is away, a client of it, and its application."""
    settings = BridgeSettings(
        supabase_url="http://127.0.0.1:9",
        supabase_secret_key=SecretStr(KEY),
        supabase_jwt_secret=SecretStr(SECRET),
    )
    async with Bridge(settings) as bridge:
        app = create_app(bridge)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://bridge") as http:
            yield bridge, http, app


def row(user_id: str) -> StreakRow:
    """A row of a user."""
    return StreakRow(user_id, user_id, 1, 1, 1, None, "UTC", None, None)


async def test_pages_may_be_shorter_than_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where PostgREST sends fewer rows than a page may have, the pages after it still bring everybody."""

    async def page(after: str | None, limit: int) -> list[StreakRow]:
        return [row(user) for user in USERS if after is None or user > after][: min(limit, 3)]

    async with surfaces() as (bridge, http, _):
        monkeypatch.setattr(bridge.reader, "page", page)
        found: list[str] = []
        wishes: dict[str, str] = {"limit": "1000"}
        while True:
            answer = (await http.get("/snapshot", params=wishes, headers={"apikey": KEY})).json()
            found += [item["user_id"] for item in answer["streaks"]]
            if answer["next"] is None:
                break
            wishes["after"] = answer["next"]
    assert found == USERS


class Database:
    """Answers nobody before it is awake, and knows how many wait.

    Attributes:
        awake: Whether it answers.
        asking: Reads under way, by user.
        most: The most that there ever were.
        asked: All reads.
    """

    def __init__(self) -> None:
        self.awake = asyncio.Event()
        self.asking: Counter[str] = Counter()
        self.most: Counter[str] = Counter()
        self.asked = 0
        self._news = asyncio.Condition()

    async def find(self, user_ids: Iterable[str]) -> Found:
        """Read nothing of one user."""
        (user,) = user_ids
        self.asked += 1
        await self._count(user, 1)
        self.most[user] = max(self.most[user], self.asking[user])
        await self.awake.wait()
        await self._count(user, -1)
        return Found({}, {user: "UTC"})

    async def until(self, user: str, number: int) -> None:
        """Wait until so many reads of a user are under way."""
        async with self._news:
            await self._news.wait_for(lambda: self.asking[user] == number)

    async def _count(self, user: str, change: int) -> None:
        async with self._news:
            self.asking[user] += change
            self._news.notify_all()


def bearer(user: str) -> dict[str, str]:
    """The header of a signed-in user."""
    claims = {"sub": user, "role": "authenticated", "exp": time.time() + 600}
    return {"Authorization": f"Bearer {jwt.encode(claims, SECRET, algorithm='HS256')}"}


async def test_one_user_cannot_load_the_database_at_will(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one user's reads four are under way, 96 wait in turn, and more are 429; others are read meanwhile."""
    database = Database()
    greedy, modest = USERS[:2]

    async def ask(http: httpx.AsyncClient, user: str, path: str = "/snapshot") -> Any:
        return await http.get(path, headers=bearer(user))

    async with surfaces() as (bridge, http, _), asyncio.timeout(LIMIT):
        monkeypatch.setattr(bridge.reader, "find", database.find)
        # The fifth part of the dashboard: it shares its turns with the snapshot.
        paths = ["/snapshot", "/snapshot", "/snapshot", "/snapshot", "/dashboard/user"] * 22
        open_requests = {asyncio.create_task(ask(http, greedy, path)) for path in paths}
        refused: list[httpx.Response] = []
        while len(refused) < 10:
            done, open_requests = await asyncio.wait(open_requests, return_when=asyncio.FIRST_COMPLETED)
            refused += [task.result() for task in done]
        assert {(one.status_code, one.headers["retry-after"]) for one in refused} == {(429, "1")}
        await database.until(greedy, 4)
        other = asyncio.create_task(ask(http, modest))
        await database.until(modest, 1)
        database.awake.set()
        assert (await other).status_code == 200
        served = [answer.status_code for answer in await asyncio.gather(*open_requests)]
        assert len(served) == 100
        assert 429 not in served
        assert (await ask(http, greedy)).status_code == 200
    assert database.most[greedy] == 4


async def test_nothing_is_read_for_those_who_have_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request whose client goes while it waits for its turn costs the database nothing."""
    database = Database()
    gone = asyncio.Event()
    user = USERS[0]

    async def receive() -> Message:
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(_: Message) -> None:
        pass

    async with surfaces() as (bridge, http, app), asyncio.timeout(LIMIT):
        monkeypatch.setattr(bridge.reader, "find", database.find)
        under_way = [asyncio.create_task(http.get("/snapshot", headers=bearer(user))) for _ in range(4)]
        await database.until(user, 4)
        headers = [(b"authorization", bearer(user)["Authorization"].encode())]
        scope = {"type": "http", "method": "GET", "path": "/snapshot", "query_string": b"", "headers": headers}
        left = asyncio.create_task(app(scope, receive, send))
        gone.set()
        database.awake.set()
        await asyncio.gather(*under_way, left)
    assert database.asked == 4
