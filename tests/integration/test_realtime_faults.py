"""Fault switches of the stand-in for Realtime, its limits, and what happens to it when PostgreSQL fails."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aiohttp
import asyncpg
import pytest

from local_supabase.faults import Faults
from local_supabase.realtime import RealtimeServer
from local_supabase.stack import StackInfo
from tests.support.realtime_client import Client, connect, token
from tests.support.realtime_database import PUBLISHABLE_KEY, database, server

TOPIC = "realtime:things"
THINGS = {"event": "*", "schema": "public", "table": "things"}
TABLES = """
create table things (id int primary key);
alter publication supabase_realtime add table things;
"""


@pytest.fixture(scope="module")
def url(stack: StackInfo) -> Iterator[str]:
    """A database with one table."""
    with database(stack.database_url, TABLES) as own:
        yield own


@pytest.fixture
async def sql(url: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """A connection to the test's database; its table is empty."""
    connection = await asyncpg.connect(url)
    await connection.execute("truncate things")
    yield connection
    await connection.close()


@pytest.fixture
async def realtime(url: str) -> AsyncIterator[RealtimeServer]:
    """A server of the test's own."""
    async with server(url) as running:
        yield running


@pytest.fixture
async def client(realtime: RealtimeServer) -> AsyncIterator[Client]:
    """A subscribed socket of service_role."""
    async with connect(realtime) as connected:
        await connected.join(TOPIC, THINGS)
        yield connected


async def insert(sql: Any, *ids: int) -> None:
    """Insert rows, one commit each."""
    for number in ids:
        await sql.execute("insert into things values ($1)", number)


async def heard(client: Client) -> int:
    """Return the id of the next change's row."""
    number: int = (await client.change())["record"]["id"]
    return number


async def test_faults_are_off_unless_asked_for(url: str) -> None:
    """A server that was not started with faults refuses every fault."""
    plain = RealtimeServer(database_url=url, jwt_secret="x" * 32, secret_key="s", publishable_key="p")  # noqa: S106  (opens nothing)
    with pytest.raises(PermissionError):
        await plain.fault("abort")


@pytest.mark.parametrize("call", [{"name": "run"}, {"name": "nonsense"}, {"name": "close", "codes": 1}])
async def test_an_unknown_fault_or_argument_is_named(realtime: RealtimeServer, call: dict[str, Any]) -> None:
    """What is no fault, or no argument of one, is refused with its name in the message."""
    with pytest.raises(ValueError, match=call.get("name") if len(call) == 1 else "codes"):
        await realtime.fault(**call)


async def test_late_ready_delays_the_frame_and_loses_what_came_before(realtime: RealtimeServer, sql: Any) -> None:
    """Until the late "Subscribed" the channel lives but hears nothing, and what was committed by then never comes."""
    await realtime.fault("late_ready", seconds=0.3)
    async with connect(realtime) as early, connect(realtime) as late:
        await realtime.fault("late_ready", seconds=0)
        await early.join(TOPIC, THINGS)
        await realtime.fault("late_ready", seconds=0.3)
        await late.join(TOPIC, THINGS, wait=False)
        await insert(sql, 1)
        assert await heard(early) == 1
        assert await late.alive()
        assert await late.system() == "Subscribed to PostgreSQL"
        await insert(sql, 2)
        assert await heard(late) == 2


async def test_close_uses_the_code(realtime: RealtimeServer, client: Client) -> None:
    """The socket is closed with the code asked for."""
    await realtime.fault("close", code=4242, reason="because")
    assert await client.closed() == 4242


async def test_abort_says_nothing(realtime: RealtimeServer, client: Client) -> None:
    """The connection ends without a closing handshake."""
    await realtime.fault("abort")
    assert await client.closed() is None


async def test_half_open_neither_reads_nor_writes(realtime: RealtimeServer, client: Client, sql: Any) -> None:
    """A half-open socket stays connected and silent; when the network comes back, what was kept arrives."""
    await realtime.fault("half_open", seconds=0.5)
    await insert(sql, 1)
    await client.send("phoenix", "heartbeat", {}, join_ref=None)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(client.ws.receive(), 0.2)
    assert not client.ws.closed
    assert await heard(client) == 1
    assert (await client.receive())["event"] == "phx_reply"


