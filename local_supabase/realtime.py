"""A stand-in for Supabase Realtime: Phoenix channels over the changes that PostgreSQL logs.

It answers as a captured Realtime 2.129.8 did (`tests/data/realtime/`), quicker where that server takes its time; the
delays are `Settings`. It is for development and tests on one machine.

Left out:

* Tenants, rate limits, metrics, quotas, clustering, `log_level`. Limits can be simulated by faults.
* The old API that reads a binding from the topic (`realtime:public:table` without `config`).
* Tokens signed with asymmetric keys (JWKS), and the refresh throttle of tokens.
* Broadcast from the database (`realtime.send`), replay of private broadcasts, and `replication_ready`.
* Columns that PostgreSQL generates: `pgoutput` of version 17 does not publish them.
* A join while PostgreSQL is away succeeds and is subscribed later; the real server refuses it.
* One fault of the real server: where a version 1 and a version 2 socket hear of the same change on the same topic, it
  encodes the frame once and sends both the same one. Here each gets its own version.

The size that decides about "Payload Too Large" is an estimate, right to some dozens of bytes per column.
"""

import asyncio
import contextlib
import logging
import re
from typing import Any, Final

from aiohttp import web

from .database_errors import DATABASE_ERRORS
from .phoenix import negotiate
from .realtime_broadcasts import Broadcasts
from .realtime_faults import Faults
from .realtime_hub import Hub, Settings
from .realtime_socket import Socket
from .realtime_tokens import API_KEY_MISSING, TokenError, Tokens
from .wal import ChangeStream, PublicationMissingError

__all__ = ["RealtimeServer", "Settings"]

_log = logging.getLogger(__name__)

_RESTARTING: Final = 1012
_MAX_FRAME: Final = 10 * 1024 * 1024
_MAX_RECONNECT_DELAY: Final = 2.0


