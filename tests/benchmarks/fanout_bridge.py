"""The bridge's side of `bench_fanout`: a bridge in a process of its own, whose source is fed on demand.

Its one argument is the stack as JSON; then it obeys one JSON order a line of standard input.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import resource
import sys
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from local_supabase.stack import StackInfo
from realtime_bridge import Bridge, serve
from realtime_bridge.server import fast_loop
from tests.support.bridge import bridge_settings

# The change carries its birth, in microseconds since the run began, in a column that nothing computes with.
FIRST_STAMP = 1_000_000
# The source brings what a poll found in one go.
MOST_AT_ONCE = 400


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


async def feed(bridge: Bridge, order: dict[str, Any]) -> dict[str, Any]:
    """Feed changes at a rate; return what that cost, and the stamp of each user's last change."""
    users, rate, seconds, base = order["users"], order["rate"], order["seconds"], order["base"]
    versions, stamps = dict.fromkeys(users, order["version"]), dict[str, int]()
    cpu, began, fed = time.process_time(), time.time(), 0
    goal = int(rate * seconds) if order.get("all") else None
    while fed < goal if goal else time.time() - began < seconds:
        due = int((time.time() - began) * rate) - fed
        for _ in range(min(due, MOST_AT_ONCE) if goal is None else min(due, MOST_AT_ONCE, goal - fed)):
            user = users[fed % len(users)]
            versions[user] += 1
            stamps[user] = FIRST_STAMP + int((time.time() - base) * 1e6)
            bridge._on_frame(frame(user, versions[user], stamps[user]))  # noqa: SLF001 - the source, without Realtime
            fed += 1
        await asyncio.sleep(0.001)
    took = time.time() - began
    await asyncio.sleep(order["after"])
    counters = bridge.counters.as_dict()
    cost = {"began": began, "took": took, "cpu": time.process_time() - cpu}
    return {**cost, "fed": fed, "stamps": stamps, "counters": counters}


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


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=fast_loop()) as program:  # as `python -m realtime_bridge` does
        program.run(bridge_process(json.loads(sys.argv[1])))
