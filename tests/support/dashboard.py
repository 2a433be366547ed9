"""The dashboard as people use it: opened, signed in to, looked at."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID

import asyncpg
from playwright.async_api import Locator, Page, expect

from tests.support.bridge_process import BridgeProcess

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]
else:
    Connection = asyncpg.Connection

# Playwright's own patience with an expectation; a page that is right is right after a minute, too.
expect.set_options(timeout=60_000)

ACT = "select * from public.update_user_streak_atomic($1, $2, null, now() - $3::interval)"


async def act(db: Connection, user_id: UUID, *, days_ago: int = 0, zone: str = "UTC") -> None:
    """Count an activity of a user."""
    await db.execute(ACT, user_id, zone, timedelta(days=days_ago))


async def open_as_operator(page: Page, bridge: BridgeProcess) -> None:
    """Open the dashboard by an operator's link and wait until it is live."""
    await page.goto(bridge.operator_link())
    await live(page)
    await expect(page.locator("[data-counter=active]")).to_have_text(re.compile(r"\d"))


async def open_as_user(page: Page, bridge: BridgeProcess, token: str) -> None:
    """Sign in with an access token and wait until the user's own page is live."""
    await page.goto(bridge.url)
    await paste(page, token)
    await live(page)
    await expect(page.locator("#hero")).not_to_have_attribute("aria-busy", "true")


async def paste(page: Page, token: str) -> None:
    """Enter an access token into the form."""
    form = page.locator("#token-form")
    if not await form.is_visible():
        await page.locator("#token-details summary").click()
    await form.locator("textarea").fill(token)
    await form.locator("button").click()


async def live(page: Page) -> None:
    """Wait until the page says that it is live."""
    await expect(page.locator("#status-label")).to_have_text("Live")


def feed_row(page: Page, user_id: UUID, step: str) -> Locator:
    """The row of the feed that shows a step of a user, such as ``1 → 2``."""
    return page.locator("#feed .row:not([hidden])", has_text=str(user_id)[:8]).filter(has_text=step)


async def current(page: Page, value: int) -> None:
    """Wait until a user's page shows a current streak."""
    await expect(page.locator("#hero-current")).to_have_text(str(value))
