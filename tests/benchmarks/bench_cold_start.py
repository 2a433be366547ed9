"""How long a bridge takes to listen when the table is large, and what it holds of it.

    python tests/benchmarks/bench_cold_start.py [--rows 1000000] [--listeners 1000] [--output FILE]

Rows are made by SQL in a throw-away stack of its own. `python -m realtime_bridge` is started on the empty table and on
the full one; listeners of one user each, and one of everybody, come as soon as its port opens.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import asyncpg
import httpx
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[2]))

from local_supabase.stack import StackInfo
from tests.support.sse_crowd import all_reach, crowd
from tests.support.stack import running_stack

# As after years of use: most streaks have lapsed. Triggers and foreign keys are off: only the bridge is measured.
FILL = """
insert into public.user_streaks (user_id, current_streak, longest_streak, run_length, last_active_date, timezone,
  version, expires_at, last_activity_at)
select gen_random_uuid(), case when n % 10 = 0 then n % 400 else 0 end, n % 400 + 1, n % 400,
  current_date - n % 300, 'UTC', n % 50 + 1,
  now() + case when n % 10 = 0 then interval '1 day' else interval '-1 day' end, now() - interval '1 day'
from generate_series($1::int, $2::int) n
"""
LOG = """
insert into public.streak_history (user_id, change_type, old_current_streak, new_current_streak, old_longest_streak,
  new_longest_streak, activity_date, timezone, version_before, version_after)
select user_id, 'STREAK_INCREMENT', 0, 1, 0, 1, last_active_date, timezone, version - 1, version
from public.user_streaks limit $1
"""
_CHUNK = 100_000


async def fill(stack: StackInfo, rows: int) -> list[str]:
    """Fill the tables; return the users."""
    db = await asyncpg.connect(stack.database_url)
    try:
        await db.execute("set session_replication_role = replica")
        for start in range(0, rows, _CHUNK):
            await db.execute(FILL, start, min(start + _CHUNK, rows) - 1)
        await db.execute(LOG, rows // 10)
        await db.execute("analyze public.user_streaks, public.streak_history")
        return [str(row["user_id"]) for row in await db.fetch("select user_id from public.user_streaks")]
    finally:
        await db.close()


async def versions(stack: StackInfo, users: list[str]) -> dict[str, int]:
    """The version of each user's row, 0 without one."""
    db = await asyncpg.connect(stack.database_url)
    try:
        found = await db.fetch(
            "select user_id, version from public.user_streaks where user_id = any($1::uuid[])", users
        )
        return {**dict.fromkeys(users, 0), **{str(row["user_id"]): row["version"] for row in found}}
    finally:
        await db.close()


def free_port() -> int:
    """A port that nobody has."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def resident(pid: int) -> int:
    """A process's resident memory in bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()


async def until_ok(url: str) -> None:
    """Wait until a URL answers 200."""
    async with httpx.AsyncClient(trust_env=False) as http, asyncio.timeout(120):
        while True:
            try:
                if (await http.get(url)).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.02)


async def cold_start(stack: StackInfo, users: list[str]) -> dict[str, float]:
    """Start a bridge, let listeners come at once, and note when each thing was there, and the memory."""
    port, wanted = free_port(), await versions(stack, users)
    url = f"http://127.0.0.1:{port}"
    env = {
        **os.environ,
        "SUPABASE_URL": stack.supabase_url,
        "SUPABASE_SECRET_KEY": stack.secret_key,
        "BRIDGE_PORT": str(port),
    }
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "realtime_bridge"], env=env, stderr=subprocess.DEVNULL)  # noqa: ASYNC220 - at once
    try:
        await until_ok(f"{url}/healthz")
        figures = {"port open s": time.perf_counter() - began}
        async with crowd(url, stack.secret_key, users) as visitors, asyncio.TaskGroup() as group:
            live = group.create_task(until_ok(f"{url}/readyz"))
            live.add_done_callback(lambda _: figures.update({"live s": time.perf_counter() - began}))
            await all_reach(visitors, wanted, 120)
            figures["all listeners have their snapshot s"] = time.perf_counter() - began
            await live
            figures["memory MiB"] = resident(process.pid) / 2**20
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()
    return figures


async def run(stack: StackInfo, rows: int, listeners: int) -> dict[str, dict[str, float]]:
    """Measure on the empty table and on the full one."""
    strangers = [f"00000000-0000-4000-8000-{number:012x}" for number in range(listeners)]
    results = {"no rows": await cold_start(stack, strangers)}
    began = time.perf_counter()
    users = await fill(stack, rows)
    Console().print(f"{rows} rows made in {time.perf_counter() - began:.0f} s")
    results[f"{rows} rows"] = await cold_start(stack, random.sample(users, listeners))
    return results


def report(results: dict[str, dict[str, float]]) -> None:
    """Print the table."""
    columns = list(next(iter(results.values())))
    table = Table("table holds", *columns)
    for name, figures in results.items():
        table.add_row(name, *(f"{figures[column]:.2f}" for column in columns))
    Console().print(table)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--listeners", type=int, default=1000)
    parser.add_argument("--output", type=Path, help="also write the figures as JSON")
    arguments = parser.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 30_000)), hard))
    with tempfile.TemporaryDirectory() as folder, running_stack(folder=Path(folder)) as stack:
        results: dict[str, Any] = asyncio.run(run(stack.info, arguments.rows, arguments.listeners))
    report(results)
    if arguments.output:
        arguments.output.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