async def test_refuse_rejects_new_sockets_only(realtime: RealtimeServer, client: Client) -> None:
    """New sockets get the HTTP error until it is over; the present one goes on."""
    await realtime.fault("refuse", seconds=60, status=502)
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await connect(realtime).__aenter__()
    assert refused.value.status == 502
    assert await client.alive()
    await realtime.fault("refuse", seconds=0)
    async with connect(realtime) as another:
        assert await another.alive()
    assert (await realtime.fault("stats"))["refused"] == 1


@pytest.mark.parametrize(
    ("fault", "messages"),
    [
        ("phx_error", []),
        ("token_expiry", ["Token has expired 0 seconds ago"]),
        ("rate_limit", ["Too many messages per second"]),
    ],
)
async def test_faults_that_end_a_channel(
    realtime: RealtimeServer, client: Client, sql: Any, fault: str, messages: list[str]
) -> None:
    """The channel of the topic ends as the server ends it, the others live, and it can be joined again."""
    await client.join("realtime:other", THINGS, join_ref="2")
    await realtime.fault(fault, topic=TOPIC)
    for message in messages:
        assert await client.system() == message
    frame = await client.receive()
    assert (frame["event"], frame["topic"]) == ("phx_error" if fault == "phx_error" else "phx_close", TOPIC)
    assert frame["ref"] == "1"
    await insert(sql, 1)
    assert (await client.receive())["topic"] == "realtime:other"
    assert (await client.join(TOPIC, THINGS, join_ref="3"))["status"] == "ok"


async def test_rate_limit_of_joins(realtime: RealtimeServer, client: Client) -> None:
    """The next join is refused with the reason, and the one after it succeeds."""
    await realtime.fault("rate_limit", joins=1)
    refused = await client.join("realtime:other", join_ref="2")
    assert refused["status"] == "error"
    assert refused["response"]["reason"].startswith("ClientJoinRateLimitReached")
    assert (await client.join("realtime:other", join_ref="3"))["status"] == "ok"


async def test_subscribed_again(realtime: RealtimeServer, client: Client) -> None:
    """The frame comes once more, on channels with bindings only."""
    await client.join("realtime:chat", join_ref="2")
    await realtime.fault("subscribed_again")
    frame = await client.receive()
    assert (frame["topic"], frame["payload"]["message"]) == (TOPIC, "Subscribed to PostgreSQL")
    assert await client.alive()


async def test_drop_changes_loses_exactly_so_many(realtime: RealtimeServer, client: Client, sql: Any) -> None:
    """The next n changes vanish without a word, and only they."""
    await realtime.fault("drop_changes", n=2)
    await insert(sql, 1, 2, 3)
    assert await heard(client) == 3
    await realtime.fault("drop_changes", n=5, table="another")
    await insert(sql, 4)
    assert await heard(client) == 4
    stats = await realtime.fault("stats")
    assert (stats["changes_seen"], stats["changes_dropped"]) == (4, 2)


async def test_hold_changes_delivers_later_what_came_up(realtime: RealtimeServer, client: Client, sql: Any) -> None:
    """Held changes come after the release, all and in order."""
    await realtime.fault("hold_changes")
    await insert(sql, 1, 2)
    assert await client.alive()
    await realtime.fault("hold_changes", seconds=0)
    assert [await heard(client), await heard(client)] == [1, 2]


async def test_oversize_and_garbage(realtime: RealtimeServer, client: Client) -> None:
    """The frame is larger than the official client's limit of 1 MiB; garbage comes as it is."""
    await realtime.fault("oversize")
    assert len(json.dumps(await client.receive())) > 1024 * 1024
    await realtime.fault("garbage", frames=["{", "[]"])
    assert [await client.ws.receive_str(), await client.ws.receive_str()] == ["{", "[]"]


async def test_a_socket_without_frames_is_closed(url: str) -> None:
    """A client that says nothing for the idle time is closed with 1000."""
    async with server(url, idle_timeout=0.2) as quick, connect(quick) as silent:
        assert await silent.closed() == 1000


