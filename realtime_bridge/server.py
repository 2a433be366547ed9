"""The bridge with its HTTP surfaces, in this process: what ``python -m realtime_bridge`` and ``streaks up`` run."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import uvicorn
import websockets.http11
from starlette.types import Scope
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from realtime_bridge.app import create_app
from realtime_bridge.bridge import Bridge
from realtime_bridge.settings import BridgeSettings

_SHUTDOWN = 5
_BACKLOG = 2048
_SEND_BUFFER = 64 * 1024
# A thousand users, as many as one may name, are 45 KB of URL; websockets stops at 8 unless told otherwise.
_LONGEST_LINE = 64 * 1024
_TOO_LONG = b'{"error": {"code": "INVALID_INPUT", "field": "url", "message": "not a request, or its URL is too long"}}'


def fast_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """What makes the fastest event loop that is installed, for `asyncio.Runner`; None: the standard one."""
    try:
        uvloop = import_module("uvloop")
    except ModuleNotFoundError:  # Windows has none
        return None
    made: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return made


class ServerStoppedError(RuntimeError):
    """The HTTP server ended by itself."""


@dataclass(frozen=True, slots=True)
class ServedBridge:
    """A bridge that serves.

    Attributes:
        url: Where, such as ``http://127.0.0.1:54330``.
        bridge: The bridge.
    """

    url: str
    bridge: Bridge
    _serving: asyncio.Task[None]

    async def wait(self) -> None:
        """Wait until the server ends.

        Raises:
            ServerStoppedError: It ended by itself.
        """
        await asyncio.wait([self._serving])
        if not self._serving.cancelled() and (error := self._serving.exception()):
            raise ServerStoppedError("the bridge's HTTP server failed") from error
        raise ServerStoppedError("the bridge's HTTP server ended")


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.up.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # Signals belong to whoever runs this process.
        yield

    def abort(self, scope: Scope) -> None:
        """Break a connection without waiting for what its peer has not read."""
        for connection in list(self.server_state.connections):
            if getattr(connection, "client", None) == scope.get("client"):
                transport = getattr(connection, "transport", None)
                if transport is not None:
                    transport.abort()


class _WebSockets(WebSocketsSansIOProtocol):
    """uvicorn's, with two of its refusals finished."""

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.handshake_exc is not None and not self.transport.is_closing():
            # Otherwise the peer would wait for an answer for ever, and the connection with it.
            head = b"HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nConnection: close\r\n"
            self.transport.write(b"%sContent-Length: %d\r\n\r\n%s" % (head, len(_TOO_LONG), _TOO_LONG))
            self.transport.close()

    async def send(self, message: Any) -> None:
        await super().send(message)
        # Otherwise every listener that is refused would be an error in the log.
        self.handshake_complete = self.handshake_complete or self.close_sent


@contextlib.asynccontextmanager
async def serve(settings: BridgeSettings) -> AsyncIterator[ServedBridge]:
    """Run a bridge and its server while the block runs.

    The server answers as soon as the block begins; `Bridge.wait_live` tells when changes flow.

    Args:
        settings: The settings; port 0 picks a free port.

    Yields:
        The URL and the bridge.

    Raises:
        OSError: The address is taken, or not ours.
    """
    websockets.http11.MAX_LINE_LENGTH = max(websockets.http11.MAX_LINE_LENGTH, _LONGEST_LINE)
    listener = _bind(settings.host, settings.port)
    with contextlib.closing(listener):
        host, port = listener.getsockname()[:2]
        async with Bridge(settings) as bridge:
            # The server comes first: the application needs its abort.
            config = uvicorn.Config(
                "",
                access_log=False,
                log_config=None,
                lifespan="off",
                ws=_WebSockets,
                ws_max_size=4096,
                # Messages are small, and a compressor for each of ten thousand sockets is not.
                ws_per_message_deflate=False,
                # The addresses of connections are how `abort` finds them; behind a proxy nothing else needs another.
                proxy_headers=False,
            )
            server = _Server(config)
            config.app = create_app(bridge, abort=server.abort)
            config.timeout_graceful_shutdown = _SHUTDOWN
            async with _running(server, listener) as serving:
                try:
                    yield ServedBridge(f"http://{_bracket(host)}:{port}", bridge, serving)
                finally:
                    bridge.stop()


@contextlib.asynccontextmanager
async def _running(server: _Server, listener: socket.socket) -> AsyncIterator[asyncio.Task[None]]:
    serving = asyncio.create_task(server.serve(sockets=[listener]), name="bridge-http")
    started = asyncio.create_task(server.up.wait())
    await asyncio.wait([serving, started], return_when=asyncio.FIRST_COMPLETED)
    started.cancel()
    try:
        yield serving
    finally:
        server.should_exit = True
        await asyncio.wait([serving])


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Accepted sockets inherit it: what a listener does not read must not pile up in the kernel either.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
        listener.setblocking(False)  # noqa: FBT003 - its name says it
    except OSError:
        listener.close()
        raise
    return listener


def _bracket(host: str) -> str:
    return f"[{host}]" if ":" in host else host
