"""The bridge's ASGI application, however it is built."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import httpx
import pytest
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.types import Message

from realtime_bridge import Bridge, BridgeSettings
from realtime_bridge.app import create_app, create_app_from_env
from realtime_bridge.bridge import _end

ORIGIN = "https://app.example"
# Nothing listens there: the surfaces answer all the same.
SUPABASE_URL = "http://127.0.0.1:9"


@contextlib.asynccontextmanager
async def _lifespan(app: Starlette) -> AsyncIterator[None]:
    """Start and stop an application as a server does: by events through its whole stack."""
    events, answers = asyncio.Queue[Message](), asyncio.Queue[Message]()
    serving = asyncio.create_task(app({"type": "lifespan"}, events.get, answers.put))
    await events.put({"type": "lifespan.startup"})
    assert await answers.get() == {"type": "lifespan.startup.complete"}
    yield
    await events.put({"type": "lifespan.shutdown"})
    await serving


@contextlib.asynccontextmanager
async def _from_env(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Starlette]:
    monkeypatch.setenv("SUPABASE_URL", SUPABASE_URL)
    monkeypatch.setenv("SUPABASE_SECRET_KEY", "sb_secret_unit")
    monkeypatch.setenv("BRIDGE_ALLOWED_ORIGINS", ORIGIN)
    app = create_app_from_env()
    async with _lifespan(app):
        yield app


@contextlib.asynccontextmanager
async def _around_a_bridge(_: pytest.MonkeyPatch) -> AsyncIterator[Starlette]:
    settings = BridgeSettings(
        supabase_url=SUPABASE_URL, supabase_secret_key=SecretStr("sb_secret_unit"), allowed_origins=(ORIGIN,)
    )
    async with Bridge(settings) as bridge:
        yield create_app(bridge)


@pytest.mark.parametrize("build", [_from_env, _around_a_bridge])
async def test_an_allowed_origin_may_read_and_others_may_not(
    build: Callable[[pytest.MonkeyPatch], contextlib.AbstractAsyncContextManager[Starlette]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each builder's app answers an allowed origin with its CORS header, and a stranger without."""
    async with (
        build(monkeypatch) as app,
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://bridge") as http,
    ):
        for origin, expected in ((ORIGIN, ORIGIN), ("https://stranger.example", None)):
            for path, status in (("/healthz", 200), ("/events", 401), ("/snapshot", 401)):
                answer = await http.get(path, headers={"Origin": origin})
                assert answer.status_code == status
                assert answer.headers.get("access-control-allow-origin") == expected


async def test_half_a_sign_in_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """A browser that goes in the middle of its request is answered into the void, and nothing fails."""
    sent = asyncio.Queue[Message]()
    events: list[Message] = [
        {"type": "http.request", "body": b'{"email":', "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive() -> Message:
        return events.pop(0)

    async with _around_a_bridge(monkeypatch) as app:
        path = "/dashboard/sign-in/password"
        scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": []}
        await app(scope, receive, sent.put)
    assert (await sent.get())["status"] == 400


async def test_a_bridge_stops_whatever_its_jobs_swallow() -> None:
    """A job in which a library swallowed the first cancellation is cancelled until it has ended."""

    async def stubborn() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        await asyncio.Event().wait()

    task = asyncio.create_task(stubborn())
    await asyncio.sleep(0)
    async with asyncio.timeout(60):
        await _end(task)
    assert task.cancelled()
