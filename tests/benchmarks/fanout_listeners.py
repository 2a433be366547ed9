"""The listeners' side of `bench_fanout`: thousands of streams, as light as can be, and what they heard."""

from __future__ import annotations

import asyncio
import contextlib
import re
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from websockets.asyncio.server import ServerConnection, broadcast
from websockets.asyncio.server import serve as serve_websockets

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.benchmarks.fanout_bridge import FIRST_STAMP, Server
from tests.support.sse_crowd import request

_STAMP = re.compile(rb'"longest_streak":(\d+)')


@dataclass
class Tally:
    """What listeners received."""

    base: float
    latencies: list[float] = field(default_factory=list)
    heard: Counter[int] = field(default_factory=Counter)
    last: dict[int, int] = field(default_factory=dict)
    started: int = 0
    finished_at: float = 0.0

    @property
    def messages(self) -> int:
        """How many changes all of them heard."""
        return len(self.latencies)

    def hear(self, listener: int, chunk: bytes) -> None:
        """Count the changes in a chunk of a stream."""
        now = (time.time() - self.base) * 1e6 + FIRST_STAMP
        for found in _STAMP.findall(chunk):
            stamp = int(found)
            if stamp >= FIRST_STAMP:
                self.heard[listener] += 1
                self.latencies.append((now - stamp) / 1000)
                self.last[listener] = stamp
                self.finished_at = time.time()
            else:
                self.started += 1


class Ear(asyncio.Protocol):
    """One SSE listener, as light as can be."""

    def __init__(self, number: int, query: str, key: str, tally: Tally) -> None:
        self._number, self._query, self._key, self._tally = number, query, key, tally
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask."""
        transport.write(request(self._key, self._query))  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        """Count whole lines."""
        whole, newline, self._rest = (self._rest + data).rpartition(b"\n")
        self._tally.hear(self._number, whole + newline)


@contextlib.asynccontextmanager
async def ears(server: Server, queries: list[str]) -> AsyncIterator[Tally]:
    """SSE listeners, each with its query, that have their snapshot when the block begins."""
    tally, loop, parts = Tally(time.time()), asyncio.get_running_loop(), urlsplit(server.url)
    transports = []
    for start in range(0, len(queries), 200):
        made = (
            loop.create_connection(
                lambda number=number: Ear(number, queries[number], server.stack.secret_key, tally),  # type: ignore[misc]
                parts.hostname or "",
                parts.port or 0,
            )
            for number in range(start, min(start + 200, len(queries)))
        )
        transports += [transport for transport, _ in await asyncio.gather(*made)]
    await settled(lambda: tally.started >= len(queries) or not queries[0].startswith("user_id"), 120)
    try:
        yield tally
    finally:
        for transport in transports:
            transport.abort()
        for _ in range(100):
            if not (await server.ask(do="measure"))["listeners"]:
                break
            await asyncio.sleep(0.1)


async def settled(fulfilled: Callable[[], bool], within: float) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(within):
        while not fulfilled():  # noqa: ASYNC110 - a benchmark may poll
            await asyncio.sleep(0.05)


async def floor(clients: int, size: int, seconds: float) -> float:
    """Messages a second of `websockets.broadcast` to as many clients."""
    connections: set[ServerConnection] = set()

    async def keep(connection: ServerConnection) -> None:
        connections.add(connection)
        await connection.wait_closed()

    async with serve_websockets(keep, "127.0.0.1", 0, compression=None) as made:
        port = next(iter(made.sockets)).getsockname()[1]
        sink = await asyncio.create_subprocess_exec(sys.executable, __file__, str(port), str(clients))
        await settled(lambda: len(connections) == clients, 60)
        sent, began = 0, time.time()
        while time.time() - began < seconds:
            for _ in range(10):
                broadcast(connections, "x" * size)
            sent += 10 * clients
            # A buffer tells nobody when it is empty.
            while any(one.transport.get_write_buffer_size() for one in connections):  # noqa: ASYNC110
                await asyncio.sleep(0)
        took = time.time() - began
        sink.kill()
        await sink.wait()
    return sent / took


async def sinks(port: int, count: int) -> None:
    """WebSocket clients that throw everything away."""

    class Sink(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            head = "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            key = "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
            transport.write((head + key).encode())  # type: ignore[attr-defined]

    loop = asyncio.get_running_loop()
    for _ in range(count):
        await loop.create_connection(Sink, "127.0.0.1", port)
    await asyncio.sleep(600)


if __name__ == "__main__":
    asyncio.run(sinks(*map(int, sys.argv[1:])))
