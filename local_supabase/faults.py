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
    """Serves the switches on a socket that nobody else can open, inside the block.

    Args:
        turn: Obeys them.
        folder: Where the socket goes, unless its path would be too long.
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
    path contains `path` (such as `/rpc/`).

    Args:
        socket_path: `FAULTS_SOCKET` of the READY line.
    """

    def __init__(self, socket_path: str | Path) -> None:
        self._path = str(socket_path)

    async def turn(self, fault: str, **arguments: Any) -> dict[str, Any]:
        """Turns one switch by name.

        Returns:
            What the switch reports.

        Raises:
            LocalSupabaseError: The switch does not exist, or could not be turned.
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
        """REST answers with the HTTP status `status` and does nothing."""
        await self.turn("rest.error", status=status, count=count, seconds=seconds, path=path)

    async def rest_delay(
        self, delay: float, *, count: int | None = None, seconds: float | None = None, path: str = ""
    ) -> None:
        """REST waits `delay` seconds before it begins."""
        await self.turn("rest.delay", delay=delay, count=count, seconds=seconds, path=path)

    async def rest_hang(self, *, count: int | None = None, seconds: float | None = None, path: str = "") -> None:
        """REST reads the request, does nothing and never answers; `rest_restore` closes such connections."""
        await self.turn("rest.hang", count=count, seconds=seconds, path=path)

    async def rest_lose_answer(self, *, count: int | None = None, seconds: float | None = None, path: str = "") -> None:
        """REST does what was asked, then the connection breaks before the answer."""
        await self.turn("rest.lose_answer", count=count, seconds=seconds, path=path)

    async def rest_restore(self) -> None:
        """Ends all faults of REST."""
        await self.turn("rest.restore")

    async def restore(self) -> None:
        """Ends every fault that lasts: of REST, of Realtime, and starts PostgreSQL if it is down."""
        await self.turn("postgres.restore")
        await self.rest_restore()
        await self.late_ready(0)
        await self.refuse(0)
        await self.drop_changes(0)
        await self.hold_changes(0)

    async def postgres_kill(self) -> None:
        """Ends PostgreSQL with SIGKILL; the other parts go on."""
        await self.turn("postgres.kill")

    async def postgres_start(self) -> None:
        """Starts PostgreSQL again on the same port; returns when it has recovered and REST answers again."""
        await self.turn("postgres.start")

    async def late_ready(self, seconds: float) -> None:
        """From now on "Subscribed to PostgreSQL" comes `seconds` later, and changes until then are lost; 0 ends it."""
        await self.turn("realtime.late_ready", seconds=seconds)

    async def close(self, code: int = 1012, reason: str = "") -> None:
        """Closes the sockets with a code."""
        await self.turn("realtime.close", code=code, reason=reason)

    async def abort(self) -> None:
        """Cuts the sockets' connections without a closing handshake."""
        await self.turn("realtime.abort")

    async def half_open(self, seconds: float | None = None) -> None:
        """Neither reads from nor writes to the present sockets, for `seconds` or until they end."""
        await self.turn("realtime.half_open", seconds=seconds)

    async def refuse(self, seconds: float, status: int = 503) -> None:
        """Answers new sockets with an HTTP error for `seconds`; 0 ends it."""
        await self.turn("realtime.refuse", seconds=seconds, status=status)

    async def phx_error(self, topic: str | None = None) -> None:
        """Lets channels crash."""
        await self.turn("realtime.phx_error", topic=topic)

    async def token_expiry(self, topic: str | None = None) -> None:
        """Lets the channels' tokens expire now."""
        await self.turn("realtime.token_expiry", topic=topic)

    async def subscribed_again(self, topic: str | None = None) -> None:
        """Repeats "Subscribed to PostgreSQL"."""
        await self.turn("realtime.subscribed_again", topic=topic)

    async def drop_changes(self, n: int | None = None, table: str | None = None) -> None:
        """Loses the next `n` changes without a word; None loses all until called with 0."""
        await self.turn("realtime.drop_changes", n=n, table=table)

    async def hold_changes(self, seconds: float | None = None) -> None:
        """Delivers no change for `seconds`, or until called with 0, and then all of them."""
        await self.turn("realtime.hold_changes", seconds=seconds)

    async def rate_limit(self, topic: str | None = None, joins: int = 0) -> None:
        """Ends channels for too many messages; with `joins`, refuses so many of the next joins instead."""
        await self.turn("realtime.rate_limit", topic=topic, joins=joins)

    async def oversize(self, topic: str | None = None) -> None:
        """Sends a broadcast of more than 1 MiB."""
        await self.turn("realtime.oversize", topic=topic)

    async def garbage(self, frames: list[str] | None = None) -> None:
        """Sends frames that are none of the protocol: those given, or a selection."""
        await self.turn("realtime.garbage", frames=frames)

    async def stats(self) -> dict[str, Any]:
        """Counts of Realtime: `sockets`, `channels`, `refused`, `frames_sent`, `changes_seen`, `changes_dropped`."""
        return await self.turn("realtime.stats")
