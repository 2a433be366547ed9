"""The official clients, unchanged, against the stand-in for Realtime."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from realtime import AsyncRealtimeClient

from local_supabase.node import install
from local_supabase.realtime import RealtimeServer
from local_supabase.stack import StackInfo
from tests.support.realtime_database import SECRET_KEY, database, server

PROGRAM = Path(__file__).parents[1] / "js" / "realtime_client.mjs"
ANN = "0f8fad5b-d9cb-469f-a165-70867728950e"
BEN = "7c9e6679-7425-40de-944b-e07fc1f90ae7"
ALL = {"event": "*", "schema": "public", "table": "user_streaks"}
ONLY_ANN = {**ALL, "filter": f"user_id=eq.{ANN}"}
PATIENCE = 20.0


@pytest.fixture(scope="module")
def url(stack: StackInfo) -> Iterator[str]:
    """A database with the table of streaks."""
    with database(stack.database_url) as own:
        yield own


@pytest.fixture
async def realtime(url: str) -> AsyncIterator[RealtimeServer]:
    """A server of the test's own."""
    async with server(url) as running:
        yield running


@pytest.fixture
async def sql(url: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """A connection to the test's database; its table is empty."""
    connection = await asyncpg.connect(url)
    await connection.execute("truncate user_streaks")
    yield connection
    await connection.close()


class Events:
    """What a client reports, in order; `until` waits for one of a kind and returns it."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def until(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Wait for an event."""
        async with asyncio.timeout(PATIENCE):
            while True:
                event = await self.queue.get()
                if wanted(event):
                    return event

    async def subscribed(self, topic: str) -> None:
        """Wait until the server says that changes flow."""
        await self.until(
            lambda event: (
                event["kind"] == "system"
                and event["topic"] == topic
                and event["payload"]["message"] == "Subscribed to PostgreSQL"
            )
        )

    async def change(self) -> tuple[str, str, dict[str, Any], dict[str, Any]]:
        """Return the next change: topic, type, new and old row."""
        event = await self.until(lambda event: event["kind"] == "change")
        return event["topic"], event["type"], event["new"], event["old"]


def brief(change: tuple[str, str, dict[str, Any], dict[str, Any]]) -> tuple[str, str, str, Any]:
    """Return what matters of a change: its type, whose row, and the streak."""
    topic, kind, new, old = change
    return topic, kind, (new or old)["user_id"], new.get("current_streak")


INSERT = "insert into user_streaks values ($1, 1, 1, '2026-01-02', 'UTC', 1, now())"
UPDATE = "update user_streaks set current_streak = 2, version = 2 where user_id = $1"
DELETE = "delete from user_streaks where user_id = $1"
CHANGES = [(INSERT, ANN), (INSERT, BEN), (UPDATE, BEN), (UPDATE, ANN), (DELETE, BEN), (DELETE, ANN)]
STREAKS = {INSERT: 1, UPDATE: 2, DELETE: None}


async def check_changes(events: Events, sql: Any) -> None:
    """Change rows of two people, and check that the channel of all and the one of Ann hear exactly theirs."""
    for statement, user in CHANGES:
        await sql.execute(statement, user)
        heard = {brief(await events.change()) for _ in range(2 if user == ANN else 1)}
        change = (statement.split()[0].upper(), user, STREAKS[statement])
        assert heard == {(topic, *change) for topic in (("all", "ann") if user == ANN else ("all",))}


async def until_channels(realtime: RealtimeServer, count: int) -> None:
    """Wait until the server knows so many channels; the clients do not say when a leave has arrived."""
    async with asyncio.timeout(PATIENCE):
        while (await realtime.fault("stats"))["channels"] != count:  # noqa: ASYNC110  (the clients give no event)
            await asyncio.sleep(0.01)


@asynccontextmanager
async def python_client(realtime: RealtimeServer) -> AsyncIterator[AsyncRealtimeClient]:
    """Connect the Python client with the secret key."""
    client = AsyncRealtimeClient(f"ws://127.0.0.1:{realtime.port}/realtime/v1", SECRET_KEY)
    await client.connect()
    yield client
    await client.close()


async def python_subscribe(client: AsyncRealtimeClient, topic: str, binding: dict[str, str], events: Events) -> Any:
    """Subscribe the Python client; return the channel once changes flow."""

    def change(payload: dict[str, Any]) -> None:
        data = payload["data"]
        event = {
            "kind": "change",
            "topic": topic,
            "type": data["type"],
        }
        events.queue.put_nowait(event | {"new": data.get("record") or {}, "old": data.get("old_record") or {}})

    channel = client.channel(topic)
    options = {key: value for key, value in binding.items() if key != "event"}
    channel.on_postgres_changes(binding["event"], change, **options)  # type: ignore[arg-type]
    channel.on_system(
        lambda payload: events.queue.put_nowait(
            {"kind": "system", "topic": topic, "payload": {"message": payload.message}}
        )
    )
    await channel.subscribe()
    await events.subscribed(topic)
    return channel


async def test_python_client(realtime: RealtimeServer, sql: Any) -> None:
    """The Python package `realtime` joins, hears inserts, updates and deletes, filters, and leaves."""
    events = Events()
    async with python_client(realtime) as client:
        everything = await python_subscribe(client, "all", ALL, events)
        ann = await python_subscribe(client, "ann", ONLY_ANN, events)
        await check_changes(events, sql)
        await everything.unsubscribe()
        await sql.execute("insert into user_streaks (user_id) values ($1)", ANN)
        assert brief(await events.change())[:3] == ("ann", "INSERT", ANN)
        await ann.unsubscribe()
        await until_channels(realtime, 0)


class JavaScript(Events):
    """The program around @supabase/realtime-js."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        super().__init__()
        self._process = process
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            event = json.loads(line)
            if event["kind"] == "change":
                change = event["change"]
                event |= {"type": change["eventType"], "new": change["new"], "old": change["old"]}
            self.queue.put_nowait(event)

    def tell(self, command: str, **arguments: Any) -> None:
        """Give the program a command."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"command": command, **arguments}).encode() + b"\n")

    async def end(self) -> None:
        """Let the program end."""
        self.tell("quit")
        await asyncio.wait_for(self._process.wait(), PATIENCE)
        await self._reader


@pytest.fixture
async def javascript(realtime: RealtimeServer) -> AsyncIterator[JavaScript]:
    """The JavaScript client of the version that the gateway pins, connected with the secret key."""
    tools = await install(lambda _: None)
    process = await asyncio.create_subprocess_exec(
        tools.node,
        PROGRAM,
        tools.root,
        f"ws://127.0.0.1:{realtime.port}/realtime/v1",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={"PATH": os.environ["PATH"], "SUPABASE_KEY": SECRET_KEY},
    )
    client = JavaScript(process)
    yield client
    await client.end()


async def test_javascript_client(javascript: JavaScript, realtime: RealtimeServer, sql: Any) -> None:
    """`@supabase/realtime-js` joins, hears inserts, updates and deletes, filters, and leaves."""
    for topic, binding in (("all", ALL), ("ann", ONLY_ANN)):
        javascript.tell("join", topic=topic, bindings=[binding])
        await javascript.subscribed(topic)
    await check_changes(javascript, sql)
    javascript.tell("leave", topic="all")
    left = await javascript.until(lambda event: event["kind"] == "left")
    assert left["outcome"] == "ok"
    await sql.execute("insert into user_streaks (user_id) values ($1)", ANN)
    assert brief(await javascript.change())[:3] == ("ann", "INSERT", ANN)
    await until_channels(realtime, 1)


async def test_broadcast_and_presence_between_both_clients(javascript: JavaScript, realtime: RealtimeServer) -> None:
    """A broadcast and a presence cross from JavaScript (binary frames of version 2) to Python (version 1) and back."""
    events = Events()
    async with python_client(realtime) as client:
        channel = client.channel(
            "hall",
            {
                "config": {
                    "broadcast": {"ack": True, "self": False},
                    "presence": {"key": "py", "enabled": True},
                    "private": False,
                }
            },
        )
        channel.on_broadcast("*", lambda payload: events.queue.put_nowait({"kind": "broadcast", **dict(payload)}))
        joined = asyncio.Event()
        await channel.subscribe(lambda *_: joined.set())
        await asyncio.wait_for(joined.wait(), PATIENCE)
        javascript.tell("join", topic="hall", config={"broadcast": {"ack": True}, "presence": {"key": "js"}})
        await javascript.until(lambda event: event.get("status") == "SUBSCRIBED")

        javascript.tell("broadcast", topic="hall", event="gruß", payload={"text": "\u00e4\U0001f3c1", "n": [1, 2.5]})
        heard = await events.until(lambda event: event["kind"] == "broadcast")
        assert heard["event"] == "gruß"
        assert heard["payload"] == {"text": "\u00e4\U0001f3c1", "n": [1, 2.5]}
        assert (await javascript.until(lambda event: event["kind"] == "sent"))["outcome"] == "ok"

        await channel.send_broadcast("back", {"ok": True})
        heard = (await javascript.until(lambda event: event["kind"] == "broadcast"))["message"]
        assert (heard["event"], heard["payload"]) == ("back", {"ok": True})

        await channel.track({"mood": "fine"})
        state = await javascript.until(lambda event: event["kind"] == "presence" and "py" in event["state"])
        assert state["state"]["py"][0]["mood"] == "fine"
