"""Fault switches over a Unix socket: one JSON object a line each way, for tests and only with `--faults`.

The request is `{"fault": "part.name", "arguments": {...}}`, the answer `{"ok": true, "result": {...}}` or
`{"ok": false, "error": "..."}`.
"""

import asyncio
import contextlib
import json
import os
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from local_supabase.errors import LocalSupabaseError

Turn = Callable[[str, dict[str, Any]], Awaitable[dict[str, Any]]]
"""What obeys a switch: takes its name and arguments, returns its result."""

_LONGEST_PATH = 100
"""Bytes; the systems allow 104 to 108."""


@asynccontextmanager
async def fault_socket(turn: Turn, folder: Path) -> AsyncIterator[str]:
    """Serve the switches on a socket that nobody else can open, inside the block.

    Args:
        turn: Obeys them.
        folder: Where the socket goes, unless its path would be too long.

    Yields:
        The socket's path.
    """
    short = None
    if len(os.fsencode(folder / "faults.sock")) > _LONGEST_PATH:
        folder = short = Path(tempfile.mkdtemp(prefix="local-supabase-", dir="/tmp"))
    path = folder / "faults.sock"
    handlers: set[asyncio.Task[None]] = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - asyncio runs handlers as tasks
        handlers.add(task)
        try:
            # asyncio reports a cancelled handler as an error, though the stack is only ending.
            with contextlib.suppress(asyncio.CancelledError):
                await _serve(turn, reader, writer)
        finally:
            handlers.discard(task)
            writer.close()

    server = await asyncio.start_unix_server(handle, sock=_listen(path))
    try:
        yield str(path)
    finally:
        server.close()
        for task in handlers:
            task.cancel()
        await asyncio.gather(*handlers)
        path.unlink(missing_ok=True)
        if short:
            shutil.rmtree(short, ignore_errors=True)


