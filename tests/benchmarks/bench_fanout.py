"""What one bridge can fan out, changes fed at the source (a poller cannot give so many).

    python tests/benchmarks/bench_fanout.py [--scale 1.0] [--only NAME,...] [--output FILE]

The bridge and its listeners run in two processes on this machine; REST is a local stack's, or that of the Supabase
which SUPABASE_URL, SUPABASE_SECRET_KEY and DATABASE_URL name. Each change carries the time at which it was fed.
The floor for dashboards is `websockets.broadcast` of ready-made frames in the same run.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import re
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import websockets
from rich.console import Console
from rich.table import Table
from websockets.asyncio.server import ServerConnection, broadcast
from websockets.asyncio.server import serve as serve_websockets

sys.path.insert(0, str(Path(__file__).parents[2]))

from local_supabase.stack import StackInfo
from realtime_bridge import Bridge, serve
from realtime_bridge.server import fast_loop
from tests.support.bridge import bridge_settings
from tests.support.sse_crowd import request
from tests.support.stack import outside_stack, running_stack

# The change carries its birth, in microseconds since the run began, in a column that nothing computes with.
_STAMP = re.compile(rb'"longest_streak":(\d+)')
_FIRST = 1_000_000


def frame(user: str, version: int, stamp: int) -> dict[str, Any]:
    """The payload of a change, as Realtime's client hands it over."""
    record = {
        "id": user,
        "user_id": user,
        "version": version,
        "run_length": 1,
        "longest_streak": stamp,
        "last_active_date": "2026-03-03",
        "timezone": "UTC",
        "expires_at": None,
        "last_activity_at": None,
    }
    return {"data": {"type": "UPDATE", "record": record, "errors": None}, "ids": [1]}


# --- the bridge's process ---------------------------------------------------------------------------------------------


async def feed(bridge: Bridge, order: dict[str, Any]) -> dict[str, Any]:
    """Feed changes at a rate; return what that cost."""
    users, rate, seconds, base = order["users"], order["rate"], order["seconds"], order["base"]
    versions = dict.fromkeys(users, order["version"])
    cpu, began, fed = time.process_time(), time.time(), 0
    goal = int(rate * seconds) if order.get("all") else None
    while fed < goal if goal else time.time() - began < seconds:
        due = int((time.time() - began) * rate) - fed
        for _ in range(min(due, 200) if goal is None else min(due, 200, goal - fed)):
            user = users[fed % len(users)]
            versions[user] += 1
            bridge._on_frame(frame(user, versions[user], _FIRST + int((time.time() - base) * 1e6)))  # noqa: SLF001
            fed += 1
        await asyncio.sleep(0.001)
    await asyncio.sleep(order["after"])
    return {"fed": fed, "cpu": time.process_time() - cpu, "versions": versions, "counters": bridge.counters.as_dict()}


