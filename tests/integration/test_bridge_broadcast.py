"""Broadcast out: supabase-js front ends hear their own changes on a private Realtime channel."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Self
from uuid import UUID, uuid4

import pytest
from realtime import AsyncRealtimeClient, RealtimeSubscribeStates

from local_supabase.faults import Faults
from local_supabase.stack import StackInfo
from realtime_bridge import Bridge
from tests.support.bridge import Connection, bridge_settings
from tests.support.stack import user_token

NewUser = Callable[[], Awaitable[UUID]]
ACT = "select * from public.update_user_streak_atomic($1, 'UTC', null, now())"
TOUCH = "update public.user_streaks set longest_streak = longest_streak + 1 where user_id = $1"
# What hosted Supabase has, and the policy that lets each user hear only the own channel.
MESSAGES = """
create schema if not exists realtime;
create table realtime.messages (topic text not null, extension text not null, payload jsonb);
alter table realtime.messages enable row level security;
grant usage on schema realtime to authenticated, service_role;
grant select, insert on realtime.messages to authenticated, service_role;
create policy "hear the own streak" on realtime.messages for select to authenticated
  using (extension = 'broadcast'
    and current_setting('realtime.topic', true) = 'user:' || (select auth.uid())::text || ':streaks');
"""


@pytest.fixture
async def messages_table(db: Connection) -> AsyncIterator[None]:
    """`realtime.messages` as on a hosted project, unless the stack has one."""
    missing = not await db.fetchval("select to_regclass('realtime.messages') is not null")
    if missing:
        await db.execute(MESSAGES)
    yield
    if missing:
        await db.execute("drop table realtime.messages")


class Hook:
    """A front end with a user's token."""

    def __init__(self, stack: StackInfo, user: str, channel_of: str) -> None:
        self._client = AsyncRealtimeClient(f"{stack.supabase_url}/realtime/v1", token=stack.publishable_key)
        self._token = user_token(stack, user)
        self._channel_of = channel_of
        self.state: RealtimeSubscribeStates | None = None
        self.heard: asyncio.Queue[dict[str, Any]] = asyncio.Queue()

    async def __aenter__(self) -> Self:
        await self._client.set_auth(self._token)
        config: Any = {"config": {"private": True, "broadcast": {"ack": False, "self": False}, "presence": None}}
        channel = self._client.channel(f"user:{self._channel_of}:streaks", config)
        channel.on_broadcast("streak_updated", lambda message: self.heard.put_nowait(message["payload"]))
        await channel.subscribe(lambda state, _: setattr(self, "state", state))
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.remove_all_channels()


@pytest.mark.usefixtures("messages_table")
async def test_a_change_is_broadcast_to_its_user_alone(stack: StackInfo, db: Connection, new_user: NewUser) -> None:
    """The owner's private channel brings `streak_updated` with the change; a stranger cannot even join it."""
    user = str(await new_user())
    async with Bridge(bridge_settings(stack, broadcast=True, debounce=0.1)) as bridge, Hook(stack, user, user) as own:
        await bridge.wait_live(20)
        assert own.state is RealtimeSubscribeStates.SUBSCRIBED
        async with Hook(stack, str(uuid4()), user) as stranger:
            assert stranger.state is not RealtimeSubscribeStates.SUBSCRIBED
        await db.execute(ACT, UUID(user))
        message = await asyncio.wait_for(own.heard.get(), 10)
        assert (message["user_id"], message["event"], message["streak"]["current_streak"]) == (user, "started", 1)


@pytest.mark.usefixtures("messages_table")
async def test_a_broadcast_that_fails_is_sent_again(
    stack: StackInfo, db: Connection, new_user: NewUser, faults: Faults
) -> None:
    """While Realtime refuses broadcasts they are tried again and counted; then the latest state goes out."""
    user = str(await new_user())
    async with Bridge(bridge_settings(stack, broadcast=True, debounce=0)) as bridge, Hook(stack, user, user) as own:
        await bridge.wait_live(60)
        await faults.rest_error(503, path="/api/broadcast")
        await db.execute(ACT, UUID(user))
        async with asyncio.timeout(60):
            while not bridge.counters.broadcast_errors:
                await db.execute("select 1")
        await db.execute(TOUCH, UUID(user))
        await faults.rest_restore()
        async with asyncio.timeout(60):
            while (message := await own.heard.get())["streak"]["longest_streak"] != 2:
                pass
        assert message["user_id"] == user
        assert bridge.counters.broadcast >= 1


@pytest.mark.usefixtures("messages_table")
async def test_what_changed_while_no_bridge_ran_is_published(
    stack: StackInfo, db: Connection, new_user: NewUser
) -> None:
    """A page that stayed joined hears, once a bridge runs again, the present state of who changed meanwhile."""
    user = str(await new_user())
    async with Hook(stack, user, user) as own:
        assert own.state is RealtimeSubscribeStates.SUBSCRIBED
        await db.execute(ACT, UUID(user))
        async with Bridge(bridge_settings(stack, broadcast=True, debounce=0)), asyncio.timeout(60):
            message = await own.heard.get()
        assert (message["type"], message["user_id"], message["streak"]["current_streak"]) == ("snapshot", user, 1)
