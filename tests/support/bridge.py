"""Listeners of every kind that believe what they are told, and the database's own word to compare it with."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from unittest.mock import ANY
from uuid import UUID

import asyncpg
import httpx
import websockets

from local_supabase.stack import StackInfo
from realtime_bridge import Bridge, BridgeSettings, Streak

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]
else:
    Connection = asyncpg.Connection
State = dict[str, Any]


def bridge_settings(stack: StackInfo, **changes: Any) -> BridgeSettings:
    """Settings for a bridge on the stack, on a free port and with a brisk reconcile."""
    values = {
        "supabase_url": stack.supabase_url,
        "supabase_secret_key": stack.secret_key,
        "supabase_jwt_secret": stack.jwt_secret or None,
        "supabase_publishable_key": stack.publishable_key or None,
        "port": 0,
        "reconcile_interval": 1.0,
        **changes,
    }
    return BridgeSettings(**values)


async def database_state(db: Connection, users: Iterable[UUID | str]) -> dict[str, State]:
    """What `get_user_streak` answers for each user."""
    rows = await db.fetch(
        "select u.id as of_user, s.* from unnest($1::uuid[]) u(id), lateral public.get_user_streak(u.id) s",
        [UUID(str(user)) for user in users],
    )
    states = {}
    for row in rows:
        values = {name: value for name, value in row.items() if name != "of_user"}
        states[str(row["of_user"])] = Streak(**values).as_dict()
    return states


@dataclass
class Follower:
    """A listener that keeps the last state of each user."""

    name: str
    users: list[str] | None
    states: dict[str, State] = field(default_factory=dict)
    messages: list[dict[str, Any]] = field(default_factory=list)
    arrivals: list[float] = field(default_factory=list)
    last_id: str | None = None
    failure: Exception | None = None
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    def hear(self, message: dict[str, Any]) -> None:
        """Believe a message, and check what every listener is promised."""
        self.messages.append(message)
        self.arrivals.append(time.perf_counter())
        kind, user = message["type"], message.get("user_id", "")
        if user:
            assert self.users is None or user in self.users, f"{self.name} heard of a stranger"
        if kind in ("snapshot", "change"):
            known, new = self.states.get(user, {}).get("version"), message["streak"]["version"]
            assert not known or new >= known, f"{self.name}: version went from {known} to {new}"
            self.states[user] = message["streak"]
        elif kind == "delete":
            self.states[user] = {**Streak().as_dict(), "timezone": ANY}  # the profile's, of which a DELETE says nothing
        elif kind == "reset":
            self.states.clear()
        if "seq" in message and message.get("state") is None:
            self.last_id = f"{message['epoch']}:{message['seq']}"
        self._news.set()

    def fail(self, error: Exception) -> None:
        """Note that the connection failed."""
        self.failure = error
        self._news.set()

    async def until(self, fulfilled: Callable[[Follower], bool], within: float = 20.0) -> None:
        """Wait until messages have made something true."""
        try:
            async with asyncio.timeout(within):
                while not fulfilled(self):
                    if self.failure is not None:
                        raise self.failure
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"{self.name}: not within {within} s; last: {self.messages[-3:]}") from None

    def knows(self, expected: dict[str, State]) -> bool:
        """Whether the last states are those expected."""
        return all(self.states.get(user) == state for user, state in expected.items())


@contextlib.asynccontextmanager
async def running(follower: Follower, source: AsyncIterator[dict[str, Any]]) -> AsyncIterator[Follower]:
    """Let a follower hear while the block runs; what went wrong in it is raised at the end."""

    async def run() -> None:
        try:
            async for message in source:
                follower.hear(message)
        except Exception as error:  # noqa: BLE001 - told to whoever waits, and raised at the end
            follower.fail(error)

    task = asyncio.create_task(run())
    try:
        yield follower
    finally:
        task.cancel()
        await asyncio.wait([task])
        if isinstance(follower.failure, AssertionError):
            raise follower.failure


async def in_process(bridge: Bridge, users: Sequence[str] | None, **wishes: Any) -> AsyncIterator[dict[str, Any]]:
    """Messages of `Bridge.listen`."""
    async with bridge.listen(user_ids=users, **wishes) as listener:
        async for message in listener:
            yield json.loads(message.json)


def query(users: Sequence[str] | None, **wishes: Any) -> httpx.QueryParams:
    """The parameters of `/events` and `/ws`."""
    named: list[tuple[str, str | int | float | bool | None]] = [("user_id", user) for user in users or ()]
    return httpx.QueryParams(named + [(name, str(value)) for name, value in wishes.items() if value is not None])


async def over_sse(url: str, token: str, users: Sequence[str] | None, **wishes: Any) -> AsyncIterator[dict[str, Any]]:
    """Messages of `GET /events`."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    async with (
        httpx.AsyncClient(timeout=None) as http,  # noqa: S113 - a stream has no end
        http.stream("GET", f"{url}/events", params=query(users, **wishes), headers=headers) as response,
    ):
        if response.status_code != 200:
            raise AssertionError(f"HTTP {response.status_code}: {(await response.aread()).decode()}")
        async for line in response.aiter_lines():
            if line.startswith("data: "):
                yield json.loads(line[6:])


async def over_websocket(
    url: str, token: str, users: Sequence[str] | None, **wishes: Any
) -> AsyncIterator[dict[str, Any]]:
    """Messages of `/ws`."""
    address = str(httpx.URL(url.replace("http", "ws", 1) + "/ws", params=query(users, **wishes)))
    headers = {"Authorization": f"Bearer {token}"}
    async with websockets.connect(address, additional_headers=headers, proxy=None) as socket:
        async for frame in socket:
            yield json.loads(frame)


async def agree(followers: Iterable[Follower], db: Connection, users: Iterable[str], within: float = 30.0) -> float:
    """Wait until every follower's last state is the database's; return how long that took in seconds."""
    began = time.perf_counter()
    expected = await database_state(db, users)
    for follower in followers:
        theirs = {user: expected[user] for user in (follower.users or expected)}
        left = within - (time.perf_counter() - began)
        try:
            await follower.until(lambda one, theirs=theirs: one.knows(theirs), max(left, 0.1))  # type: ignore[misc]
        except AssertionError:
            wrong = {
                u: (follower.states.get(u), state) for u, state in theirs.items() if follower.states.get(u) != state
            }
            raise AssertionError(f"{follower.name} differs from the database for {len(wrong)}: {wrong}") from None
    return time.perf_counter() - began