def resident() -> int:
    """This process's resident memory in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


async def bridge_process(order: dict[str, Any]) -> None:
    """Serve, and obey one JSON order a line."""
    settings = bridge_settings(
        StackInfo(**order["stack"]), reconcile_interval=3600.0, max_listeners=50_000, slow_after=120.0
    )
    loop = asyncio.get_running_loop()
    async with serve(settings) as served:
        await served.bridge.wait_live(60)
        print(json.dumps({"url": served.url}), flush=True)  # noqa: T201 - the protocol
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            wish = json.loads(line)
            if wish["do"] == "feed":
                answer = await feed(served.bridge, wish)
            else:
                answer = {"rss": resident(), "listeners": served.bridge.listeners}
            print(json.dumps(answer), flush=True)  # noqa: T201 - the protocol


@dataclass
class Server:
    """The bridge's process, from outside."""

    process: asyncio.subprocess.Process
    stack: StackInfo
    url: str = ""

    async def ask(self, **order: Any) -> dict[str, Any]:
        """Give one order and wait for its answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(order).encode() + b"\n")
        return await self.answer()

    async def answer(self) -> dict[str, Any]:
        """Read one answer."""
        assert self.process.stdout is not None
        answer: dict[str, Any] = json.loads(await self.process.stdout.readline())
        return answer


@contextlib.asynccontextmanager
async def bridge_server(stack: StackInfo) -> AsyncIterator[Server]:
    """A bridge in a process of its own while the block runs."""
    fields = ("supabase_url", "secret_key", "publishable_key", "jwt_secret", "database_url", "faults_socket")
    order = json.dumps({"stack": {name: getattr(stack, name) for name in fields}})
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        __file__,
        "--bridge",
        order,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=2**24,
    )
    server = Server(process, stack)
    try:
        server.url = (await server.answer())["url"]
        yield server
    finally:
        process.kill()
        await process.wait()


# --- the listeners' process -------------------------------------------------------------------------------------------


@dataclass
class Tally:
    """What listeners received."""

    base: float
    latencies: list[float] = field(default_factory=list)
    messages: int = 0
    last: dict[int, int] = field(default_factory=dict)
    started: int = 0
    finished_at: float = 0.0

    def hear(self, listener: int, chunk: bytes) -> None:
        """Count the changes in a chunk of a stream."""
        now = (time.time() - self.base) * 1e6 + _FIRST
        for found in _STAMP.findall(chunk):
            stamp = int(found)
            if stamp >= _FIRST:
                self.messages += 1
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


def spread(latencies: list[float]) -> str:
    """Median and p95."""
    ordered = sorted(latencies) or [float("nan")]
    return f"median {statistics.median(ordered):.1f} ms, p95 {ordered[int(len(ordered) * 0.95)]:.1f} ms"


async def own_rows(server: Server, listeners: int, rate: int, seconds: float) -> str:
    """Listeners of own rows, no debounce."""
    users = [str(uuid4()) for _ in range(listeners)]
    async with ears(server, [f"user_id={user}&debounce=0" for user in users]) as tally:
        cost = await server.ask(
            do="feed", users=users, rate=rate, seconds=seconds, base=tally.base, version=0, after=1.0
        )
        with contextlib.suppress(TimeoutError):
            await settled(lambda: tally.messages + cost["counters"]["conflated"] >= cost["fed"], 20)
        lost = sum(1 for number, user in enumerate(users) if cost["versions"][user] and number not in tally.last)
        merged = cost["counters"]["conflated"]
        return (
            f"{cost['fed'] / seconds:.0f} changes/s, {tally.messages / seconds:.0f} delivered/s,"
            f" {spread(tally.latencies)}, merged {merged}, listeners without anything {lost},"
            f" bridge CPU {cost['cpu'] / (seconds + 1):.0%}"
        )


async def floor(clients: int, size: int, seconds: float) -> float:
    """Messages a second of `websockets.broadcast` to as many clients."""
    connections: set[ServerConnection] = set()

    async def keep(connection: ServerConnection) -> None:
        connections.add(connection)
        await connection.wait_closed()

    async with serve_websockets(keep, "127.0.0.1", 0, compression=None) as made:
        port = next(iter(made.sockets)).getsockname()[1]
        sink = await asyncio.create_subprocess_exec(sys.executable, __file__, "--sinks", str(port), str(clients))
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


async def dashboards(server: Server, listeners: int, seconds: float) -> str:
    """Every change to every dashboard, as fast as it goes."""
    users = [str(uuid4()) for _ in range(1000)]
    reference = await floor(listeners, 420, seconds)
    async with ears(server, ["debounce=0"] * listeners) as tally:
        await asyncio.sleep(1)
        best = 0.0
        for rate in (25, 50, 100, 200):
            before, began = tally.messages, time.time()
            cost = await server.ask(
                do="feed", users=users, rate=rate, seconds=seconds, base=tally.base, version=int(began), after=0.0
            )
            with contextlib.suppress(TimeoutError):
                await settled(lambda: tally.messages - before >= cost["fed"] * listeners, 15)  # noqa: B023
            best = max(best, (tally.messages - before) / (tally.finished_at - began))
    return f"{best:.0f} messages/s, websockets.broadcast {reference:.0f}/s: ratio {best / reference:.2f}"


async def memory(server: Server, listeners: int) -> str:
    """Resident memory of the bridge for each idle listener."""
    before = (await server.ask(do="measure"))["rss"]
    async with ears(server, [f"user_id={uuid4()}" for _ in range(listeners)]):
        sse = ((await server.ask(do="measure"))["rss"] - before) / listeners
    # Memory that was freed is used again, so WebSockets get a bridge of their own.
    async with bridge_server(server.stack) as fresh:
        before = (await fresh.ask(do="measure"))["rss"]
        address, headers = fresh.url.replace("http", "ws", 1), {"apikey": server.stack.secret_key}
        sockets = [
            await websockets.connect(
                f"{address}/ws?user_id={uuid4()}", additional_headers=headers, proxy=None, compression=None
            )
            for _ in range(listeners // 4)
        ]
        ws = ((await fresh.ask(do="measure"))["rss"] - before) / len(sockets)
        for socket in sockets:
            socket.transport.abort()
    return f"SSE {sse / 1024:.1f} KiB, WebSocket {ws / 1024:.1f} KiB"


async def burst(server: Server, listeners: int) -> str:
    """20,000 changes in a second over 1,000 users, with and without debounce."""
    results = []
    for debounce in (2, 0):
        users = [str(uuid4()) for _ in range(1000)]
        queries = [
            f"user_id={users[number % len(users)]}&debounce={debounce}&max_wait=5" for number in range(listeners)
        ]
        async with ears(server, queries) as tally:
            cost = await server.ask(
                do="feed", users=users, rate=20_000, seconds=1.0, base=tally.base, version=0, after=4.0, all=True
            )
            results.append(
                (cost["cpu"], tally.messages, cost["fed"], max(tally.last.values()) - min(tally.last.values()))
            )
    (cpu, messages, fed, _), (cpu_all, messages_all, _, _) = results
    return (
        f"fed {fed}: {messages} messages to {listeners} listeners ({messages / listeners:.2f} each),"
        f" {messages_all} without debounce;"
        f" CPU {cpu:.2f} s against {cpu_all:.2f} s: {cpu / cpu_all:.0%}"
    )


async def run(stack: StackInfo, only: list[str], scale: float) -> dict[str, str]:
    """Run the benchmarks; return a line for each."""
    jobs: dict[str, Callable[[Server], Any]] = {
        "own-1k": lambda server: own_rows(server, int(1000 * scale), 1000, 10),
        "own-10k": lambda server: own_rows(server, int(10_000 * scale), 5000, 10),
        "dashboards": lambda server: dashboards(server, int(1000 * scale), 5),
        "memory": lambda server: memory(server, int(4000 * scale)),
        "burst": lambda server: burst(server, int(1000 * scale)),
    }
    results = {}
    for name in only or jobs:
        async with bridge_server(stack) as server:
            results[name] = await jobs[name](server)
        Console().print(f"[bold]{name}[/]: {results[name]}")
    return results


def main() -> None:
    """Run the benchmark, or its other process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bridge", help=argparse.SUPPRESS)
    parser.add_argument("--sinks", nargs=2, type=int, help=argparse.SUPPRESS)
    parser.add_argument("--scale", type=float, default=1.0, help="of the numbers of listeners")
    parser.add_argument("--only", default="", help="names, separated by commas")
    parser.add_argument("--output", type=Path, help="also write the lines as JSON")
    arguments = parser.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 30_000)), hard))
    if arguments.bridge:
        with asyncio.Runner(loop_factory=fast_loop()) as runner:  # as `python -m realtime_bridge` does
            runner.run(bridge_process(json.loads(arguments.bridge)))
        return
    if arguments.sinks:
        asyncio.run(sinks(*arguments.sinks))
        return
    with contextlib.ExitStack() as exits:
        stack = outside_stack()
        if stack is None:
            folder = Path(exits.enter_context(tempfile.TemporaryDirectory()))
            stack = exits.enter_context(running_stack(folder=folder)).info
        only = [name for name in arguments.only.split(",") if name]
        results = asyncio.run(run(stack, only, arguments.scale))
    table = Table("benchmark", "result")
    for name, line in results.items():
        table.add_row(name, line)
    Console().print(table)
    if arguments.output:
        arguments.output.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
