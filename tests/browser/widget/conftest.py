"""Fixtures of the widget's tests: the examples' platform, its people, and windows on it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest_asyncio
from playwright.async_api import BrowserContext, Locator, Page, Route, WebSocket, expect

from local_supabase.stack import StackInfo
from tests.support.chromium import PATIENCE_MS, Watch
from tests.support.platform import Platform, bundle_react, running_platform
from tests.support.stack import connection, insert_user, user_token

expect.set_options(timeout=PATIENCE_MS)
ACT = "select * from public.update_user_streak_atomic($1, $2, null, now() - make_interval(days => $3))"


@dataclass
class Window:
    """A page of the platform.

    Attributes:
        page: The page.
        sockets: Every WebSocket that it opened.
    """

    page: Page
    sockets: list[WebSocket] = field(default_factory=list)

    def widget(self, part: str = "") -> Locator:
        """Find the first widget, or a part of it."""
        widget = self.page.locator("streak-widget").first
        return widget.locator(f"[part={part}]") if part else widget

    def open_sockets(self) -> int:
        """Count the WebSockets that are open."""
        return sum(not socket.is_closed() for socket in self.sockets)

    async def shows(self, current: int, state: str) -> None:
        """Wait until the widget shows so many days and this about today."""
        await expect(self.widget("current")).to_have_text(str(current))
        await expect(self.widget("state")).to_have_text(state)

    async def is_live(self) -> None:
        """Wait until changes come at once."""
        await self.page.wait_for_function("() => document.querySelector('streak-widget')?.state === 'live'")


@dataclass
class Scene:
    """What a test plays with.

    Attributes:
        platform: The examples' platform with a bridge of its own, which a test may stop if it starts it again.
        watch: Sees what pages must not do.
        user: Signed in as ``ada``; without a streak when the test begins, as all of the platform's people.
        db: The database.
    """

    platform: Platform
    watch: Watch
    user: UUID
    db: asyncpg.Connection[asyncpg.Record]
    _open_context: Callable[..., Awaitable[BrowserContext]]

    async def open(self, path: str = "/", *, name: str = "ada", session: str = "", **options: Any) -> Window:
        """Sign in by name and open a page in a context of its own.

        Args:
            path: Of the page.
            name: Who signs in.
            session: What ``/session`` answers instead.
            **options: Of the context.
        """
        context = await self._open_context(**options)
        window = Window(await context.new_page())
        window.page.on("websocket", lambda socket: window.sockets.append(socket))  # noqa: PLW0108 - it wants an attribute
        if session:
            await self.answer_session(window.page, session)
        await window.page.goto(f"{self.platform.url}/sign-in?name={name}&to={path}")
        return window

    async def act(self, *days_ago: int, user: UUID | None = None, zone: str = "UTC") -> None:
        """Make a user active on some days, earliest first."""
        for days in days_ago:
            await self.db.execute(ACT, user or self.user, zone, days)

    def token(self, **claims: Any) -> str:
        """Return what ``/session`` would answer, with an access token that has these claims."""
        token = user_token(self.platform.bridge.stack, self.user, **claims)
        return json.dumps({"userId": str(self.user), "token": token})

    async def answer_session(self, page: Page, body: str) -> None:
        """Let ``/session`` answer something else from now on."""

        async def answer(route: Route) -> None:
            await route.fulfill(body=body, content_type="application/json")

        await page.unroute("**/session")
        await page.route("**/session", answer)


@pytest_asyncio.fixture(scope="module", loop_scope="session")  # its bridge reads the REST whose faults others count
async def platform(stack: StackInfo, npm: Path, tmp_path_factory: Any) -> AsyncIterator[Platform]:
    """The examples' platform, with two people."""
    folder = tmp_path_factory.mktemp("platform")
    bundle_react(npm, folder)
    async with connection(stack) as database:
        users = {name: await insert_user(database) for name in ("ada", "grace")}
    async with running_platform(stack, folder, users, debounce=0.3, max_wait=1.0) as running:
        yield running
    # A connection of its own: a test may have restarted PostgreSQL.
    async with connection(stack) as database:
        await database.execute("delete from auth.users where id = any($1)", list(users.values()))


@pytest_asyncio.fixture(loop_scope="session")
async def scene(
    platform: Platform,
    watch: Watch,
    db: asyncpg.Connection[asyncpg.Record],
    open_context: Callable[..., Awaitable[BrowserContext]],
) -> AsyncIterator[Scene]:
    """The platform, before anybody was active."""
    watch.origins |= {platform.url, platform.bridge.url}
    users = list(platform.users.values())
    try:
        yield Scene(platform, watch, platform.users["ada"], db, open_context)
    finally:
        await db.execute("delete from public.user_streaks where user_id = any($1)", users)
        await db.execute("delete from public.streak_days where user_id = any($1)", users)
