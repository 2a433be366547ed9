"""A proxy in the environment, where no proxy answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import aclosing
from uuid import UUID

import pytest

from local_supabase.stack import StackInfo
from realtime_bridge import serve
from realtime_bridge.proxies import is_loopback
from streak_client import AsyncStreakClient, StreakClient
from streak_client.cli._events import bridge_events
from tests.support.bridge import bridge_settings

# The discard port: nothing listens there.
DEAD = "http://127.0.0.1:9"


@pytest.fixture
def _dead_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, DEAD)
        monkeypatch.setenv(name.lower(), DEAD)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("_dead_proxy")
async def test_a_proxy_is_not_asked_for_this_machine(stack: StackInfo, new_user: Callable[[], Awaitable[UUID]]) -> None:
    """With proxies set and no NO_PROXY, both clients, the bridge and its listeners work on loopback addresses."""
    if not is_loopback(stack.supabase_url):
        pytest.skip("the Supabase under test is on another machine")
    user = await new_user()
    async with (
        AsyncStreakClient(stack.supabase_url, stack.secret_key) as client,
        serve(bridge_settings(stack)) as served,
    ):
        await served.bridge.wait_live(30)
        params: dict[str, str | list[str]] = {"user_id": [str(user)], "debounce": "0"}
        async with aclosing(bridge_events(served.url, stack.secret_key, params, pytest.fail)) as events:
            await anext(events)
            await client.update_user_streak(user)
            async for event in events:
                if event["type"] == "change":
                    break
    with StreakClient(stack.supabase_url, stack.secret_key) as sync:
        assert sync.get_user_streak(user).current_streak == 1
