"""The bridge under a server that is not its own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import websockets

from realtime_bridge.shutdown import told_of_signals
from tests.support.stack import ROOT

KEY = "sb_secret_unit"
LIMIT = 60.0
RUNNING = re.compile(rb"running on (http://[\d.:]+)")


@contextlib.asynccontextmanager
async def under_uvicorn(folder: Path) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    """A bridge whose Supabase is away under uvicorn as it comes, and its URL."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "SUPABASE_URL": "http://127.0.0.1:9", "SUPABASE_SECRET_KEY": KEY}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "uvicorn", "--factory", "realtime_bridge.app:create_app_from_env", "--port", "0"),
        cwd=folder,
        env=env,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(LIMIT):
            while not (found := RUNNING.search(line := await process.stdout.readline())):
                assert line, "uvicorn ended"
        yield process, found[1].decode()
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_server_that_stops_sends_its_listeners_elsewhere(tmp_path: Path, number: signal.Signals) -> None:
    """On the signal an SSE listener is told 1012, a WebSocket closed with it, and the process ends, its log whole."""
    async with (
        under_uvicorn(tmp_path) as (process, url),
        asyncio.timeout(LIMIT),
        httpx.AsyncClient(base_url=url, timeout=None, trust_env=False) as http,  # noqa: S113 - a stream has no end
    ):
        ticket = (await http.post("/ticket", headers={"apikey": KEY})).json()["ticket"]
        async with (
            http.stream("GET", "/events", params={"ticket": ticket}) as events,
            websockets.connect(f"{url.replace('http', 'ws', 1)}/ws?ticket={ticket}", proxy=None) as socket,
        ):
            lines = events.aiter_lines()
            while not (await anext(lines)).startswith("data: "):
                pass
            await socket.recv()
            process.send_signal(number)
            rest = [line async for line in lines]
            await socket.wait_closed()
        log = (await process.communicate())[0].decode()
    assert socket.close_code == 1012
    assert any('"closed"' in line and "1012" in line for line in rest), rest
    assert "GET /events?ticket=<redacted>" in log
    assert ticket not in log
    assert not re.search("Logging error|Traceback", log)


async def test_handlers_are_chained_and_come_back() -> None:
    """The handler that was there is called after the bridge, and is there again afterwards."""
    heard: list[str] = []
    begun = asyncio.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: heard.append("server"))
    try:
        mine = signal.getsignal(signal.SIGTERM)
        with told_of_signals(begun.set):
            signal.raise_signal(signal.SIGTERM)
            async with asyncio.timeout(LIMIT):
                await begun.wait()
        assert heard == ["server"]
        assert signal.getsignal(signal.SIGTERM) is mine
    finally:
        signal.signal(signal.SIGTERM, before)


async def test_a_signal_that_nobody_handles_still_ends_the_process() -> None:
    """A signal without a handler keeps its default, so that it does not lose its effect."""
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with told_of_signals(lambda: None):
            assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)


def test_other_threads_may_serve() -> None:
    """Where the loop runs in another thread, which may not handle signals, the application starts all the same."""
    served: list[bool] = []

    async def serve() -> None:
        with told_of_signals(lambda: None):
            served.append(True)

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    thread.join(LIMIT)
    assert served == [True]
