"""The dashboard for operators: what it shows, and how it lives through restarts and lost connections."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from uuid import UUID

import pytest
from playwright.async_api import Page, expect

from tests.support.bridge_process import BridgeProcess
from tests.support.chromium import Watch, shoot
from tests.support.dashboard import Connection, act, current, feed_row, live, open_as_operator, open_as_user
from tests.support.stack import user_token

NewUser = Callable[[], Awaitable[UUID]]
ANYTHING = re.compile(".+")


async def test_the_first_load_shows_everything(
    page: Page, bridge: BridgeProcess, db: Connection, new_user: NewUser
) -> None:
    """An operator's link shows counters, feed, leaderboard, risks and charts at once, and leaves no token behind."""
    strong, late = await new_user(), await new_user()
    for days in (2, 1, 0):
        await act(db, strong, days_ago=days)
    await act(db, late, days_ago=1)
    # Within the hours that are shown, whatever the time of day is.
    await db.execute("update public.user_streaks set expires_at = now() + interval '2 hours' where user_id = $1", late)
    await open_as_operator(page, bridge)
    await expect(feed_row(page, strong, "2 → 3")).to_be_visible()
    await expect(page.locator("#board .row", has_text=str(strong)[:8])).to_contain_text("3 days")
    await expect(page.locator("#risk .row", has_text=str(late)[:8])).to_contain_text("1 h 5")
    for counter in ("active", "active_today", "incremented"):
        await expect(page.locator(f"[data-counter={counter}]")).not_to_have_text("0")
    await expect(page.locator("#rate-chart path.line")).to_have_attribute("d", ANYTHING)
    assert "link" not in page.url
    stored = await page.evaluate(
        "() => [JSON.stringify(localStorage), JSON.stringify(sessionStorage), document.cookie]"
    )
    assert "eyJ" not in stored[0]
    assert "eyJ" in stored[1]
    assert not stored[2]


async def test_a_change_appears_by_itself(page: Page, bridge: BridgeProcess, db: Connection, new_user: NewUser) -> None:
    """An activity appears in the feed, in the counters and on the leaderboard without a reload."""
    user = await new_user()
    await act(db, user, days_ago=1)
    await open_as_operator(page, bridge)
    before = int((await page.locator("[data-counter=incremented]").inner_text()).replace(",", ""))
    await act(db, user)
    await expect(feed_row(page, user, "1 → 2")).to_contain_text("Increment")
    await expect(page.locator("[data-counter=incremented]")).to_have_text(f"{before + 1:,}")
    await expect(page.locator("#board .row", has_text=str(user)[:8])).to_contain_text("2 days")
    # what the change log had told before the stream did is no measure of a delivery
    await act(db, await new_user())
    await expect(page.locator("#p50")).to_contain_text("s")


async def test_a_restart_of_the_bridge_loses_nothing(
    page: Page, own_bridge: BridgeProcess, db: Connection, new_user: NewUser
) -> None:
    """While the bridge is away the page says so; when it is back, so is all that happened, without a reload."""
    user, other = await new_user(), await new_user()
    await act(db, user, days_ago=1)
    await open_as_operator(page, own_bridge)
    await page.evaluate("() => { window.sameDocument = true; }")
    own_bridge.stop()
    await expect(page.locator("#status-label")).to_have_text("Reconnecting")
    await act(db, user)
    own_bridge.start()
    await live(page)
    await expect(feed_row(page, user, "1 → 2")).to_have_count(1)
    await act(db, other)
    await expect(feed_row(page, other, "0 → 1")).to_have_count(1)
    assert await page.evaluate("() => window.sameDocument")


async def test_offline_and_back(
    page: Page, bridge: BridgeProcess, db: Connection, new_user: NewUser, watch: Watch
) -> None:
    """Without a network the page says that it shows the last known state, and catches up when there is one again."""
    watch.allow("ERR_INTERNET_DISCONNECTED|WebSocket")
    user = await new_user()
    await act(db, user, days_ago=1)
    await open_as_operator(page, bridge)
    await page.context.set_offline(True)
    await expect(page.locator("#status-label")).to_have_text("Offline")
    await expect(page.locator("#status-detail")).to_have_text("showing the last known state")
    await act(db, user)
    await page.context.set_offline(False)
    await live(page)
    await expect(feed_row(page, user, "1 → 2")).to_have_count(1)