class RealtimeServer:
    """The server: HTTP and websockets in front, one stream of changes behind.

    Args:
        database_url: PostgreSQL with `wal_level = logical`; the role may replicate and read the catalog.
        jwt_secret: Secret of the project's HS256 tokens.
        secret_key: The project's `sb_secret_` key.
        publishable_key: The project's `sb_publishable_` key.
        host: Address to listen on.
        port: Port to listen on; 0 picks a free one.
        faults: Whether `fault` may be called.
        settings: Delays and limits.
    """

    def __init__(  # noqa: PLR0913  (what a project consists of)
        self,
        *,
        database_url: str,
        jwt_secret: str,
        secret_key: str,
        publishable_key: str,
        host: str = "127.0.0.1",
        port: int = 0,
        faults: bool = False,
        settings: Settings | None = None,
    ) -> None:
        self._settings = settings or Settings()
        self._hub = Hub(database_url, Tokens(jwt_secret, secret_key, publishable_key), self._settings)
        self._stream = ChangeStream(database_url, self._settings.publication, self._settings.poll_interval)
        self._sockets: set[Socket] = set()
        self._faults = Faults(self._hub, self._sockets)
        self._faults_allowed = faults
        self._host, self._port = host, port
        self._runner: web.AppRunner | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._stopped = asyncio.Event()

    @property
    def port(self) -> int:
        """The port that the server listens on."""
        return self._port

    async def start(self) -> None:
        """Listen, and begin to stream changes; does not wait for PostgreSQL.

        Raises:
            OSError: The port is taken.
        """
        self._stopped.clear()
        broadcasts = Broadcasts(self._hub)
        app = web.Application(client_max_size=_MAX_FRAME)
        for prefix in ("/realtime/v1", ""):
            app.router.add_post(f"{prefix}/api/broadcast", broadcasts.batch)
            app.router.add_post(f"{prefix}/api/broadcast/{{topic}}/events/{{event}}", broadcasts.single)
        for path in ("/realtime/v1/websocket", "/socket/websocket"):
            app.router.add_get(path, self._open_socket)
        # No access log: a socket's URL contains its key.
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self._port)
        await site.start()
        self._port = self._runner.addresses[0][1]
        self._tasks = [asyncio.create_task(self._stream_changes()), asyncio.create_task(self._watch_publication())]

    async def stop(self) -> None:
        """Close all sockets with code 1012, as the server does when it restarts, and stop listening."""
        await asyncio.gather(*(socket.close(_RESTARTING) for socket in list(self._sockets)), return_exceptions=True)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._stream.close()
        await self._hub.forget_connections()
        if self._runner is not None:
            await self._runner.cleanup()
        self._stopped.set()

    async def wait(self) -> None:
        """Wait until the server was stopped.

        Raises:
            Exception: What made it crash. The loss of PostgreSQL is no crash: the server reconnects.
        """
        stopped = asyncio.create_task(self._stopped.wait())
        try:
            done, _ = await asyncio.wait({stopped, *self._tasks}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                if not task.cancelled():
                    task.result()
        finally:
            stopped.cancel()

    async def fault(self, name: str, **args: Any) -> dict[str, Any]:
        """Make something go wrong, for tests.

        Args:
            name: A method of `realtime_faults.Faults`.
            **args: Its arguments.

        Returns:
            What it reports.

        Raises:
            PermissionError: The server was started without faults.
            ValueError: There is no such fault, or an argument does not fit.
        """
        if not self._faults_allowed:
            raise PermissionError("faults are off: start the server with faults=True")
        return await self._faults.run(name, args)

    async def _open_socket(self, request: web.Request) -> web.StreamResponse:
        refusal = self._faults.refusal()
        if refusal is not None:
            return refusal
        vsn = negotiate(request.query.get("vsn"))
        if vsn is None:
            return web.Response(status=403)
        key = request.headers.get("x-api-key", request.query.get("apikey"))
        reason = self._key_error(key)
        if key is None or reason is not None:
            await asyncio.sleep(self._settings.reject_delay)
            return web.json_response({"error": reason}, status=401)
        ws = web.WebSocketResponse(autoping=False, compress=False, max_msg_size=_MAX_FRAME, timeout=1)
        if not ws.can_prepare(request):
            return web.Response(status=400)
        await ws.prepare(request)
        transport = request.transport
        if isinstance(transport, asyncio.Transport):
            socket = Socket(self._hub, ws, transport, vsn, key, self._faults.count_frame)
            self._sockets.add(socket)
            try:
                await socket.run()
            finally:
                self._sockets.discard(socket)
        return ws

    def _key_error(self, key: str | None) -> str | None:
        if key is None:
            return API_KEY_MISSING
        try:
            self._hub.tokens.claims(key)
        except TokenError as error:
            return re.sub(r" -?\d+ seconds ago$", "", error.message)
        return None

    async def _stream_changes(self) -> None:
        """Stream for ever: after a loss of PostgreSQL, reconnect and subscribe everybody anew."""
        delay = self._settings.reconnect_delay
        again = False
        while True:
            try:
                await self._stream.open()
                self._hub.ready.set()
                delay = self._settings.reconnect_delay
                if again:
                    self._subscribe_all()
                again = True
                async for changes in self._stream.batches(self._faults.gate):
                    async with self._hub.connection() as connection:
                        await self._hub.delivery.deliver(connection, changes)
            except PublicationMissingError:
                _log.debug("there is no publication %s yet", self._settings.publication)
            except DATABASE_ERRORS as error:
                _log.warning("the stream of changes was interrupted: %s", type(error).__name__)
                await self._hub.forget_connections()
            self._hub.ready.clear()
            await self._stream.close()
            await asyncio.sleep(delay)
            delay = min(delay * 2, _MAX_RECONNECT_DELAY)

    def _subscribe_all(self) -> None:
        for channel in self._hub.channels():
            channel.subscribe()

    async def _watch_publication(self) -> None:
        """Subscribe everybody anew when tables join or leave the publication."""
        while True:
            await self._hub.ready.wait()
            with contextlib.suppress(*DATABASE_ERRORS):
                tables = await self._hub.published()
                for channel in self._hub.channels():
                    channel.notice_publication(tables)
            await asyncio.sleep(self._settings.publication_interval)
