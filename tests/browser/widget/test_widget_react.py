"""The widget and the original's hooks in React 19."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from playwright.async_api import Page, Route, expect

from tests.browser.widget.conftest import Scene
from tests.support.chromium import shoot


async def test_element_and_hooks_in_strict_mode(scene: Scene, accessible: Callable[[Page], Awaitable[None]]) -> None:
    """Mounted twice by StrictMode, element and hook share one live connection; a solved problem shows in both."""
    await scene.act(2, 1)
    window = await scene.open("/react/")
    summary = window.page.locator("#summary")
    await expect(summary).to_contain_text("🔥 2 day streak, best 2 (live) ⚠️ Solve a problem today")
    await window.shows(2, "Not yet today")
    await expect(window.widget("next-milestone")).to_have_text("7 days")
    assert len(window.sockets) == 1
    await window.page.locator("#solve").click()
    await expect(window.page.locator("#answer")).to_have_text("Day 3 of the streak.")
    await expect(summary).to_have_text("🔥 3 day streak, best 3 (live)")
    await window.shows(3, "Done today")
    await expect(window.page.locator("#events li").first).to_have_text("streak-change: incremented")
    assert (len(window.sockets), window.open_sockets()) == (1, 1)
    await accessible(window.page)
    await shoot(window.page, "widget-react")


async def test_unmounting_cleans_up_and_mounting_again_works(scene: Scene) -> None:
    """A component that goes away closes the connection; when it comes back it shows what happened meanwhile."""
    await scene.act(1)
    window = await scene.open("/react/")
    await window.shows(1, "Not yet today")
    await window.page.locator("#toggle").click()
    await expect(window.page.locator("streak-widget")).to_have_count(0)
    if window.open_sockets():
        await window.sockets[0].wait_for_event("close")
    await scene.act(0)
    await window.page.locator("#toggle").click()
    await window.shows(2, "Done today")
    assert (len(window.sockets), window.open_sockets()) == (2, 1)


async def test_a_failed_solve_is_said_and_the_streak_stays(scene: Scene) -> None:
    """When the backend fails, the hook gives the reason after its retries, which carry the same request id."""
    scene.watch.allow("503")
    window = await scene.open("/react/")
    await window.shows(0, "No streak yet")
    ids: list[str] = []

    async def fail(route: Route) -> None:
        ids.append((route.request.post_data_json or {})["requestId"])
        await route.fulfill(status=503, json={"detail": "Streaks cannot be reached now."})

    await window.page.route("**/api/streak/update", fail)
    await window.page.locator("#solve").click()
    await expect(window.page.locator("#answer")).to_have_text("Streaks cannot be reached now.")
    assert (len(ids), len(set(ids))) == (4, 1)
    await expect(window.page.locator("#solve")).to_be_enabled()
