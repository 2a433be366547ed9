"""Broadcast out (off unless asked for): each debounced change goes to its user's private Realtime channel.

Front ends that already listen with supabase-js to ``user:{id}:streaks`` for ``streak_updated`` need no new client. A
policy on ``realtime.messages`` decides who may join that channel.
"""

import asyncio
import logging
import random
from collections.abc import Sequence
from typing import TYPE_CHECKING

import httpx

from realtime_bridge.listeners import ListenerClosed
from realtime_bridge.messages import Message, MessageType

if TYPE_CHECKING:
    from realtime_bridge.bridge import Bridge

log = logging.getLogger(__name__)

EVENT = "streak_updated"
_BATCH = 100
_LONGEST_PAUSE = 10.0
_UNPROCESSABLE = 422


def topic_of(user_id: str) -> str:
    """The channel of a user."""
    return f"user:{user_id}:streaks"


class Broadcaster:
    """Publishes what a listener of everybody hears.

    Args:
        bridge: The bridge.
        http: A client for the project's REST, with the secret key.
        url: Where Realtime takes broadcasts.
        first_pause: The shortest pause before a batch is sent again, in seconds.
    """

    def __init__(self, bridge: "Bridge", http: httpx.AsyncClient, url: str, *, first_pause: float = 0.25) -> None:
        self._bridge = bridge
        self._http = http
        self._url = url
        self._first_pause = first_pause

    async def run(self) -> None:
        """Publish for ever; a listener that was closed while Realtime did not answer resumes where it was."""
        since: str | None = None
        while True:
            try:
                async with self._bridge.listen(since=since) as listener:
                    while listener.closed is None:
                        await listener.wait()
                        batch = listener.take(_BATCH)
                        await self.publish(batch)
                        since = batch[-1].id if batch else since
            except ListenerClosed:
                log.debug("broadcast: the bridge is stopping")
            await asyncio.sleep(1.0)

    async def publish(self, batch: Sequence[Message]) -> None:
        """Send the changes among some messages, again and again until Realtime has taken them.

        Args:
            batch: Messages of `Bridge.listen`.
        """
        messages = [
            {"topic": topic_of(str(message.user_id)), "event": EVENT, "payload": message.as_dict(), "private": True}
            for message in batch
            if message.type in (MessageType.CHANGE, MessageType.DELETE)
        ]
        pause = self._first_pause
        while messages and not await self._post(messages):
            # What changes meanwhile waits in the mailbox, the latest state of each user.
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - jitter is no secret
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def _post(self, messages: list[dict[str, object]]) -> bool:
        counters = self._bridge.counters
        try:
            response = await self._http.post(self._url, json={"messages": messages})
        except httpx.HTTPError as error:
            log.warning("broadcast: Realtime cannot be reached (%s)", type(error).__name__)
            counters.broadcast_errors += 1
            return False
        if response.is_success:
            counters.broadcast += len(messages)
            return True
        counters.broadcast_errors += 1
        log.warning("broadcast: Realtime answered HTTP %d", response.status_code)
        # Sent again it would be refused again, and hold up everything behind it.
        return response.status_code == _UNPROCESSABLE
