"""Many light SSE listeners in one process: what a thousand browsers would do, without a thousand browsers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Iterable
from typing import Any
from urllib.parse import urlsplit


class Visitor:
    """A browser's EventSource: reconnects for ever with the id of the last event."""

    def __init__(self, url: str, key: str, user: str) -> None:
        self._address = urlsplit(url)
        self._key = key
        self.user = user
        self.version: int | None = None
        self.last_id: str | None = None
        self.connections = 0
        self.resets = 0
        self.changed = asyncio.Event()

    async def run(self) -> None:
        """Listen for ever."""
        while True:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, ValueError):
                await self._visit()
            await asyncio.sleep(0.2)

    async def _visit(self) -> None:
        reader, writer = await asyncio.open_connection(self._address.hostname, self._address.port)
        try:
            writer.write(request(self._key, f"user_id={self.user}&debounce=0", self.last_id))
            status = await reader.readline()
            if b" 200 " not in status:
                return
            self.connections += 1
            while line := await reader.readline():
                self._read(line)
        finally:
            writer.close()

    def _read(self, line: bytes) -> None:
        name, _, value = line.decode().rstrip().partition(": ")
        if name == "id":
            self.last_id = value
        elif name == "data":
            self._hear(json.loads(value))

    def _hear(self, message: dict[str, Any]) -> None:
        if message["type"] == "reset":
            self.resets += 1
            self.version = None
        elif "streak" in message:
            version = message["streak"]["version"]
            assert self.version is None or version >= self.version, "a version went back"
            self.version = version
        self.changed.set()


def request(key: str, query: str, last_id: str | None = None, forwarded_for: str | None = None) -> bytes:
    """A request for `/events`, as a proxy on this machine would pass it on if it is `forwarded_for` somebody."""
    resume = f"Last-Event-ID: {last_id}\r\n" if last_id else ""
    proxy = f"X-Forwarded-For: {forwarded_for}\r\n" if forwarded_for else ""
    return f"GET /events?{query} HTTP/1.1\r\nHost: bridge\r\napikey: {key}\r\n{resume}{proxy}\r\n".encode()


@contextlib.asynccontextmanager
async def crowd(url: str, key: str, users: Iterable[str]) -> AsyncIterator[list[Visitor]]:
    """Visitors, one for each user named, that listen while the block runs."""
    visitors = [Visitor(url, key, user) for user in users]
    tasks = [asyncio.create_task(visitor.run()) for visitor in visitors]
    try:
        yield visitors
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def all_reach(visitors: Iterable[Visitor], versions: dict[str, int], within: float = 60.0) -> None:
    """Wait until every visitor knows the version of its user."""
    async with asyncio.timeout(within):
        for visitor in visitors:
            while visitor.version != versions[visitor.user]:
                visitor.changed.clear()
                await visitor.changed.wait()


def handshake(key: str, query: str) -> bytes:
    """A request for `/ws`."""
    upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    head = f"GET /ws?{query} HTTP/1.1\r\nHost: bridge\r\napikey: {key}\r\n"
    return f"{head}{upgrade}Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()


def never_reading(url: str, asked: bytes) -> socket.socket:
    """A connection whose peer asks for something and reads nothing."""
    address = urlsplit(url)
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    made.connect((address.hostname, address.port))
    made.sendall(asked)
    return made
