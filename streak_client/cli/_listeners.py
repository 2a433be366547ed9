"""The demo's listeners: each keeps the last state it heard of, to be compared with the database's at the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING
from uuid import UUID

from streak_client.cli._events import Event, bridge_events

if TYPE_CHECKING:
    from realtime_bridge import Bridge


class Ears:
    """What one listener has heard.

    Args:
        name: How the listener is called in the demo's table.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.changes = 0
        self.versions: dict[UUID, int] = {}
        self._heard = asyncio.Event()

    def hear(self, event: Event) -> None:
        """Take one message.

        Args:
            event: A message of the bridge, as JSON.
        """
        if event["type"] == "change":
            self.changes += 1
        streak = event.get("streak")
        if streak:
            self.versions[UUID(event["user_id"])] = streak["version"] or 0
        self._heard.set()

    def missing(self, versions: Mapping[UUID, int]) -> int:
        """Count the users whose final state this listener does not have.

        Args:
            versions: The database's version of each user.

        Returns:
            How many users.
        """
        return sum(self.versions.get(user_id) != version for user_id, version in versions.items())

    async def catch_up(self, versions: Mapping[UUID, int]) -> None:
        """Wait until nothing is missing.

        Args:
            versions: The database's version of each user.
        """
        while self.missing(versions):
            self._heard.clear()
            await self._heard.wait()


@asynccontextmanager
async def listening(bridge: Bridge, url: str, key: str) -> AsyncIterator[list[Ears]]:
    """Run the demo's listeners: in process and over SSE, debounced and not.

    Args:
        bridge: The running bridge.
        url: Where it serves SSE.
        key: The secret key.

    Yields:
        What each has heard.
    """
    ears = [Ears("in process, every change"), Ears("SSE, every change"), Ears("SSE, debounced")]
    jobs = (
        _in_process(bridge, ears[0]),
        _over_sse(url, key, {"debounce": "0"}, ears[1]),
        _over_sse(url, key, {}, ears[2]),
    )
    tasks = [asyncio.create_task(job) for job in jobs]
    try:
        yield ears
    finally:
        for task in tasks:
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, Exception):
                raise result


async def _in_process(bridge: Bridge, ears: Ears) -> None:
    async with bridge.listen(debounce=0) as messages:
        async for message in messages:
            ears.hear(message.as_dict())


async def _over_sse(url: str, key: str, params: Mapping[str, str], ears: Ears) -> None:
    async with aclosing(bridge_events(url, key, params, lost=lambda _: None)) as events:
        async for event in events:
            ears.hear(event)
