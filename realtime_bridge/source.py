"""The one subscription to Supabase Realtime, supervised for ever.

The official client gives up after five tries, dies in silence when a callback raises, and never rejoins a channel that
the server closed. So a session here is one client and one channel, and any sign of trouble ends it: a fresh one
follows, after a pause that grows with jitter. Callbacks do nothing but put into a queue.
"""

import asyncio
import contextlib
import logging
import random
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from realtime import AsyncRealtimeChannel, AsyncRealtimeClient, RealtimePostgresChangesListenEvent
from realtime.types import RealtimeSubscribeStates
from websockets.exceptions import InvalidStatus, WebSocketException

from realtime_bridge.backoff import BackOff
from realtime_bridge.changes import TABLE
from realtime_bridge.health import Fault
from realtime_bridge.proxies import realtime_client
from realtime_bridge.reader import REMEDY_KEY
from realtime_bridge.redaction import redact

log = logging.getLogger(__name__)

_SUBSCRIBED = "Subscribed to PostgreSQL"
_REMEDY_PUBLICATION = f"Run: alter publication supabase_realtime add table public.{TABLE}"
_LONGEST_PAUSE = 30.0
_POLL = 0.5
_STEADY = 10.0
_FAREWELL = 0.5


@dataclass(frozen=True, slots=True)
class Frame:
    """A change arrived: the payload of a ``postgres_changes`` event."""

    payload: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Ready:
    """The server delivers from now on; what happened before may be lost."""


@dataclass(frozen=True, slots=True)
class Down:
    """The server does not deliver."""

    fault: Fault


SourceEvent = Frame | Ready | Down


class SessionEnded(Exception):  # noqa: N818 - every session ends
    """A session with Realtime is over.

    Attributes:
        fault: Why.
    """

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.reason)
        self.fault = fault


