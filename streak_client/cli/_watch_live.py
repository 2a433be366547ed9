"""``streaks watch`` in a terminal: keeps the picture up to date until Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing

import httpx
from rich.console import Console
from rich.live import Live

from streak_client._proxies import is_loopback
from streak_client.cli._common import CommandError
from streak_client.cli._events import bridge_events
from streak_client.cli._watch_model import WatchModel
from streak_client.cli._watch_view import Screen, render

# Anybody's eye is slower; a bridge with 200 changes a second must not cost more than one with two.
FRAME_SECONDS = 0.2
CLOCK_SECONDS = 1.0
SUMMARY_SECONDS = 2.0
PLACES = 100
_NOT_FOR_US = {401, 403, 404}
Params = Mapping[str, str | list[str]]


class LiveWatch:
    """Fills a model from the bridge and draws it.

    Args:
        url: The bridge.
        key: The secret key or a token.
        params: ``user_id``, ``debounce`` and ``max_wait``.
        hint: What mends a bridge that cannot be reached; shown until the first connection.
    """

    def __init__(self, url: str, key: str, params: Params, hint: str) -> None:
        self._url = url
        self._key = key
        self._params = params
        self._hint = hint
        self._model = WatchModel(time.time())
        self._news = asyncio.Event()

    async def run(self, console: Console) -> None:
        """Watch until cancelled.

        Raises:
            CommandError: The bridge refuses the key or a parameter.
        """
        with Live(console=console, screen=True, auto_refresh=False) as live:
            try:
                async with _ended_by(signal.SIGTERM), asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._follow())
                    tasks.create_task(self._follow_board())
                    tasks.create_task(self._summarise())
                    tasks.create_task(self._draw(live, console))
            except* CommandError as group:
                raise _only(group) from None

    async def _follow(self) -> None:
        async with aclosing(bridge_events(self._url, self._key, self._params, self._lost, self._connected)) as events:
            async for event in events:
                self._model.hear(event, time.time())
                self._news.set()

    def _lost(self, reason: str) -> None:
        self._model.lost(f"{reason}{self._hint}; connecting again", time.time())
        self._news.set()

    def _connected(self) -> None:
        self._hint = ""
        self._model.connected(time.time())
        self._news.set()

    async def _follow_board(self) -> None:
        params = {name: value for name, value in self._params.items() if name != "user_id"}
        events = bridge_events(self._url, self._key, {**params, "top": str(PLACES)}, lambda _: None)
        with contextlib.suppress(CommandError):  # a user hears of that user alone: no leaderboard then
            async with aclosing(events):
                async for event in events:
                    if event.get("type") == "snapshot":
                        return  # a bridge that knows no leaderboards
                    self._model.hear_board(event, time.time())
                    self._news.set()

    async def _summarise(self) -> None:
        cursor, headers = "", {"Authorization": f"Bearer {self._key}"}
        async with httpx.AsyncClient(trust_env=not is_loopback(self._url), headers=headers) as http:
            while True:
                with contextlib.suppress(httpx.HTTPError, ValueError, KeyError):
                    params = {"after": cursor} if cursor else {}
                    answer = await http.get(f"{self._url}/dashboard/summary", params=params)
                    if answer.status_code in _NOT_FOR_US:
                        return
                    body = answer.raise_for_status().json()
                    self._model.hear_summary(body)
                    cursor = body.get("cursor", "")
                    self._news.set()
                await asyncio.sleep(SUMMARY_SECONDS)

    async def _draw(self, live: Live, console: Console) -> None:
        named = bool(self._params.get("user_id"))
        while True:
            self._news.clear()
            screen = Screen(*console.size, ascii_only=console.options.ascii_only)
            live.update(render(self._model, screen, time.time(), url=self._url, named=named), refresh=True)
            await asyncio.sleep(FRAME_SECONDS)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOCK_SECONDS - FRAME_SECONDS):
                    await self._news.wait()


@contextlib.asynccontextmanager
async def _ended_by(number: signal.Signals) -> AsyncIterator[None]:
    """Let a signal end the block as Ctrl-C does, so that the terminal is left as it was found."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None  # noqa: S101 - we are in one
    with contextlib.suppress(NotImplementedError):  # Windows
        loop.add_signal_handler(number, task.cancel)
    try:
        yield
    finally:
        with contextlib.suppress(NotImplementedError):
            loop.remove_signal_handler(number)


def _only(group: BaseExceptionGroup[CommandError]) -> CommandError:
    first = group.exceptions[0]
    return _only(first) if isinstance(first, BaseExceptionGroup) else first
