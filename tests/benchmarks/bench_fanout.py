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
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TypeAlias
from uuid import uuid4

import websockets
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[2]))

from local_supabase.stack import StackInfo
from tests.benchmarks.fanout_bridge import Server, bridge_server
from tests.benchmarks.fanout_listeners import ears, floor, settled
from tests.support.stack import outside_stack, running_stack

Figures: TypeAlias = dict[str, float]
Job: TypeAlias = Callable[[Server], Coroutine[None, None, Figures]]


def p95(latencies: list[float]) -> float:
    """The time that 95 of 100 do not exceed; nan if there are none."""
    ordered = sorted(latencies) or [float("nan")]
    return ordered[int(len(ordered) * 0.95)]


async def own_rows(server: Server, listeners: int, rate: int, seconds: float) -> Figures:
    """Listeners of own rows, no debounce."""
    users = [str(uuid4()) for _ in range(listeners)]
    async with ears(server, [f"user_id={user}&debounce=0" for user in users]) as tally:
        cost = await server.ask(
            do="feed", users=users, rate=rate, seconds=seconds, base=tally.base, version=0, after=1.0
        )
        stamps = cost["stamps"]
        with contextlib.suppress(TimeoutError):  # who misses its last change then is counted as lost
            await settled(lambda: all(tally.last.get(n) == stamps.get(user) for n, user in enumerate(users)), within=20)
        return {
            "changes a second": cost["fed"] / cost["took"],
            "deliveries a second": tally.messages / max(tally.finished_at - cost["began"], cost["took"]),
            "median, ms": statistics.median(tally.latencies or [float("nan")]),
            "p95, ms": p95(tally.latencies),
            "merged": cost["counters"]["conflated"],
            "listeners without their last change": sum(
                tally.last.get(number) != stamps.get(user) for number, user in enumerate(users)
            ),
            "bridge CPU, %": cost["cpu"] / (cost["took"] + 1) * 100,
        }


async def dashboards(server: Server, listeners: int, seconds: float) -> Figures:
    """Every change to every dashboard, as fast as it goes."""
    users = [str(uuid4()) for _ in range(1000)]
    reference = await floor(listeners, 420, seconds)
    async with ears(server, ["debounce=0"] * listeners) as tally:
        await asyncio.sleep(1)
        best = 0.0
        for messages in (25_000, 50_000, 100_000, 200_000):
            before, began = tally.messages, time.time()
            cost = await server.ask(
                do="feed",
                users=users,
                rate=messages / listeners,
                seconds=seconds,
                base=tally.base,
                version=int(began),
                after=0.0,
            )
            with contextlib.suppress(TimeoutError):
                await settled(lambda: tally.messages - before >= cost["fed"] * listeners, 15)  # noqa: B023
            best = max(best, (tally.messages - before) / (tally.finished_at - began))
    return {"messages a second": best, "websockets.broadcast, a second": reference}


async def memory(server: Server, listeners: int) -> Figures:
    """Resident memory of the bridge for each idle listener."""
    before = (await server.ask(do="measure"))["rss"]
    async with ears(server, [f"user_id={uuid4()}" for _ in range(listeners)]):
        sse = ((await server.ask(do="measure"))["rss"] - before) / listeners
    # Memory that was freed is used again, so WebSockets get a bridge of their own.
    async with bridge_server(server.stack) as fresh:
        address, headers = fresh.url.replace("http", "ws", 1), {"apikey": server.stack.secret_key}

        def connect() -> websockets.connect:
            query = f"user_id={uuid4()}"
            return websockets.connect(f"{address}/ws?{query}", additional_headers=headers, proxy=None, compression=None)

        async with connect():  # what the first one loads belongs to no listener
            before = (await fresh.ask(do="measure"))["rss"]
        sockets = [await connect() for _ in range(listeners // 4)]
        ws = ((await fresh.ask(do="measure"))["rss"] - before) / len(sockets)
        for socket in sockets:
            socket.transport.abort()
    return {"SSE, KiB": sse / 1024, "WebSocket, KiB": ws / 1024}


async def one_burst(server: Server, listeners: int, debounce: float) -> Figures:
    """20,000 changes in a second over 1,000 users."""
    users = [str(uuid4()) for _ in range(1000)]
    followed = [users[number % len(users)] for number in range(listeners)]
    async with ears(server, [f"user_id={user}&debounce={debounce}&max_wait=5" for user in followed]) as tally:
        cost = await server.ask(
            do="feed", users=users, rate=20_000, seconds=1.0, base=tally.base, version=0, after=4.0, all=True
        )
        wrong = sum(tally.last.get(number) != cost["stamps"][user] for number, user in enumerate(followed))
        # a window is the debounce, anew with each change: as long as the changes came, and the debounce after them
        windows = 1 + int(cost["took"] // 5)
        return {
            "fed": cost["fed"],
            "messages": tally.messages,
            "CPU, s": cost["cpu"],
            "listeners with a wrong state": wrong,
            "listeners with more than a message a window": sum(heard > windows for heard in tally.heard.values()),
        }


async def burst(server: Server, listeners: int) -> Figures:
    """A burst with a debounce of 2 s, and without one."""
    debounced, every = [await one_burst(server, listeners, debounce) for debounce in (2, 0)]
    return {**debounced, **{f"{name}, no debounce": every[name] for name in ("messages", "CPU, s")}}


async def run(stack: StackInfo, only: list[str], scale: float) -> dict[str, Figures]:
    """Run the benchmarks."""
    jobs: dict[str, Job] = {
        # fed a little faster than the goals ask: the feeder's clock is not exact
        "own-1k": lambda server: own_rows(server, int(1000 * scale), 1050, 10),
        "own-10k": lambda server: own_rows(server, int(10_000 * scale), 6000, 10),
        "dashboards": lambda server: dashboards(server, int(1000 * scale), 5),
        "memory": lambda server: memory(server, int(4000 * scale)),
        "burst": lambda server: burst(server, 1000),  # with fewer, all its cost would be that of feeding
    }
    results = {}
    for name in only or jobs:
        async with bridge_server(stack) as server:
            results[name] = await jobs[name](server)
        Console().print(f"[bold]{name}[/]: {line(results[name])}")
    return results


def line(figures: Figures) -> str:
    """Figures for people."""
    return ", ".join(f"{name} {value:,.1f}" for name, value in figures.items())


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0, help="of the numbers of listeners")
    parser.add_argument("--only", default="", help="names, separated by commas")
    parser.add_argument("--output", type=Path, help="also write the figures as JSON")
    arguments = parser.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 30_000)), hard))
    with contextlib.ExitStack() as exits:
        stack = outside_stack()
        if stack is None:
            folder = Path(exits.enter_context(tempfile.TemporaryDirectory()))
            stack = exits.enter_context(running_stack(folder=folder)).info
        only = [name for name in arguments.only.split(",") if name]
        results = asyncio.run(run(stack, only, arguments.scale))
    table = Table("benchmark", "figures")
    for name, figures in results.items():
        table.add_row(name, line(figures))
    Console().print(table)
    if arguments.output:
        arguments.output.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
