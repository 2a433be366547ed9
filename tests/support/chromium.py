"""The machine's own Chromium, and a watch over everything that its pages do."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, WebError, async_playwright

from tests.support.stack import ROOT

#: Where tests leave what they saw, for people to look at; never under version control.
SCREENSHOTS = ROOT / "build/screenshots"
# Servers may be slow on a busy machine; a page that is right is right after a minute, too.
PATIENCE_MS = 60_000
FLAGS = (
    "--headless",
    "--no-sandbox",  # Chromium refuses a sandbox to root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
_REPORT_VIOLATION = """
document.addEventListener("securitypolicyviolation", (event) =>
  console.error(`content security policy: ${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}`));
"""


@dataclass
class Watch:
    """What pages did that they must not do.

    Attributes:
        origins: Where their requests may go, such as ``http://127.0.0.1:54330``.
        errors: Errors in the console, exceptions that nobody caught, violations of the content security policy.
        strays: Requests to other origins.
    """

    origins: set[str] = field(default_factory=set)
    errors: list[str] = field(default_factory=list)
    strays: list[str] = field(default_factory=list)
    _allowed: list[re.Pattern[str]] = field(default_factory=list)

    def allow(self, pattern: str) -> None:
        """Expect errors that match, such as those of a server that the test stops."""
        self._allowed.append(re.compile(pattern))

    def observe(self, context: BrowserContext) -> None:
        """Watch every page of a context from now on."""
        context.on("console", self._on_console)
        context.on("weberror", self._on_error)
        context.on("request", lambda request: self._on_request(request.url))
        context.on("page", self._on_page)

    def check(self) -> None:
        """Fail if pages did what they must not."""
        errors = [error for error in self.errors if not any(one.search(error) for one in self._allowed)]
        assert not errors, f"errors in the browser: {errors}"
        assert not self.strays, f"requests outside {sorted(self.origins)}: {self.strays}"

    def _on_page(self, page: Page) -> None:
        page.on("websocket", lambda socket: self._on_request(socket.url.replace("ws", "http", 1)))

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.errors.append(f"{message.text} ({message.location.get('url', '')})")

    def _on_error(self, error: WebError) -> None:
        self.errors.append(f"uncaught: {error.error}")

    def _on_request(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme in ("http", "https") and f"{parts.scheme}://{parts.netloc}" not in self.origins:
            self.strays.append(url)


ContextFactory = Callable[..., Any]


def chromium_program() -> str:
    """Return the path of Chromium; skip the test where there is none, but fail in CI."""
    program = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, _PROGRAMS)), None)
    if program is None:
        reason = "needs Chromium (Debian's package chromium), or its path in CHROMIUM"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return program


@asynccontextmanager
async def running_chromium() -> AsyncIterator[Browser]:
    """Keep a Chromium with a fresh user-data-dir running inside the block."""
    program = chromium_program()
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=list(FLAGS))
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def new_context(browser: Browser, watch: Watch, **options: Any) -> AsyncIterator[BrowserContext]:
    """Open a context (cookies, storage, windows of its own) that a watch observes.

    Args:
        browser: The browser.
        watch: Told of everything.
        **options: Of Playwright's ``new_context``, such as ``viewport`` or ``color_scheme``.
    """
    settings: dict[str, Any] = {"viewport": {"width": 1280, "height": 800}, "locale": "en-GB", "timezone_id": "UTC"}
    context = await browser.new_context(**{**settings, **options})
    context.set_default_timeout(PATIENCE_MS)
    await context.add_init_script(_REPORT_VIOLATION)
    watch.observe(context)
    try:
        yield context
    finally:
        await context.close()


async def shoot(page: Page, name: str, **options: Any) -> Path:
    """Save a picture of a page as ``build/screenshots/NAME.png`` and return its path."""
    file = SCREENSHOTS / f"{name}.png"
    await page.screenshot(path=file, animations="disabled", **options)
    return file


async def accessibility_violations(
    page: Page, axe: str, impacts: tuple[str, ...] = ("serious", "critical")
) -> list[str]:
    """Run axe-core over a page.

    Args:
        page: The page.
        axe: The source text of axe-core.
        impacts: How grave a finding must be to count.

    Returns:
        The findings: impact, rule, what to do, and the first elements.
    """
    # Through the debugger, which no content security policy of the page concerns.
    await page.evaluate(axe)
    result = await page.evaluate("() => axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{found['impact']}: {found['id']}: {found['help']}: {[node['target'] for node in found['nodes'][:5]]}"
        for found in result["violations"]
        if found["impact"] in impacts
    ]