def _listen(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    mask = os.umask(0o177)
    try:
        listener.bind(str(path))
    finally:
        os.umask(mask)
    return listener


async def _serve(turn: Turn, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        async for line in reader:
            writer.write(json.dumps(await _answer(turn, line)).encode() + b"\n")
            await writer.drain()


async def _answer(turn: Turn, line: bytes) -> dict[str, Any]:
    try:
        request = json.loads(line)
        return {"ok": True, "result": await turn(request["fault"], request.get("arguments", {}))}
    except Exception as error:  # noqa: BLE001 - a wrong request must not end the stack
        return {"ok": False, "error": f"{type(error).__name__}: {error}"}


class Faults:
    """The client of the fault socket: one method per switch.

    Those of REST and PostgreSQL say so in their names; the others are of Realtime, and act on every open socket, or on
    the channels of `topic` (`realtime:...`) only.

    Faults of REST hold for `count` requests, or for `seconds`, or until `rest_restore`, and only for requests whose
    path contains `path` (such as `/rpc/`). They also hold for broadcasts over HTTP (`/realtime/v1/api/broadcast`).

    Args:
        socket_path: `FAULTS_SOCKET` of the READY line.
    """

    def __init__(self, socket_path: str | Path) -> None:
        self._path = str(socket_path)

    async def turn(self, fault: str, **arguments: Any) -> dict[str, Any]:
        """Turn one switch by name.

        Args:
            fault: `part.fault`, such as `rest.delay`.
            **arguments: Of the fault.

        Returns:
            What the switch reports.

        Raises:
            LocalSupabaseError: The switch does not exist, or could not be turned.
            OSError: The stack is gone.
        """
        reader, writer = await asyncio.open_unix_connection(self._path)
        try:
            writer.write(json.dumps({"fault": fault, "arguments": arguments}).encode() + b"\n")
            await writer.drain()
            answer = json.loads(await reader.readline() or '{"ok": false, "error": "the stack has ended"}')
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
        if not answer["ok"]:
            raise LocalSupabaseError(f"{fault}: {answer['error']}")
        result: dict[str, Any] = answer["result"]
        return result

    async def rest_error(
        self, status: int = 503, *, count: int | None = None, seconds: float | None = None, path: str = ""
    ) -> None:
        """Let REST answer with an error and do nothing.

        Args:
            status: The HTTP status.
            count: How many requests it holds for.
            seconds: How long it holds.
            path: Only requests whose path contains this.
        """
        await self.turn("rest.error", status=status, count=count, seconds=seconds, path=path)

    async def rest_delay(
        self, delay: float, *, count: int | None = None, seconds: float | None = None, path: str = ""
    ) -> None:
        """Let REST wait before it begins.

        Args:
            delay: Seconds.
            count: How many requests it holds for.
            seconds: How long it holds.
            path: Only requests whose path contains this.
        """
        await self.turn("rest.delay", delay=delay, count=count, seconds=seconds, path=path)

    async def rest_hang(self, *, count: int | None = None, seconds: float | None = None, path: str = "") -> None:
        """Let REST read the request, do nothing and never answer; `rest_restore` closes such connections.

        Args:
            count: How many requests it holds for.
            seconds: How long it holds.
            path: Only requests whose path contains this.
        """
        await self.turn("rest.hang", count=count, seconds=seconds, path=path)

    async def rest_lose_answer(self, *, count: int | None = None, seconds: float | None = None, path: str = "") -> None:
        """Let REST do what was asked, and break the connection before the answer.

        Args:
            count: How many requests it holds for.
            seconds: How long it holds.
            path: Only requests whose path contains this.
        """
        await self.turn("rest.lose_answer", count=count, seconds=seconds, path=path)

    async def rest_restore(self) -> None:
        """End all faults of REST."""
        await self.turn("rest.restore")

    async def restore(self) -> None:
        """End every fault that lasts: of REST, of Realtime; and start PostgreSQL if it is down."""
        await self.turn("postgres.restore")
        await self.rest_restore()
        await self.late_ready(0)
        await self.refuse(0)
        await self.drop_changes(0)
        await self.hold_changes(0)

    async def postgres_kill(self) -> None:
        """End PostgreSQL with SIGKILL; the other parts go on."""
        await self.turn("postgres.kill")

    async def postgres_start(self) -> None:
        """Start PostgreSQL again on the same port, and return when it has recovered and REST answers again.

        Raises:
            LocalSupabaseError: It is running, or does not start.
        """
        await self.turn("postgres.start")

    async def late_ready(self, seconds: float) -> None:
        """Let "Subscribed to PostgreSQL" come late from now on; changes until then are lost.

        Args:
            seconds: How much later; 0 ends it.
        """
        await self.turn("realtime.late_ready", seconds=seconds)

    async def close(self, code: int = 1012, reason: str = "") -> None:
        """Close the sockets with a code.

        Args:
            code: The websocket's closing code.
            reason: The reason beside it.
        """
        await self.turn("realtime.close", code=code, reason=reason)

    async def abort(self) -> None:
        """Cut the sockets' connections without a closing handshake."""
        await self.turn("realtime.abort")

    async def half_open(self, seconds: float | None = None) -> None:
        """Neither read from nor write to the present sockets.

        Args:
            seconds: How long; None: until they end.
        """
        await self.turn("realtime.half_open", seconds=seconds)

    async def refuse(self, seconds: float, status: int = 503) -> None:
        """Answer new sockets with an HTTP error.

        Args:
            seconds: How long; 0 ends it.
            status: The HTTP status.
        """
        await self.turn("realtime.refuse", seconds=seconds, status=status)

    async def phx_error(self, topic: str | None = None) -> None:
        """Let channels crash.

        Args:
            topic: The channels' topic (`realtime:...`); None for all.
        """
        await self.turn("realtime.phx_error", topic=topic)

    async def token_expiry(self, topic: str | None = None) -> None:
        """Let the channels' tokens expire now.

        Args:
            topic: The channels' topic (`realtime:...`); None for all.
        """
        await self.turn("realtime.token_expiry", topic=topic)

    async def subscribed_again(self, topic: str | None = None) -> None:
        """Repeat "Subscribed to PostgreSQL".

        Args:
            topic: The channels' topic (`realtime:...`); None for all.
        """
        await self.turn("realtime.subscribed_again", topic=topic)

    async def drop_changes(self, n: int | None = None, table: str | None = None) -> None:
        """Lose changes that anybody listens for, without a word.

        Args:
            n: How many of the next ones; None for all, until called with 0.
            table: Only those of tables of this name.
        """
        await self.turn("realtime.drop_changes", n=n, table=table)

    async def hold_changes(self, seconds: float | None = None) -> None:
        """Deliver no change for a while, and then all of them.

        Args:
            seconds: How long; None: until called with 0.
        """
        await self.turn("realtime.hold_changes", seconds=seconds)

    async def rate_limit(self, topic: str | None = None, joins: int = 0) -> None:
        """End channels for too many messages, or refuse joins instead.

        Args:
            topic: The channels' topic (`realtime:...`); None for all.
            joins: How many of the next joins to refuse; 0 to end channels.
        """
        await self.turn("realtime.rate_limit", topic=topic, joins=joins)

    async def oversize(self, topic: str | None = None) -> None:
        """Send channels a broadcast of more than 1 MiB.

        Args:
            topic: The channels' topic (`realtime:...`); None for all.
        """
        await self.turn("realtime.oversize", topic=topic)

    async def garbage(self, frames: list[str] | None = None) -> None:
        """Send frames that are none of the protocol.

        Args:
            frames: Which; None for a selection.
        """
        await self.turn("realtime.garbage", frames=frames)

    async def stats(self) -> dict[str, Any]:
        """Count what Realtime has and had.

        Returns:
            `sockets`, `channels`, `refused`, `frames_sent`, `changes_seen` and `changes_dropped`.
        """
        return await self.turn("realtime.stats")
