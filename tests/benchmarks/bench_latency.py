"""Time from commit to an SSE listener, without debounce, split into Realtime and bridge.

    python tests/benchmarks/bench_latency.py [--updates 200] [--pause 0.05] [--output FILE]

Starts a local stack of its own, or uses the Supabase that SUPABASE_URL, SUPABASE_SECRET_KEY and DATABASE_URL name.
The load and the bridge share the machine; all times are of one clock (time.time of this machine).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[2]))

from local_supabase.stack import StackInfo
from realtime_bridge import serve
from tests.support.bridge import bridge_settings, over_sse
from tests.support.stack import insert_user, outside_stack, running_stack

_TOUCH = "update public.user_streaks set longest_streak = longest_streak + 1 where user_id = $1 returning version"


async def measure(stack: StackInfo, updates: int, pause: float) -> list[tuple[float, float]]:
    """Return for each update the seconds from commit to the bridge's frame, and from there to the listener."""
    db = await asyncpg.connect(stack.database_url)
    user = await insert_user(db)
    frames: dict[int, float] = {}
    heard: dict[int, float] = {}
    news = asyncio.Event()
    committed: dict[int, float] = {}

    def on_frame(payload: Mapping[str, Any]) -> None:
        record = payload["data"].get("record") or {}
        if record.get("user_id") == str(user):
            frames[record["version"]] = time.time()

    async def listen(url: str) -> None:
        async for message in over_sse(url, stack.secret_key, [str(user)], debounce=0):
            heard[message["streak"]["version"]] = time.time()
            news.set()

    try:
        await db.execute("select * from public.update_user_streak_atomic($1)", user)
        async with serve(bridge_settings(stack, reconcile_interval=10)) as served:
            await served.bridge.wait_live(30)
            served.bridge.source.tap = on_frame
            listener = asyncio.create_task(listen(served.url))
            await news.wait()
            for _ in range(updates):
                version = await _update(db, user)
                committed[version] = time.time()
                async with asyncio.timeout(10):
                    while version not in heard:
                        news.clear()
                        await news.wait()
                # An idle and a busy poller differ: spread the commits over its period.
                await asyncio.sleep(pause)
            listener.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await listener
    finally:
        await db.execute("delete from auth.users where id = $1", user)
        await db.close()
    return [(frames[version] - at, heard[version] - frames[version]) for version, at in committed.items()]


async def _update(db: asyncpg.Connection[asyncpg.Record], user: UUID) -> int:
    version: int = await db.fetchval(_TOUCH, user)
    return version


def percentile(values: list[float], share: float) -> float:
    """The value below which a share of the values lies."""
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]


def report(times: list[tuple[float, float]]) -> dict[str, dict[str, float]]:
    """Print the table and return its figures in milliseconds."""
    parts = {
        "commit to frame (Realtime)": [max(first, 0.0) for first, _ in times],
        "frame to SSE listener (bridge)": [second for _, second in times],
        "commit to SSE listener": [max(first, 0.0) + second for first, second in times],
    }
    table = Table("ms", "median", "p95", "max", title=f"{len(times)} updates, one after the other, no debounce")
    figures = {}
    for name, values in parts.items():
        row = {"median": statistics.median(values), "p95": percentile(values, 0.95), "max": max(values)}
        figures[name] = {key: round(value * 1000, 2) for key, value in row.items()}
        table.add_row(name, *(f"{value:.2f}" for value in figures[name].values()))
    Console().print(table)
    return figures


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--updates", type=int, default=200)
    parser.add_argument("--pause", type=float, default=0.05, help="seconds between updates")
    parser.add_argument("--output", type=Path, help="also write the figures as JSON")
    arguments = parser.parse_args()
    with contextlib.ExitStack() as exits:
        stack = outside_stack()
        if stack is None:
            folder = Path(exits.enter_context(tempfile.TemporaryDirectory()))
            stack = exits.enter_context(running_stack(folder=folder)).info
        figures = report(asyncio.run(measure(stack, arguments.updates, arguments.pause)))
    if arguments.output:
        arguments.output.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