class Source:
    """Changes of ``user_streaks``, for ever.

    Args:
        supabase_url: The project's URL.
        key: The secret key.
        ready_timeout: Seconds to wait for the server to be ready before the session is replaced.
        recycle_after: Age in seconds at which a session is replaced.
        first_pause: The shortest pause between sessions, in seconds.
    """

    def __init__(
        self, supabase_url: str, key: str, *, ready_timeout: float, recycle_after: float, first_pause: float = 0.25
    ) -> None:
        self._url = f"{supabase_url}/realtime/v1"
        self._key = key
        self._ready_timeout = ready_timeout
        self._recycle_after = recycle_after
        self._first_pause = first_pause
        self._renewal = asyncio.Event()
        #: Called with every payload the moment it arrives; for benchmarks. Must not raise.
        self.tap: Callable[[Mapping[str, Any]], None] | None = None

    def renew(self) -> None:
        """Replace the session: it looks alive but delivers nothing."""
        self._renewal.set()

    async def events(self) -> AsyncGenerator[SourceEvent, None]:
        """Frames and what happens to the subscription, until the iterator is closed."""
        clock = asyncio.get_running_loop().time
        back_off = BackOff(self._first_pause, _LONGEST_PAUSE)
        while True:
            began, ready = clock(), False
            fault = Fault("the session with Realtime ended")
            try:
                async with contextlib.aclosing(self._session()) as session:
                    async for event in session:
                        ready = ready or isinstance(event, Ready)
                        yield event
            except SessionEnded as ended:
                fault = ended.fault
            lasted = clock() - began
            log.warning("Realtime: %s (session of %.1f s)", fault.reason, lasted)
            yield Down(fault)
            if ready and lasted > _STEADY:
                back_off.reset()
            await back_off.pause()

    async def _session(self) -> AsyncGenerator[SourceEvent, None]:
        self._renewal.clear()
        inbox: asyncio.Queue[SourceEvent] = asyncio.Queue()
        client = realtime_client(self._url, self._key)
        try:
            channel = self._prepare(client, inbox)
            await self._connect(client)
            await self._join(channel, inbox)
            async for event in self._pump(client, inbox):
                yield event
        finally:
            await _discard(client)

    def _prepare(self, client: AsyncRealtimeClient, inbox: asyncio.Queue[SourceEvent]) -> AsyncRealtimeChannel:
        def on_change(payload: Any) -> None:
            inbox.put_nowait(Frame(payload))
            if self.tap is not None:
                self.tap(payload)

        def on_system(payload: Any) -> None:
            # A model in some releases of the library, a dict in others; a callback must not raise.
            message = payload.get("message") if isinstance(payload, dict) else getattr(payload, "message", None)
            if message == _SUBSCRIBED:
                inbox.put_nowait(Ready())

        channel = client.channel("realtime-bridge")
        channel.on_system(on_system)
        channel.on_postgres_changes(RealtimePostgresChangesListenEvent.All, on_change, table=TABLE, schema="public")
        return channel

    async def _connect(self, client: AsyncRealtimeClient) -> None:
        try:
            await client.connect()
        except InvalidStatus as error:
            status = error.response.status_code
            remedy = REMEDY_KEY if status in (401, 403) else None
            raise SessionEnded(Fault(f"Realtime refused the connection (HTTP {status})", remedy)) from error
        except (OSError, TimeoutError, WebSocketException, EOFError) as error:
            # Only the class: the message may hold the URL, and the URL holds the key.
            raise SessionEnded(Fault(f"Realtime cannot be reached ({type(error).__name__})")) from error

    async def _join(self, channel: AsyncRealtimeChannel, inbox: asyncio.Queue[SourceEvent]) -> None:
        def on_state(state: RealtimeSubscribeStates, error: Exception | None) -> None:
            if state is not RealtimeSubscribeStates.SUBSCRIBED:
                inbox.put_nowait(Down(_explain(state, error)))

        try:
            await channel.subscribe(on_state)
        except Exception as error:
            # The library raises bare exceptions here when the socket breaks during the join.
            raise SessionEnded(Fault(f"Realtime broke off the join ({type(error).__name__})")) from error

    async def _pump(
        self, client: AsyncRealtimeClient, inbox: asyncio.Queue[SourceEvent]
    ) -> AsyncGenerator[SourceEvent, None]:
        clock = asyncio.get_running_loop().time
        deadline = clock() + self._ready_timeout
        recycle_at = clock() + self._recycle_after * random.uniform(0.9, 1.0)  # noqa: S311 - jitter
        while True:
            event: SourceEvent | None = None
            if not inbox.empty():
                event = inbox.get_nowait()
            else:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_POLL):
                        event = await inbox.get()
            if isinstance(event, Down):
                raise SessionEnded(event.fault)
            if isinstance(event, Ready):
                deadline = float("inf")
            if event is not None:
                yield event
            elif not _alive(client):
                raise SessionEnded(Fault("the connection to Realtime broke"))
            # Also on a stream that is never idle.
            if clock() > deadline:
                raise SessionEnded(Fault(f"Realtime was not ready within {self._ready_timeout:g} s"))
            if self._renewal.is_set():
                raise SessionEnded(Fault("Realtime went silent while the database changed"))
            if clock() > recycle_at:
                raise SessionEnded(Fault("the connection to Realtime is renewed before the server ends it"))


def _alive(client: AsyncRealtimeClient) -> bool:
    # is_connected stays True when the library's listen task has died of an exception, and nothing public shows that.
    listening = getattr(client, "_listen_task", None)
    return client.is_connected and (listening is None or not listening.done())


def _explain(state: RealtimeSubscribeStates, error: Exception | None) -> Fault:
    text = redact(str(error)) if error is not None and str(error) else state.value
    if "check Realtime is enabled" in text:
        return Fault(f"Realtime does not publish {TABLE}", _REMEDY_PUBLICATION)
    if any(word in text for word in ("JWT", "Token has expired", "InvalidJWT")):
        return Fault(f"Realtime refused the key ({text[:200]})", REMEDY_KEY if "expired" not in text else None)
    return Fault(f"Realtime closed the subscription ({text[:200]})")


async def _discard(client: AsyncRealtimeClient) -> None:
    """Close a client whatever state it is in, without waiting for a peer that does not answer."""
    tasks = [getattr(client, name, None) for name in ("_listen_task", "_heartbeat_task")]
    socket = getattr(client, "_ws_connection", None)
    for channel in client.get_channels():
        channel.rejoin_timer.reset()
        channel.join_push.destroy()
    with contextlib.suppress(Exception):
        # Not `asyncio.wait_for`: before Python 3.12 it swallows a cancellation that comes as its task ends.
        async with asyncio.timeout(_FAREWELL):
            await client.close()
    if socket is not None:
        socket.transport.abort()
    left = [task for task in tasks if task is not None]
    for task in left:
        task.cancel()
    if left:
        await asyncio.wait(left, timeout=_FAREWELL)
