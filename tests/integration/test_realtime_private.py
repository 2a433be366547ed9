"""Private channels: policies on `realtime.messages` decide, as PostgreSQL applies them."""

from collections.abc import AsyncIterator, Iterator

import aiohttp
import pytest

from local_supabase.realtime import RealtimeServer
from local_supabase.stack import StackInfo
from tests.support.realtime_client import Client, connect, token
from tests.support.realtime_database import PUBLISHABLE_KEY, SECRET_KEY, database, server

ANN = "0f8fad5b-d9cb-469f-a165-70867728950e"
BEN = "7c9e6679-7425-40de-944b-e07fc1f90ae7"

MESSAGES = """
create schema realtime;
create table realtime.messages (id bigint generated always as identity primary key, topic text not null,
  extension text not null, payload jsonb, event text, private boolean default false,
  inserted_at timestamp not null default now());
alter table realtime.messages enable row level security;
create function realtime.topic() returns text language sql stable as
  $$ select nullif(current_setting('realtime.topic', true), '') $$;
grant usage on schema realtime to anon, authenticated, service_role;
grant select, insert on realtime.messages to anon, authenticated, service_role;
create policy "hear own" on realtime.messages for select to authenticated
  using (realtime.topic() = 'user:' || auth.uid() or realtime.topic() = 'news');
create policy "write own" on realtime.messages for insert to authenticated
  with check (realtime.topic() = 'user:' || auth.uid());
"""


@pytest.fixture(scope="module")
def url(stack: StackInfo) -> Iterator[str]:
    """A database with policies on messages."""
    with database(stack.database_url, MESSAGES) as own:
        yield own


@pytest.fixture(scope="module")
def plain_url(stack: StackInfo) -> Iterator[str]:
    """A database without the table of messages."""
    with database(stack.database_url) as own:
        yield own


@pytest.fixture
async def realtime(url: str) -> AsyncIterator[RealtimeServer]:
    """A server of the test's own."""
    async with server(url) as running:
        yield running


async def join(client: Client, name: str, user: str | None, join_ref: str = "1") -> str | None:
    """Join a private channel; return the reason of a refusal."""
    access_token = token("authenticated", user) if user else None
    reply = await client.join(f"realtime:{name}", access_token=access_token, join_ref=join_ref, private=True)
    return None if reply["status"] == "ok" else str(reply["response"]["reason"])


async def test_only_those_join_whom_a_policy_lets_read(realtime: RealtimeServer) -> None:
    """The owner joins, a stranger and anon are refused with the reason, and a public channel of the name is another."""
    async with connect(realtime, key=PUBLISHABLE_KEY) as client:
        assert await join(client, f"user:{ANN}", ANN) is None
        refusal = f"Unauthorized: You do not have permissions to read from this Channel topic: user:{ANN}"
        assert await join(client, f"user:{ANN}", BEN, "2") == refusal
        assert (await client.receive())["event"] == "phx_close"  # of the join that the refused one replaced
        assert await join(client, f"user:{ANN}", None, "3") == refusal
        assert (await client.join(f"realtime:user:{ANN}", join_ref="4"))["status"] == "ok"


async def test_only_those_send_whom_a_policy_lets_write(realtime: RealtimeServer) -> None:
    """The owner's broadcast arrives, that of one who may only read does not, whether by socket or by HTTP."""
    shout = {"type": "broadcast", "event": "shout", "payload": {"n": 1}}
    async with connect(realtime, key=PUBLISHABLE_KEY) as ann, connect(realtime) as service:
        await join(ann, "news", ANN)
        await join(service, "news", None)
        await ann.send("realtime:news", "broadcast", shout)
        await join(ann, f"user:{ANN}", ANN, "2")
        await join(service, f"user:{ANN}", None, "2")
        await ann.send(f"realtime:user:{ANN}", "broadcast", shout, join_ref="2")
        assert (await service.receive())["topic"] == f"realtime:user:{ANN}"
        url = f"http://127.0.0.1:{realtime.port}/realtime/v1/api/broadcast"
        body = {"messages": [{"topic": "news", "event": "x", "payload": {}, "private": True}]}
        async with aiohttp.ClientSession() as session:
            for key in (token("authenticated", ANN), SECRET_KEY):
                answer = await session.post(url, headers={"apikey": key}, json=body)
                assert answer.status == 202
        frames = [await service.receive(), await ann.receive()]
        assert [frame["topic"] for frame in frames] == ["realtime:news", "realtime:news"]
        assert await service.alive()
        assert await ann.alive()


async def test_without_the_table_nobody_joins_a_private_channel(plain_url: str) -> None:
    """Where no policy can exist, a private channel is refused, never open."""
    async with server(plain_url) as plain, connect(plain) as client:
        reason = await join(client, "anything", None)
        assert reason is not None
        assert reason.startswith("Unauthorized")


async def test_a_new_token_without_the_right_ends_the_channel(realtime: RealtimeServer) -> None:
    """When a refreshed token may read no longer, the channel is closed with the reason."""
    topic = f"realtime:user:{ANN}"
    async with connect(realtime, key=PUBLISHABLE_KEY) as client:
        await join(client, f"user:{ANN}", ANN)
        await client.send(topic, "access_token", {"access_token": token("authenticated", BEN)})
        assert await client.system() == f"You no longer have permission to read from this Channel topic: user:{ANN}"
        assert (await client.receive())["event"] == "phx_close"