async def test_an_hour_in_a_hidden_tab(page: Page, bridge: BridgeProcess, db: Connection, new_user: NewUser) -> None:
    """A tab that comes back after an hour shows the present at once, on a fresh connection."""
    user = await new_user()
    await act(db, user, days_ago=1)
    await page.clock.install()
    await open_as_operator(page, bridge)
    await turn(page, hidden=True)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    await page.clock.fast_forward("01:00:00")
    await act(db, user)
    assert not [url for url in asked if "/dashboard/" in url], "a hidden page asks for nothing"
    async with page.expect_websocket():
        await turn(page, hidden=False)
    await expect(feed_row(page, user, "1 → 2")).to_have_count(1)
    await live(page)


async def test_finding_a_user_by_keyboard(page: Page, bridge: BridgeProcess, db: Connection, new_user: NewUser) -> None:
    """The first digits of an id find a user, whose page shows streak, year and history; Back returns to all."""
    user = await new_user()
    for days in (2, 1, 0):
        await act(db, user, days_ago=days)
    await open_as_operator(page, bridge)
    search = page.get_by_role("combobox", name="Find a user by id")
    await search.focus()
    await page.keyboard.type(str(user)[:9])
    await expect(page.locator("#search-found [aria-selected=true]")).to_have_text(str(user))
    await page.keyboard.press("Enter")
    await current(page, 3)
    await expect(page.locator("#year rect.active")).to_have_count(3)
    await expect(page.locator("#history tr")).to_have_count(3)
    await expect(page.locator("#user-id")).to_have_text(str(user))
    await shoot(page, "dashboard-user")
    await page.go_back()
    await expect(page.locator("#feed")).to_be_visible()


async def test_a_pause_holds_the_feed(page: Page, bridge: BridgeProcess, db: Connection, new_user: NewUser) -> None:
    """A paused feed stands still and counts what is new; when it goes on, nothing is missing."""
    user = await new_user()
    await open_as_operator(page, bridge)
    await page.get_by_role("button", name="Pause").click()
    await act(db, user)
    await expect(page.locator("#pause")).to_have_text(re.compile(r"[1-9]\d* new"))
    await expect(feed_row(page, user, "0 → 1")).to_have_count(0)
    await page.locator("#pause").click()
    await expect(feed_row(page, user, "0 → 1")).to_be_visible()


async def test_the_leaderboard_shows_who_rises(
    page: Page, bridge: BridgeProcess, db: Connection, new_user: NewUser
) -> None:
    """Who overtakes others moves up at once, and is marked as risen."""
    users = [await new_user() for _ in range(3)]
    for user in users:
        for days in (3, 2, 1):
            await act(db, user, days_ago=days)
    for user in users[:2]:
        await act(db, user)
    await open_as_operator(page, bridge)
    row = page.locator("#board .row", has_text=str(users[2])[:8])
    await expect(row).to_contain_text("3 days")
    await act(db, users[2])
    await expect(row).to_contain_text("4 days")
    await expect(row.locator(".move")).to_have_text("▲2")


async def test_a_deleted_user_disappears(page: Page, bridge: BridgeProcess, db: Connection, new_user: NewUser) -> None:
    """A user who is deleted leaves the leaderboard, and the feed says so."""
    user = await new_user()
    for days in (3, 2, 1, 0):
        await act(db, user, days_ago=days)
    await open_as_operator(page, bridge)
    row = page.locator("#board .row:not([hidden])", has_text=str(user)[:8])
    await expect(row).to_be_visible()
    await db.execute("delete from auth.users where id = $1", user)
    await expect(feed_row(page, user, "Deleted")).to_be_visible()
    await expect(row).to_have_count(0)


