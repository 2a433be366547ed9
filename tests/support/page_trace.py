"""The browser's own trace of a page: how long its main thread was kept by one task."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from playwright.async_api import Browser, Page

_CATEGORIES = ["toplevel", "devtools.timeline", "disabled-by-default-devtools.timeline"]
_TASKS = ("RunTask", "ThreadControllerImpl::RunTask")
_MAIN = "CrRendererMain"


@dataclass
class Trace:
    """What was traced.

    Attributes:
        wall_ms: How long each task of the renderers' main threads took.
        cpu_ms: How long each of them computed: what a busy machine does not change.
    """

    wall_ms: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)

    def __str__(self) -> str:
        long = sum(ms > 50 for ms in self.wall_ms)
        return (
            f"{len(self.wall_ms)} tasks, longest {max(self.wall_ms, default=0):.0f} ms "
            f"({max(self.cpu_ms, default=0):.0f} ms of CPU), {long} over 50 ms, {sum(self.cpu_ms):.0f} ms of CPU in all"
        )


@asynccontextmanager
async def traced(browser: Browser, page: Page) -> AsyncIterator[Trace]:
    """Trace a page while the block runs; the result is complete after it."""
    trace = Trace()
    await browser.start_tracing(page=page, categories=_CATEGORIES)
    try:
        yield trace
    finally:
        events: list[dict[str, Any]] = json.loads(await browser.stop_tracing())["traceEvents"]
        mains = {
            (event["pid"], event["tid"])
            for event in events
            if event.get("name") == "thread_name" and event["args"].get("name") == _MAIN
        }
        for event in events:
            if event.get("name") in _TASKS and (event["pid"], event["tid"]) in mains and event.get("ph") == "X":
                trace.wall_ms.append(event.get("dur", 0) / 1000)
                trace.cpu_ms.append(event.get("tdur", event.get("dur", 0)) / 1000)
