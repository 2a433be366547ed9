"""The widget when the network, the bridge, the token or the clock is not as it should be."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta

from playwright.async_api import Route, expect

from tests.browser.widget.conftest import Scene
from tests.support.stack import user_token

FAILED_REQUESTS = (
    r"ERR_INTERNET_DISCONNECTED|ERR_CONNECTION_REFUSED|WebSocket connection|ERR_NETWORK|ERR_CONNECTION_RESET"
)


async def test_offline_and_back(scene: Scene) -> None:
    """Offline it shows the last known state and says so; back online it catches up alone, without a reload."""
    await scene.act(1)
    window = await scene.open()
    await window.shows(1, "Not yet today")
    await window.page.evaluate("() => { window.mark = 'no reload'; }")
    await window.page.context.set_offline(True)
    await expect(window.widget("connection")).to_have_text(re.compile(r"^Offline, as of \d"))
    await window.shows(1, "Not yet today")
    await scene.act(0)
    assert await window.widget().evaluate("(widget) => widget.state") == "offline"
    await window.page.context.set_offline(False)
    await window.shows(2, "Done today")
    await expect(window.widget("connection")).to_be_hidden()
    assert await window.page.evaluate("() => window.mark") == "no reload"


async def test_the_bridge_restarts(scene: Scene) -> None:
    """Nothing that happened while the bridge was away is missed when it is back, and no reload is needed."""
    scene.watch.allow(FAILED_REQUESTS)
    await scene.act(1)
    window = await scene.open()
    await window.shows(1, "Not yet today")
    await window.is_live()
    scene.platform.bridge.stop()
    try:
        await expect(window.widget("connection")).to_contain_text("Offline, as of")
        await scene.act(0)
    finally:
        scene.platform.bridge.start()
    await window.shows(2, "Done today")
    await window.is_live()


async def test_a_token_that_ends_is_renewed(scene: Scene) -> None:
    """The bridge ends a connection with its token; the widget asks the host for another and never looks offline."""
    await scene.act(1)
    window = await scene.open()
    await window.is_live()
    lives = iter([5.0])

    async def answer(route: Route) -> None:
        await route.fulfill(body=scene.token(expires_in=next(lives, 3600.0)), content_type="application/json")

    await window.page.route("**/session", answer)
    async with window.page.expect_websocket():
        await window.widget().evaluate("(widget) => widget.reconnect()")
    async with window.page.expect_websocket():
        await scene.act(0)
    await window.shows(2, "Done today")
    await window.is_live()
    states = await window.page.locator("#events li", has_text="streak-state").all_inner_texts()
    assert states == ["streak-state: live"]
    assert (len(window.sockets), window.open_sockets()) == (3, 1)


async def test_an_expired_token_is_said_and_a_new_one_mends_it(scene: Scene) -> None:
    """A host that gives an expired token is told so in words and with a code; with a new one all goes on."""
    scene.watch.allow("401")
    await scene.act(1)
    window = await scene.open(session=scene.token(expires_in=-60))
    await expect(window.widget("connection")).to_have_text("Not signed in")
    assert await window.widget().evaluate("(widget) => widget.streak") is None
    await scene.answer_session(window.page, scene.token())
    await window.widget().evaluate("(widget) => widget.reconnect()")
    await window.shows(1, "Not yet today")
    await expect(window.widget("connection")).to_be_hidden()


async def test_two_users_never_see_each_other(scene: Scene) -> None:
    """Each browser shows its own user's streak, and the id of another user is refused, also one that is no id."""
    scene.watch.allow("403")
    scene.watch.allow("WebSocket connection")
    grace = scene.platform.users["grace"]
    await scene.act(1)
    await scene.act(3, 2, 1, user=grace)
    of_ada, of_grace = await scene.open(), await scene.open(name="grace")
    await of_ada.shows(1, "Not yet today")
    await of_grace.shows(3, "Not yet today")
    await scene.act(0)
    await of_ada.shows(2, "Done today")
    await of_grace.shows(3, "Not yet today")
    at_once = "async (widget, user) => { widget.userId = user; await null; await null; return widget.streak; }"
    assert await of_ada.widget().evaluate(at_once, str(grace)) is None
    await expect(of_ada.widget("connection")).to_have_text("Cannot be shown here")
    assert await of_ada.widget().evaluate("(widget) => widget.streak") is None
    await expect(of_ada.widget("current")).to_have_text("\u2013")
    await expect(of_ada.page.locator("#events li").first).to_have_text("streak-state: refused")
    await of_ada.widget().evaluate("(widget) => { widget.userId = 'nobody'; }")
    await expect(of_ada.widget("connection")).to_have_text("Cannot be shown here")
    await of_ada.widget().evaluate("(widget) => { widget.userId = ''; }")
    await of_ada.shows(2, "Done today")