@pytest.mark.parametrize(
    ("width", "height", "scheme"), [(360, 740, "light"), (1280, 800, "dark"), (1920, 1080, "light")], ids=str
)
async def test_every_size_and_theme(  # noqa: PLR0913, PLR0917 - fixtures
    open_context: Callable[..., Awaitable[object]],
    accessible: Callable[[Page], Awaitable[None]],
    bridge: BridgeProcess,
    db: Connection,
    new_user: NewUser,
    width: int,
    height: int,
    scheme: str,
) -> None:
    """On a phone, a desk and a wall, light and dark: nothing sticks out, and axe-core has no serious finding."""
    user = await new_user()
    for days in (1, 0):
        await act(db, user, days_ago=days)
    context = await open_context(viewport={"width": width, "height": height}, color_scheme=scheme)
    page: Page = await context.new_page()  # type: ignore[attr-defined]
    await open_as_operator(page, bridge)
    await expect(feed_row(page, user, "1 → 2")).to_be_visible()
    for view in ("overview", "user"):
        if view == "user":
            await feed_row(page, user, "1 → 2").locator("a").click()
            await current(page, 2)
            await expect(page.locator("#year rect.active")).to_have_count(2)
        assert await page.evaluate("() => document.documentElement.scrollWidth") <= width
        await shoot(page, f"dashboard-{view}-{width}-{scheme}", full_page=width < 1000)
        if width < 1900:
            await accessible(page)


async def turn(page: Page, *, hidden: bool) -> None:
    """Hide the page or show it, as a tab is hidden behind another."""
    await page.evaluate(
        """(hidden) => {
          for (const [name, value] of [["hidden", hidden], ["visibilityState", hidden ? "hidden" : "visible"]])
            Object.defineProperty(document, name, {configurable: true, get: () => value});
          document.dispatchEvent(new Event("visibilitychange"));
        }""",
        hidden,
    )


async def test_a_streak_made_anew_is_shown(
    page: Page, bridge: BridgeProcess, db: Connection, new_user: NewUser
) -> None:
    """A deleted streak is none on the user's page, and one made anew counts there and in the feed from 1 again."""
    user = await new_user()
    for days in (1, 0):
        await act(db, user, days_ago=days)
    await open_as_operator(page, bridge)
    await expect(feed_row(page, user, "0 → 1")).to_have_count(1)
    await page.evaluate("(id) => { location.hash = `#/user/${id}`; }", str(user))
    await current(page, 2)
    await db.execute("delete from public.user_streaks where user_id = $1", user)
    await current(page, 0)
    await act(db, user)
    await current(page, 1)
    await page.go_back()
    await expect(feed_row(page, user, "0 → 1")).to_have_count(2)


async def test_a_long_absence_loses_no_change(
    page: Page, bridge: BridgeProcess, db: Connection, new_user: NewUser, watch: Watch
) -> None:
    """What happened without a network is in the feed when there is one again, also if it is more than a first load."""
    watch.allow("ERR_INTERNET_DISCONNECTED|WebSocket")
    users = [await new_user() for _ in range(10)]
    await open_as_operator(page, bridge)
    await page.context.set_offline(True)
    await expect(page.locator("#status-label")).to_have_text("Offline")
    for user in users:
        for days in range(6, -1, -1):
            await act(db, user, days_ago=days)
    await page.context.set_offline(False)
    await live(page)
    await expect(feed_row(page, users[-1], "6 → 7")).to_be_visible()
    await page.locator("#feed").evaluate("(feed) => feed.scrollTo(0, 69 * 44 - 100)")
    await expect(feed_row(page, users[0], "Start")).to_be_visible()


async def test_a_silent_connection_is_replaced(page: Page, bridge: BridgeProcess, new_user: NewUser) -> None:
    """A connection that has brought nothing for a quarter of an hour may be dead: another one takes its place."""
    user = await new_user()
    await page.clock.install()
    await open_as_user(page, bridge, user_token(bridge.stack, user))
    async with page.expect_websocket():
        await page.clock.run_for("15:00")
    await live(page)


async def test_rows_are_read_in_their_order(
    page: Page, bridge: BridgeProcess, db: Connection, new_user: NewUser
) -> None:
    """A screen reader meets the rows of a list in the order in which they are seen."""
    await open_as_operator(page, bridge)
    for _ in range(3):
        user = await new_user()
        await act(db, user)
        await expect(feed_row(page, user, "0 → 1")).to_be_visible()
    in_order = """(rows) => {
      const places = rows.filter((row) => !row.hidden).map((row) => Number(row.getAttribute("aria-posinset")));
      return places.length > 2 && places.every((place, index) => index === 0 || place > places[index - 1]);
    }"""
    assert await page.locator("#feed .row").evaluate_all(in_order)
