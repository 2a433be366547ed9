"""``/ws``: listeners over WebSocket. The server speaks; a client only ever closes."""

import asyncio
import time
from urllib.parse import urlsplit

from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket

from realtime_bridge.access import BadRequest, Limits, Wishes, identify, refusal, wishes_of
from realtime_bridge.auth import AccessError, Authenticator, Principal
from realtime_bridge.bridge import Bridge
from realtime_bridge.iteration import Listener
from realtime_bridge.listeners import CLOSE_BAD_REQUEST, CLOSE_EXPIRED, ListenerClosed
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
                await self._serve(socket, principal, wishes)
        except (AccessError, BadRequest) as error:
            await socket.send_denial_response(refusal(error))
        except ListenerClosed as error:
            await socket.send_denial_response(refusal(AccessError(503, "STOPPING", error.reason)))

    def _check_origin(self, socket: WebSocket) -> None:
        # CORS does not cover WebSockets: a page of another origin could open one with a ticket that it got hold of.
        origin = socket.headers.get("origin")
        allowed = self._bridge.settings.allowed_origins
        if origin is None or "*" in allowed or origin in allowed:
            return
        if urlsplit(origin).netloc != socket.headers.get("host"):
            raise AccessError(403, "ORIGIN", "this origin may not connect")

    async def _serve(self, socket: WebSocket, principal: Principal, wishes: Wishes) -> None:
        listener = self._bridge.listen(**wishes.as_arguments())
        async with listener:
            await socket.accept()
            gone = asyncio.ensure_future(_heard(socket))
            gone.add_done_callback(lambda _: listener.wake())
            break_when_closed(listener, socket.scope, self._abort, asyncio.current_task())
            try:
                await self._pump(socket, listener, gone, principal)
            except asyncio.CancelledError:
                if listener.closed is None:
                    raise
            finally:
                gone.cancel()

    async def _pump(
        self, socket: WebSocket, listener: Listener, gone: asyncio.Future[bool], principal: Principal
    ) -> None:
        while True:
            left = None if principal.expires_at is None else principal.expires_at - time.time()
            if gone.done() and not gone.cancelled():
                if gone.result():
                    return
                listener.close(CLOSE_BAD_REQUEST, "this socket only sends")
            if left is not None and left <= 0:
                listener.close(CLOSE_EXPIRED, "the token has expired")
            batch = listener.take(_BATCH)
            for message in batch:
                await socket.send({"type": "websocket.send", "text": message.json})
            if batch:
                continue
            if listener.closed is not None:
                await socket.close(listener.closed.code, listener.closed.reason)
                return
            try:
                async with asyncio.timeout(left):
                    await listener.wait()
            except TimeoutError:
                continue


async def _heard(socket: WebSocket) -> bool:
    """Wait until the client is gone (True) or says something (False)."""
    message = await socket.receive()
    return bool(message["type"] == "websocket.disconnect")