async def test_another_user_signs_in_under_the_widget(scene: Scene) -> None:
    """When the session passes to another user, the same widget shows that user's streak and drops the first one's."""
    grace = scene.platform.users["grace"]
    await scene.act(1)
    await scene.act(3, 2, 1, user=grace)
    window = await scene.open()
    await window.shows(1, "Not yet today")
    await window.is_live()
    # Only who has heard something has a place in the stream to resume from.
    await scene.act(0)
    await window.shows(2, "Done today")
    token = user_token(scene.platform.bridge.stack, grace)
    await scene.answer_session(window.page, json.dumps({"token": token}))
    await window.widget().evaluate("(widget) => widget.reconnect()")
    await window.shows(3, "Not yet today")
    await window.is_live()
    await expect(window.page.locator("#events li", has_text="streak-milestone")).to_have_count(0)
    await scene.act(0, user=grace)
    await window.shows(4, "Done today")


async def test_a_streak_lapses_at_local_midnight_without_the_bridge(scene: Scene) -> None:
    """By its own clock the widget turns the day at the user's midnight, and lapses the streak at the next one."""
    scene.watch.allow(FAILED_REQUESTS)
    zone, wall = "Asia/Kathmandu", datetime.now(UTC)
    local_midnight = (wall + timedelta(hours=5, minutes=45)).replace(hour=0, minute=0, second=0, microsecond=0)
    left = timedelta(days=1) - ((wall + timedelta(hours=5, minutes=45)) - local_midnight)
    await scene.act(2, 1, 0, zone=zone)
    window = await scene.open(timezone_id="America/New_York")
    await window.page.clock.install()
    await window.page.reload()
    await window.shows(3, "Done today")
    scene.platform.bridge.stop()
    try:
        await window.page.clock.fast_forward(int((left - timedelta(minutes=2)).total_seconds() * 1000))
        await window.shows(3, "Done today")
        await window.page.clock.fast_forward(4 * 60_000)
        await window.shows(3, "Not yet today")
        await expect(window.widget("deadline")).to_have_text(re.compile("^23 hr 5[78] min left$"))
        await window.page.clock.fast_forward(24 * 3_600_000 - 8 * 60_000)
        await window.shows(3, "Not yet today")
        await window.page.clock.fast_forward(8 * 60_000)
        await window.shows(0, "Streak lapsed")
        await expect(window.widget("longest")).to_have_text("3 days")
        heard = await window.page.locator("#events li", has_text="lapsed").all_inner_texts()
        assert heard == ["streak-lapsed: 0 days", "streak-change: lapsed, 0 days"]
    finally:
        scene.platform.bridge.start()


async def test_a_lapse_that_the_bridge_tells_is_shown_once(scene: Scene) -> None:
    """A streak that lapses while the page is open is 0 at once, and the page hears of it once."""
    await scene.act(3, 2, 1)
    window = await scene.open()
    await window.shows(3, "Not yet today")
    await scene.db.execute(
        "update public.user_streaks set expires_at = now() + interval '2 seconds' where user_id = $1", scene.user
    )
    await window.shows(0, "Streak lapsed")
    await scene.db.execute("select * from public.expire_lapsed_streaks(1000)")
    version = await scene.db.fetchval("select version from public.user_streaks where user_id = $1", scene.user)
    swept = "(version) => document.querySelector('streak-widget').streak.version === version"
    await window.page.wait_for_function(swept, arg=version)
    assert await window.page.locator("#events li", has_text="streak-lapsed").count() == 1
    await scene.act(0)
    await window.shows(4, "Done today")
    assert await window.page.locator("#events li", has_text="streak-lapsed").count() == 1


async def test_a_wrong_clock_changes_no_countdown(scene: Scene) -> None:
    """On a device whose clock is three hours ahead the time left is the same, and nothing lapses early."""
    await scene.act(1)
    right, wrong = await scene.open(), await scene.open()
    await wrong.page.clock.install(time=datetime.now(UTC) + timedelta(hours=3))
    await wrong.page.reload()
    for window in (right, wrong):
        await window.shows(1, "Not yet today")

    left = [await window.widget("deadline").inner_text() for window in (right, wrong)]
    minutes = [
        60 * int((re.search(r"(\d+) hr", text) or "00")[1]) + int((re.search(r"(\d+) min", text) or "00")[1])
        for text in left
    ]
    assert abs(minutes[0] - minutes[1]) <= 2, left


async def test_a_tab_that_was_hidden_for_an_hour_catches_up(scene: Scene) -> None:
    """A tab that comes back after an hour connects anew and shows what happened."""
    await scene.act(1)
    window = await scene.open()
    await window.page.clock.install()
    await window.page.reload()
    await window.shows(1, "Not yet today")
    hide = """(state) => {
      Object.defineProperty(document, "visibilityState", {value: state, configurable: true});
      document.dispatchEvent(new Event("visibilitychange"));
    }"""
    await window.page.evaluate(hide, "hidden")
    await window.page.clock.fast_forward("01:00:00")
    before = len(window.sockets)
    await scene.act(0)
    async with window.page.expect_websocket():
        await window.page.evaluate(hide, "visible")
    assert len(window.sockets) > before
    await window.shows(2, "Done today")
    await window.is_live()