async def test_a_client_that_does_not_read_is_cut_off(url: str, sql: Any) -> None:
    """What waits for one client is bounded, and others are not slowed by it."""
    async with server(url, max_backlog=100_000) as bounded, connect(bounded) as stuck:
        await stuck.join(TOPIC, THINGS)
        await bounded.fault("half_open")
        async with connect(bounded) as fresh:
            await fresh.join(TOPIC, THINGS)
            for first in range(1, 1000, 100):
                await sql.execute("insert into things select generate_series($1::int, $1 + 99)", first)
                assert [await heard(fresh) for _ in range(100)] == list(range(first, first + 100))
            assert await stuck.closed() is None


async def test_an_expired_or_changed_token(realtime: RealtimeServer) -> None:
    """A token that runs out ends its channel; a new one in time keeps it, and "Subscribed" follows."""
    async with connect(realtime, key=PUBLISHABLE_KEY) as signed_in:
        await signed_in.join(TOPIC, THINGS, access_token=token("authenticated", expires_in=2))
        await signed_in.send(TOPIC, "access_token", {"access_token": token("authenticated", expires_in=600)})
        assert await signed_in.system() == "Subscribed to PostgreSQL"
        for ignored in (None, "sb_publishable_x", 5):
            await signed_in.send(TOPIC, "access_token", {"access_token": ignored})
        assert await signed_in.alive()
        await signed_in.send(TOPIC, "access_token", {"access_token": token("authenticated", expires_in=1.5)})
        assert await signed_in.system() == "Subscribed to PostgreSQL"
        assert await signed_in.system() == "Token has expired 0 seconds ago"
        assert (await signed_in.receive())["event"] == "phx_close"


async def test_the_stream_survives_the_loss_of_its_sessions(realtime: RealtimeServer, client: Client, sql: Any) -> None:
    """When PostgreSQL ends the sessions, the server connects again, says "Subscribed" again, and changes flow."""
    others = "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and pid <> "
    await sql.execute(others + "pg_backend_pid()")
    assert await client.system() == "Subscribed to PostgreSQL"
    await insert(sql, 1)
    assert await heard(client) == 1
    assert (await realtime.fault("stats"))["sockets"] == 1


async def test_the_stream_survives_a_crash_of_postgresql(
    realtime: RealtimeServer, client: Client, url: str, faults: Faults
) -> None:
    """After kill -9 and a restart the channel is subscribed again by itself, and a join in between is served then."""
    await faults.postgres_kill()
    assert await client.alive()
    async with connect(realtime) as another:
        await another.join(TOPIC, THINGS, wait=False)
        await faults.postgres_start()
        for waiting in (client, another):
            assert await waiting.system() == "Subscribed to PostgreSQL"
        again = await asyncpg.connect(url)
        await again.execute("truncate things")
        await insert(again, 1)
        await again.close()
        assert [await heard(client), await heard(another)] == [1, 1]


async def test_a_publication_made_later_is_found(url: str, sql: Any) -> None:
    """The server starts without its publication, and serves it when it is made, also anew."""
    async with server(url, publication="later") as early, connect(early) as client:
        await client.join(TOPIC, THINGS, wait=False)
        assert await client.alive()
        await sql.execute("create publication later for table things")
        assert await client.system() == "Subscribed to PostgreSQL"
        await insert(sql, 1)
        assert await heard(client) == 1
        await sql.execute("drop publication later")
        await insert(sql, 2)
        await sql.execute("create publication later for table things")
        assert await client.system() == "Subscribed to PostgreSQL"
        await insert(sql, 3)
        assert await heard(client) == 3
        await sql.execute("drop publication later")


