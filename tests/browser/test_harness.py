"""The harness itself: it must see what it watches for."""

from __future__ import annotations

import pytest
from playwright.async_api import Page

from tests.support.bridge_process import BridgeProcess
from tests.support.chromium import Watch


async def test_errors_and_strays_are_seen(page: Page, watch: Watch, bridge: BridgeProcess) -> None:
    """An error in the console, an exception, and a request to another origin each fail a test."""
    await page.goto(f"{bridge.url}/healthz")
    await page.evaluate(
        """async () => {
          console.error("told");
          setTimeout(() => { throw new Error("thrown"); });
          await fetch("http://127.0.0.1:9/elsewhere", {mode: "no-cors"}).catch(() => {});
        }"""
    )
    await page.evaluate("() => new Promise((done) => setTimeout(done))")
    seen = " ".join(watch.errors)
    assert "told" in seen
    assert "thrown" in seen
    assert watch.strays == ["http://127.0.0.1:9/elsewhere"]
    with pytest.raises(AssertionError, match="errors in the browser"):
        watch.check()
    watch.errors.clear()
    with pytest.raises(AssertionError, match="outside"):
        watch.check()
    watch.strays.clear()
