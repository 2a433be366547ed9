"""Fixtures of the browser tests: one Chromium and one bridge for the whole session, a fresh window for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio
from playwright.async_api import Browser, BrowserContext, Page

from local_supabase.stack import StackInfo
from tests.support.bridge_process import BridgeProcess, bridge_process
from tests.support.chromium import Watch, accessibility_violations, new_context, running_chromium
from tests.support.npm_packages import node_modules
from tests.support.stack import connection

HERE = Path(__file__).parent
#: Shorter than the default, so that tests need not wait; long enough to be seen at work.
DEBOUNCE = 0.3


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run these tests in one loop, because the browser's connection belongs to one."""
    for item in items:
        if HERE in item.path.parents and pytest_asyncio.is_async_test(item):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    """A Chromium."""
    async with running_chromium() as running:
        yield running


@pytest.fixture(scope="module")  # not for longer: it reads the stack's REST, whose faults other tests count
def bridge(browser: Browser, stack: StackInfo, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BridgeProcess]:
    """A bridge on the stack that a module's tests share; a test that stops it starts one of its own."""
    del browser  # where there is none, no bridge is started either
    with bridge_process(stack, tmp_path_factory.mktemp("bridge"), debounce=DEBOUNCE, max_wait=1.0) as running:
        yield running


@pytest.fixture
def watch(bridge: BridgeProcess) -> Iterator[Watch]:
    """What the pages of this test must not do: errors, violations of the policy, requests to other origins."""
    watching = Watch({bridge.url})
    yield watching
    watching.check()


@pytest.fixture
def own_bridge(stack: StackInfo, watch: Watch, tmp_path: Path) -> Iterator[BridgeProcess]:
    """A bridge of this test alone, which may stop and start it; what a page then cannot reach is no error."""
    watch.allow("ERR_CONNECTION_REFUSED|ERR_CONNECTION_RESET|ERR_EMPTY_RESPONSE|WebSocket|503")
    with bridge_process(stack, tmp_path, debounce=DEBOUNCE, max_wait=1.0) as running:
        watch.origins.add(running.url)
        yield running


@pytest_asyncio.fixture(loop_scope="session")
async def open_context(browser: Browser, watch: Watch) -> AsyncIterator[Callable[..., Awaitable[BrowserContext]]]:
    """A function that opens one more context, with options such as ``color_scheme="dark"``."""
    async with AsyncExitStack() as contexts:

        async def open_one(**options: object) -> BrowserContext:
            return await contexts.enter_async_context(new_context(browser, watch, **options))

        yield open_one


@pytest_asyncio.fixture(loop_scope="session")
async def context(open_context: Callable[..., Awaitable[BrowserContext]]) -> BrowserContext:
    """A context of this test."""
    return await open_context()


@pytest_asyncio.fixture(loop_scope="session")
async def page(context: BrowserContext) -> Page:
    """An empty window."""
    return await context.new_page()


@pytest_asyncio.fixture(loop_scope="session")
async def db(stack: StackInfo) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """A connection to the stack's database as its owner, in the loop of these tests."""
    async with connection(stack) as database:
        yield database


@pytest.fixture(scope="session")
def npm() -> Path:
    """The folder ``node_modules`` with axe-core, esbuild, react and react-dom."""
    return node_modules()


@pytest.fixture(scope="session")
def accessible(npm: Path) -> Callable[[Page], Awaitable[None]]:
    """A function that fails when axe-core has a serious finding on a page."""
    axe = (npm / "axe-core/axe.min.js").read_text(encoding="utf-8")

    async def check(page: Page) -> None:
        findings = await accessibility_violations(page, axe)
        assert not findings, "\n".join(findings)

    return check