async def test_a_defect_ends_wait_with_its_cause(
    realtime: RealtimeServer, client: Client, sql: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is neither a fault of the client nor of PostgreSQL makes `wait` raise, so that the stack can stop."""

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    assert await client.alive()
    monkeypatch.setattr("local_supabase.wal.Decoder.feed", broken)
    await insert(sql, 1)
    with pytest.raises(ZeroDivisionError):
        await asyncio.wait_for(realtime.wait(), 10)


async def test_stop_ends_sockets_and_slot(url: str, sql: Any) -> None:
    """`stop` closes sockets with 1012, leaves no replication slot and no session, and `wait` then returns."""
    async with server(url) as running, connect(running) as client:
        await client.join(TOPIC, THINGS)
        await running.stop()
        assert await client.closed() == 1012
        await asyncio.wait_for(running.wait(), 10)
        assert await sql.fetchval("select count(*) from pg_replication_slots where database = current_database()") == 0


async def post(server_: RealtimeServer, path: str, key: str, **body: Any) -> tuple[int, str]:
    """Post to the server; return status and body."""
    url = f"http://127.0.0.1:{server_.port}/realtime/v1/api/broadcast{path}"
    async with aiohttp.ClientSession() as session, session.post(url, headers={"apikey": key}, **body) as response:
        return response.status, await response.text()


async def test_broadcast_over_http(realtime: RealtimeServer) -> None:
    """A message posted reaches the topic's channels of both versions; a wrong one is refused as a whole, by field."""
    message = {"topic": "hall", "event": "shout", "payload": {"n": 1}}
    async with connect(realtime) as one, connect(realtime, vsn="2.0.0") as two:
        await one.join("realtime:hall")
        await two.join("realtime:hall")
        assert (await post(realtime, "", "nonsense", json={"messages": [message]}))[0] == 401
        bad = await post(realtime, "", PUBLISHABLE_KEY, json={"messages": [message, {"topic": 5, "payload": {}}]})
        assert bad == (422, '{"errors": {"messages": [{}, {"topic": ["is invalid"], "event": ["can\'t be blank"]}]}}')
        assert (await post(realtime, "", PUBLISHABLE_KEY, data=b"{"))[0] == 422
        assert await post(realtime, "", PUBLISHABLE_KEY, json={"messages": [message]}) == (202, "")
        assert await post(realtime, "/hall/events/again", PUBLISHABLE_KEY, json=[2]) == (202, "")
        for client in (one, two):
            first, second = (await client.receive())["payload"], (await client.receive())["payload"]
            assert first == {"type": "broadcast", "event": "shout", "payload": {"n": 1}}
            assert second == {"type": "broadcast", "event": "again", "payload": [2]}
        octets = {"Content-Type": "application/octet-stream"}
        url = f"http://127.0.0.1:{realtime.port}/api/broadcast/hall/events/raw"
        async with aiohttp.ClientSession() as session:
            await session.post(url, headers={"apikey": PUBLISHABLE_KEY, **octets}, data=b"\x00\xff")
        assert (await two.ws.receive_bytes()).endswith(b"raw\x00\xff")
        assert await one.alive()


async def test_presence_ends_with_the_socket(realtime: RealtimeServer) -> None:
    """Members hear who comes, changes and goes, also when a connection just ends; a newcomer gets the present state."""
    wanted = {"key": "ann", "enabled": True}
    track = {"type": "presence", "event": "track"}
    async with connect(realtime) as watcher:
        await watcher.join("realtime:hall", presence={"key": "ben", "enabled": True})
        assert (await watcher.receive())["payload"] == {}
        async with connect(realtime) as present:
            await present.join("realtime:hall", presence=wanted)
            await present.send("realtime:hall", "presence", {**track, "payload": {"mood": "sad"}})
            first = (await watcher.receive())["payload"]["joins"]["ann"]["metas"][0]
            assert first["mood"] == "sad"
            await present.send("realtime:hall", "presence", {**track, "payload": {"mood": "fine"}})
            change = (await watcher.receive())["payload"]
            second = change["joins"]["ann"]["metas"][0]
            assert (second["mood"], second["phx_ref_prev"]) == ("fine", first["phx_ref"])
            assert change["leaves"]["ann"]["metas"] == [first]
            async with connect(realtime, vsn="2.0.0") as newcomer:
                await newcomer.join("realtime:hall", presence={"key": "", "enabled": True})
                state = await newcomer.receive()
                assert (state["event"], state["payload"]) == ("presence_state", {"ann": {"metas": [second]}})
        left = (await watcher.receive())["payload"]
        assert left == {"joins": {}, "leaves": {"ann": {"metas": [second]}}}
