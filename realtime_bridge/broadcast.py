"""Broadcast out (off unless asked for): each debounced change goes to its user's private Realtime channel.

Front ends that already listen with supabase-js to ``user:{id}:streaks`` for ``streak_updated`` need no new client. A
policy on ``realtime.messages`` decides who may join that channel.

Nothing is replayed to a page that was not joined: it reads its streak whenever it (re)joins. What the bridge itself may
have missed, while it was down or could not publish for long, follows as the present states of who changed lately.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from enum import Enum, auto
from typing import TYPE_CHECKING, Any

import httpx

from realtime_bridge.backoff import BackOff
from realtime_bridge.listeners import ListenerClosed
from realtime_bridge.messages import Message, MessageType

if TYPE_CHECKING:
    from realtime_bridge.bridge import Bridge

log = logging.getLogger(__name__)

EVENT = "streak_updated"
_BATCH = 100
#: No position of this run: the first listener, too, is told to begin anew.
_BEGINNING = "none:0"
#: What is the message's fault: malformed, too large. All else may pass: a wrong key, a missing route, a limit.
_REFUSALS = (400, 413, 422)


class _Fate(Enum):
    TAKEN = auto()
    LATER = auto()
    REFUSED = auto()


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
        # Between a reset and the last of its snapshots: what they say may never have been published.
        self._anew = False

    async def run(self) -> None:
        """Publish for ever; a listener that was closed while Realtime did not answer resumes where it was."""
        since = _BEGINNING
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

        What it refuses for good is sent in halves, so that nothing but the message at fault is dropped.

        Args:
            batch: Messages of `Bridge.listen`.
        """
        messages = [_encoded(message) for message in batch if self._is_news(message)]
        pending = deque([messages] if messages else [])
        back_off = BackOff(self._first_pause)
        while pending:
            part = pending.popleft()
            fate = await self._post(part)
            if fate is _Fate.LATER:
                # What changes meanwhile waits in the mailbox, the latest state of each user.
                pending.appendleft(part)
                await back_off.pause()
            elif fate is _Fate.REFUSED and len(part) > 1:
                half = len(part) // 2
                pending.extendleft((part[half:], part[:half]))
            else:
                self._bridge.counters.broadcast_dropped += fate is _Fate.REFUSED
                back_off.reset()

    def _is_news(self, message: Message) -> bool:
        self._anew = self._anew or message.type is MessageType.RESET
        anew = self._anew
        # Until the last snapshot after a reset, ids say that whoever resumes must begin anew.
        self._anew = anew and not message.seq
        kinds = (MessageType.CHANGE, MessageType.DELETE)
        return message.type in kinds or (anew and message.type is MessageType.SNAPSHOT)

    async def _post(self, messages: list[dict[str, Any]]) -> _Fate:
        counters = self._bridge.counters
        try:
            response = await self._http.post(self._url, json={"messages": messages})
        except httpx.HTTPError as error:
            log.warning("broadcast: Realtime cannot be reached (%s)", type(error).__name__)
            counters.broadcast_errors += 1
            return _Fate.LATER
        if response.is_success:
            counters.broadcast += len(messages)
            return _Fate.TAKEN
        counters.broadcast_errors += 1
        log.warning("broadcast: Realtime answered HTTP %d to %d messages", response.status_code, len(messages))
        # Sent again it would be refused again, and hold up everything behind it.
        return _Fate.REFUSED if response.status_code in _REFUSALS else _Fate.LATER


def _encoded(message: Message) -> dict[str, Any]:
    topic = topic_of(str(message.user_id))
    return {"topic": topic, "event": EVENT, "payload": message.as_dict(), "private": True}
