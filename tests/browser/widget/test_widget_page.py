"""The widget in plain HTML, on the local stack with bridge and REST API."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable

import pytest
from playwright.async_api import Page, expect

from tests.browser.widget.conftest import Scene
from tests.support.chromium import shoot

Accessible = Callable[[Page], Awaitable[None]]
TIME_LEFT = re.compile(r"^(\d+ hr )?(\d+ min |less than a minute )?left$")
HOSTILE = "<img src=x onerror=\"document.title='taken'\"><script>document.title='taken'</script>"


async def test_the_plain_page_follows_a_streak(scene: Scene, accessible: Accessible) -> None:
    """A page with one line of HTML shows the streak, hears of each day as it counts, and tells the host page."""
    await scene.act(6, 5, 4, 3, 2, 1)
    window = await scene.open()
    await window.shows(6, "Not yet today")
    await expect(window.widget("deadline")).to_have_text(TIME_LEFT)
    await expect(window.widget("next-milestone")).to_have_text("7 days")
    await accessible(window.page)
    await window.page.locator("#solve").click()
    await window.shows(7, "Done today")
    await expect(window.widget("longest")).to_have_text("7 days")
    await expect(window.widget("next-milestone")).to_have_text("14 days")
    heard = await window.page.locator("#events li").all_inner_texts()
    assert heard[:2] == ["streak-milestone: 7", "streak-change: milestone, 7 days"]
    await accessible(window.page)


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_it_is_readable_in_every_state(scene: Scene, accessible: Accessible, scheme: str) -> None:
    """Light and dark, at 320 px and wide, done, waiting, lapsed, empty and offline: axe-core has no serious finding."""
    window = await scene.open(color_scheme=scheme, viewport={"width": 1280, "height": 900})
    await window.shows(0, "No streak yet")
    await accessible(window.page)
    await shoot(window.page, f"widget-{scheme}-empty")
    await scene.act(3, 2, 1)
    await window.shows(3, "Not yet today")
    await accessible(window.page)
    await shoot(window.page, f"widget-{scheme}-waiting")
    await window.page.set_viewport_size({"width": 320, "height": 640})
    await scene.act(0)
    await window.shows(4, "Done today")
    assert await window.page.evaluate("document.documentElement.scrollWidth") <= 320
    await shoot(window.page, f"widget-{scheme}-done-320")
    await window.page.context.set_offline(True)
    await expect(window.widget("connection")).to_contain_text("Offline, as of")
    await accessible(window.page)
    await shoot(window.page, f"widget-{scheme}-offline-320")


async def test_strings_of_users_stay_text(scene: Scene) -> None:
    """Markup in a heading, in labels, in a locale or in a zone is shown or ignored, never made into elements."""
    await scene.act(1)
    window = await scene.open()
    await window.is_live()
    await window.page.evaluate(
        """(text) => {
          const widget = document.querySelector("streak-widget");
          widget.heading = text;
          widget.locale = text;
          widget.theme = text;
          widget.labels = {best: text, notYetToday: text, timeLeft: text};
        }""",
        HOSTILE,
    )
    await expect(window.widget("title")).to_have_text(HOSTILE)
    await expect(window.widget("state")).to_have_text(HOSTILE)
    await expect(window.widget("deadline")).to_have_text(HOSTILE)
    assert await window.widget().locator("img, script").count() == 0
    assert await window.page.title() == "Streak widget in plain HTML"
    await expect(window.widget("card")).to_have_attribute("aria-label", HOSTILE)


async def test_it_speaks_other_languages_and_themes(scene: Scene) -> None:
    """A locale words numbers and units, labels the rest, `theme` wins over the system, and parts can be styled."""
    await scene.act(1)
    window = await scene.open(color_scheme="dark")
    await window.is_live()
    background = "(widget) => getComputedStyle(widget.shadowRoot.querySelector('.card')).backgroundColor"
    dark = await window.widget().evaluate(background)
    await window.widget().evaluate(
        "(widget) => Object.assign(widget, {locale: 'de', theme: 'light', labels: {best: 'Rekord'}})"
    )
    await expect(window.widget("unit")).to_have_text("Tag")
    await expect(window.widget("next-milestone")).to_have_text("7 Tage")
    await expect(window.widget("footer")).to_have_text("Rekord 1 Tag")
    assert await window.widget().evaluate(background) == "rgb(255, 255, 255)" != dark
    styled = """(widget) => {
      const sheet = new CSSStyleSheet();
      sheet.replaceSync(`
        streak-widget { --streak-background: rgb(1, 2, 3) }
        streak-widget::part(title) { color: rgb(4, 5, 6) }`);
      document.adoptedStyleSheets.push(sheet);
      return getComputedStyle(widget.shadowRoot.querySelector(".title")).color;
    }"""
    assert await window.widget().evaluate(styled) == "rgb(4, 5, 6)"
    assert await window.widget().evaluate(background) == "rgb(1, 2, 3)"


@pytest.mark.parametrize(("motion", "moves"), [("no-preference", True), ("reduce", False)])
async def test_it_moves_only_where_motion_is_welcome(scene: Scene, motion: str, *, moves: bool) -> None:
    """An increment is animated once, and for people who asked for less motion it is not; both are told of it."""
    await scene.act(1)
    window = await scene.open(reduced_motion=motion)
    await window.shows(1, "Not yet today")
    await window.widget().evaluate(
        """(widget) => {
          widget.moved = 0;
          widget.shadowRoot.addEventListener("animationstart", () => { widget.moved += 1; });
        }"""
    )
    await scene.act(0)
    await window.shows(2, "Done today")
    await expect(window.widget().get_by_role("status")).to_have_text("Daily streak: 2 days")
    if moves:
        await window.page.wait_for_function("() => document.querySelector('streak-widget').moved === 2")
    assert await window.widget().evaluate("(widget) => widget.moved") == (2 if moves else 0)


async def test_widgets_share_a_connection_and_leave_nothing_behind(scene: Scene) -> None:
    """Five widgets use one WebSocket; one that is moved keeps it; when the last is gone it closes; one comes back."""
    await scene.act(1)
    window = await scene.open()
    await window.shows(1, "Not yet today")
    await window.page.evaluate(
        """() => {
          const first = document.querySelector("streak-widget");
          for (let number = 0; number < 4; number += 1) first.after(first.cloneNode());
        }"""
    )
    await expect(window.page.locator("streak-widget").last.locator("[part=current]")).to_have_text("1")
    await window.page.evaluate(
        """() => {
          const widgets = document.querySelectorAll("streak-widget");
          for (const widget of widgets) document.body.append(widget);
          for (let turn = 0; turn < 20; turn += 1) {
            widgets[0].remove();
            document.body.prepend(widgets[0]);
            widgets[0].setAttribute("heading", `turn ${turn}`);
          }
        }"""
    )
    await scene.act(0)
    for number in range(5):
        await expect(window.page.locator("streak-widget").nth(number).locator("[part=current]")).to_have_text("2")
    assert (len(window.sockets), window.open_sockets()) == (1, 1)
    async with window.page.expect_event("console", lambda message: message.text == "closed"):
        window.sockets[0].on("close", lambda _: window.page.evaluate("() => console.log('closed')"))
        await window.page.evaluate(
            """() => {
              window.kept = [...document.querySelectorAll("streak-widget")];
              for (const widget of kept) widget.remove();
            }"""
        )
    assert window.open_sockets() == 0
    await window.page.evaluate("() => { document.body.append(window.kept[0]); }")
    await window.is_live()
    assert (len(window.sockets), window.open_sockets()) == (2, 1)
