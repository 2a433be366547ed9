"""``GET /events``: listeners over server-sent events.

Plain ASGI: a response class with its own task group for each of ten thousand connections would cost more memory than
the listener itself.
"""

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.types import Message as AsgiMessage
from starlette.types import Receive, Scope, Send

from realtime_bridge.access import Limits, Wishes, identify, refusal, wishes_of
from realtime_bridge.alarm import Alarm
from realtime_bridge.auth import AccessError, Authenticator, Principal
from realtime_bridge.bridge import Bridge
from realtime_bridge.iteration import Listener
from realtime_bridge.listeners import CLOSE_EXPIRED, ListenerClosed
from realtime_bridge.messages import Message, MessageType
from realtime_bridge.parameters import BadRequest

_BATCH = 256
_GRACE = 1.0
_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]

#: Breaks the connection of a scope at once, whatever its peer still has to read.
Abort = Callable[[Scope], None]


class Events:
    """The endpoint.

    Args:
        bridge: What to listen to.
        authenticator: Verifies who listens.
        limits: Counts connections.
        abort: Breaks connections that do not read.
    """

    def __init__(self, bridge: Bridge, authenticator: Authenticator, limits: Limits, abort: Abort | None) -> None:
        self._bridge = bridge
        self._authenticator = authenticator
        self._limits = limits
        self._abort = abort

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        request = Request(scope, receive)
        try:
            principal = await identify(request, self._authenticator, tickets=True)
            wishes = wishes_of(request, principal, self._bridge)
            with self._limits.connection(principal):
                await self._stream(scope, receive, send, principal, wishes)
        except (AccessError, BadRequest) as error:
            await refusal(error)(scope, receive, send)
        except ListenerClosed as error:
            await refusal(AccessError(503, "STOPPING", error.reason))(scope, receive, send)

    async def _stream(self, scope: Scope, receive: Receive, send: Send, principal: Principal, wishes: Wishes) -> None:
        listener = self._bridge.listen(**wishes.as_arguments())
        async with listener:
            gone = asyncio.ensure_future(_disconnected(receive))
            gone.add_done_callback(lambda _: listener.wake())
            break_when_closed(listener, scope, self._abort, asyncio.current_task())
            try:
                await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
                # Jittered, so that a thousand browsers do not come back in the same instant.
                await _write(send, b"retry: %d\n\n" % random.randint(1000, 3000))  # noqa: S311 - no secret
                await self._pump(listener, gone, principal, send)
            except asyncio.CancelledError:
                if listener.closed is None:
                    raise
            finally:
                gone.cancel()

    async def _pump(self, listener: Listener, gone: asyncio.Future[None], principal: Principal, send: Send) -> None:
        with Alarm(self._bridge.settings.keep_alive, principal.expires_at, listener.wake) as alarm:
            while not gone.done():
                if alarm.expired:
                    listener.close(CLOSE_EXPIRED, "the token has expired")
                batch = listener.take(_BATCH)
                if batch:
                    await _write(send, b"".join([message.sse for message in batch]))
                    alarm.wrote()
                elif listener.closed is not None:
                    await self._farewell(send, listener.closed)
                    return
                elif alarm.silent:
                    await _write(send, b": keep-alive\n\n")
                    alarm.wrote()
                else:
                    await listener.wait()

    async def _farewell(self, send: Send, closed: ListenerClosed) -> None:
        message = Message(
            MessageType.STATE, self._bridge.epoch, 0, state="closed", code=closed.code, reason=closed.reason
        )
        # Without an id: the listener resumes from the last message that had one.
        await _write(send, f"event: state\ndata: {message.json}\n\n".encode(), more=False)


def break_when_closed(listener: Listener, scope: Scope, abort: Abort | None, task: asyncio.Task[None] | None) -> None:
    """Make sure that a connection ends when its listener was closed, also if its peer does not read.

    Args:
        listener: The listener.
        scope: The connection.
        abort: Breaks it, if the server can.
        task: Serves it; cancelled where the server cannot.
    """

    def give_up() -> None:
        if abort is not None:
            abort(scope)
        elif task is not None:
            task.cancel()

    def closed() -> None:
        timer = asyncio.get_running_loop().call_later(_GRACE, give_up)
        if task is not None:
            task.add_done_callback(lambda _: timer.cancel())

    listener.when_closed(closed)


async def _disconnected(receive: Callable[[], Awaitable[AsgiMessage]]) -> None:
    with contextlib.suppress(asyncio.CancelledError):
        while (await receive())["type"] != "http.disconnect":
            pass


async def _write(send: Send, body: bytes, *, more: bool = True) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": more})
