"""``/ws``: listeners over WebSocket. The server speaks; a client only ever closes."""

import asyncio
from urllib.parse import urlsplit

from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket

from realtime_bridge.access import Limits, Wishes, identify, refusal, wishes_of
from realtime_bridge.alarm import Alarm
from realtime_bridge.auth import AccessError, Authenticator, Principal
from realtime_bridge.bridge import Bridge
from realtime_bridge.iteration import Listener
from realtime_bridge.listeners import CLOSE_BAD_REQUEST, CLOSE_EXPIRED, ListenerClosed
from realtime_bridge.parameters import BadRequest
from realtime_bridge.sse import Abort, break_when_closed

_BATCH = 64


class Sockets:
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
        """Serve one connection."""
        socket = WebSocket(scope, receive, send)
        try:
            self._check_origin(socket)
            principal = await identify(socket, self._authenticator, tickets=True)
            wishes = wishes_of(socket, principal, self._bridge)
            with self._limits.connection(principal):
                del socket  # it holds all that was parsed of the request
                await self._serve(scope, receive, send, principal, wishes)
        except (AccessError, BadRequest) as error:
            await WebSocket(scope, receive, send).send_denial_response(refusal(error))
        except ListenerClosed as error:
            stopping = AccessError(503, "STOPPING", error.reason)
            await WebSocket(scope, receive, send).send_denial_response(refusal(stopping))

    def _check_origin(self, socket: WebSocket) -> None:
        # CORS does not cover WebSockets: a page of another origin could open one with a ticket that it got hold of.
        origin = socket.headers.get("origin")
        allowed = self._bridge.settings.allowed_origins
        if origin is None or "*" in allowed or origin in allowed:
            return
        if urlsplit(origin).netloc != socket.headers.get("host"):
            raise AccessError(403, "ORIGIN", "this origin may not connect")

    async def _serve(self, scope: Scope, receive: Receive, send: Send, principal: Principal, wishes: Wishes) -> None:
        listener = self._bridge.listen(**wishes.as_arguments())
        async with listener:
            await receive()  # websocket.connect
            await send({"type": "websocket.accept"})
            gone = asyncio.ensure_future(_heard(receive))
            gone.add_done_callback(lambda _: listener.wake())
            break_when_closed(listener, scope, self._abort, asyncio.current_task())
            try:
                await self._pump(send, listener, gone, principal.expires_at)
            except asyncio.CancelledError:
                if listener.closed is None:
                    raise
            finally:
                gone.cancel()

    async def _pump(self, send: Send, listener: Listener, gone: asyncio.Future[bool], expires_at: float | None) -> None:
        with Alarm(None, expires_at, listener.wake) as alarm:
            while True:
                if gone.done() and not gone.cancelled():
                    if gone.result():
                        return
                    listener.close(CLOSE_BAD_REQUEST, "this socket only sends")
                if alarm.expired:
                    listener.close(CLOSE_EXPIRED, "the token has expired")
                batch = listener.take(_BATCH)
                for message in batch:
                    await send({"type": "websocket.send", "text": message.json})
                if batch:
                    continue
                if listener.closed is not None:
                    code, reason = listener.closed.code, listener.closed.reason
                    await send({"type": "websocket.close", "code": code, "reason": reason})
                    return
                await listener.wait()


async def _heard(receive: Receive) -> bool:
    """Wait until the client is gone (True) or says something (False)."""
    message = await receive()
    return bool(message["type"] == "websocket.disconnect")
