"""An HTTP proxy that loses answers: before the request is passed on, after it took effect, or in the middle."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from enum import Enum

import httpx

HOP_BY_HOP = {"connection", "content-encoding", "content-length", "transfer-encoding", "keep-alive"}


class Fault(Enum):
    """What is done to a request."""

    BEFORE_SEND = "the connection ends before the request is passed on"
    AFTER_COMMIT = "the request takes effect, and the connection ends without an answer"
    MID_BODY = "the request takes effect, and the connection ends within the answer's body"


class FaultProxy:
    """Passes requests on, and picks a fault for each.

    Args:
        upstream: The URL that requests are passed on to.
        choose: Gives the fault of the next request, or None.
    """

    def __init__(self, upstream: str, choose: Callable[[], Fault | None]) -> None:
        self._upstream = upstream
        self._choose = choose
        self._http = httpx.AsyncClient(timeout=60, limits=httpx.Limits(max_connections=50))
        self._serving: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self.seen: Counter[Fault | None] = Counter()
        self.struck = asyncio.Event()
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until either side ends it."""
        task = asyncio.current_task()
        assert task is not None
        self._serving[task] = writer
        task.add_done_callback(self._serving.pop)
        try:
            while await self._one(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client has hung up
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, target, _ = head[0].split(" ")
        headers = [
            (name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in head[1:] if line)
        ]
        body = await reader.readexactly(int(dict(headers).get("content-length", 0)))
        fault = self._choose()
        self.seen[fault] += 1
        if fault is Fault.BEFORE_SEND:
            return self._strike(writer)
        kept = [(name, value) for name, value in headers if name not in {"host", "accept-encoding", "connection"}]
        answer = await self._http.request(method, self._upstream + target, headers=kept, content=body)
        if fault is Fault.AFTER_COMMIT:
            return self._strike(writer)
        writer.write(_head(answer))
        if fault is Fault.MID_BODY:
            writer.write(answer.content[: len(answer.content) // 2])
            await writer.drain()
            return self._strike(writer)
        writer.write(answer.content)
        await writer.drain()
        return True

    def _strike(self, writer: asyncio.StreamWriter) -> bool:
        self.struck.set()
        writer.close()
        return False

    async def aclose(self) -> None:
        """End the connections of both sides."""
        for writer in self._serving.values():
            writer.close()
        if self._serving:
            await asyncio.wait(self._serving)
        await self._http.aclose()


def _head(answer: httpx.Response) -> bytes:
    lines = [f"HTTP/1.1 {answer.status_code} {answer.reason_phrase}", f"content-length: {len(answer.content)}"]
    lines += [f"{name}: {value}" for name, value in answer.headers.items() if name not in HOP_BY_HOP]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def one_in_five(seed: int) -> Callable[[], Fault | None]:
    """Make a chooser that strikes 20% of the requests, with every fault alike often."""
    dice = random.Random(seed)
    return lambda: dice.choice(list(Fault)) if dice.random() < 0.2 else None


@asynccontextmanager
async def fault_proxy(upstream: str, choose: Callable[[], Fault | None]) -> AsyncIterator[FaultProxy]:
    """Keep a proxy running on a free loopback port inside the block."""
    proxy = FaultProxy(upstream, choose)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        server.close()
        await proxy.aclose()
