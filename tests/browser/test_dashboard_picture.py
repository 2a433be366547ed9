"""The picture of the README: the dashboard while the demo plays.

``UPDATE_SCREENSHOTS=1`` takes it anew; otherwise the test checks that the page shows what the picture shows.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime

import pytest
import pytest_asyncio
from playwright.async_api import BrowserContext, expect

from local_supabase.stack import StackInfo
from realtime_bridge import ServedBridge, serve
from realtime_bridge.links import operator_link
from streak_client.cli._activity_file import demo_file, read_activity
from streak_client.cli._demo import run_demo
from tests.support.bridge import bridge_settings
from tests.support.chromium import Watch, shoot
from tests.support.dashboard import Connection, live
from tests.support.stack import ROOT

PICTURE = ROOT / "docs/images/dashboard.png"
WIDTH, HEIGHT = 1440, 900
PEOPLE = 275
UPDATE = bool(os.environ.get("UPDATE_SCREENSHOTS"))
# A day in a minute and a half for the picture, as fast as possible for the test.
SPEED = 960.0 if UPDATE else 0.0


@pytest_asyncio.fixture(loop_scope="session")
async def demo_bridge(stack: StackInfo, db: Connection, watch: Watch) -> AsyncIterator[ServedBridge]:
    """A bridge as `streaks up --demo` runs it; the demo's people go away with the test."""
    async with serve(bridge_settings(stack, reconcile_interval=10.0)) as served:
        await served.bridge.wait_live(60)
        watch.origins.add(served.url)
        yield served
    people = {activity.user_id for activity in read_activity(demo_file(), datetime.now(UTC))}
    await db.execute("delete from auth.users where id = any($1)", list(people))


@pytest.mark.timeout(600)
async def test_the_picture_shows_the_dashboard(
    open_context: Callable[..., Awaitable[BrowserContext]], demo_bridge: ServedBridge, stack: StackInfo
) -> None:
    """While the demo plays, the dashboard shows its people, their changes and both charts, as in the picture."""
    page = await (await open_context(viewport={"width": WIDTH, "height": HEIGHT})).new_page()
    await page.goto(operator_link(demo_bridge.url, demo_bridge.bridge.settings))
    await live(page)
    playing = asyncio.create_task(run_demo(stack, demo_bridge, SPEED))
    await expect(page.locator("#feed .row .kind", has_text="Started").first).to_be_visible()
    await playing
    await expect(page.locator("[data-counter=active]")).to_have_text(re.compile(r"^(27\d|2[89]\d|[3-9]\d\d|\d+,\d+)$"))
    await expect(page.locator("#board .row[aria-posinset='1']")).to_contain_text("days")
    newest = page.locator("#feed .row[aria-posinset='1']")
    await expect(newest).to_have_attribute("aria-setsize", re.compile(r"^\d{3,}$"))
    await expect(newest.locator(".step")).to_have_text(re.compile(r"\d"))
    for chart in ("rate", "latency"):
        await expect(page.locator(f"#{chart}-chart path.line").first).to_have_attribute("d", re.compile(r"M.*L"))
    await expect(page.locator("#p95")).to_contain_text(re.compile(r"\d m?s"))
    picture = await shoot(page, "dashboard-demo")
    await page.close()  # before its bridge ends
    if UPDATE:
        PICTURE.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(picture, PICTURE)
    header = PICTURE.read_bytes()[:24]
    assert struct.unpack(">II", header[16:24]) == (WIDTH, HEIGHT)
