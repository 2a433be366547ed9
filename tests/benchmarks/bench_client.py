"""How many updates a second one process makes: gathered, one RPC each, and read-compute-write in Python.

Run: ``.venv/bin/python -m tests.benchmarks.bench_client`` (starts a stack of its own). Use the ratios: the figures
depend on the machine and on who else uses it.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast
from uuid import UUID, uuid4

import asyncpg
import httpx
from rich.console import Console
from rich.table import Table

from local_supabase.stack import StackInfo
from streak_client import AsyncStreakClient, StreakClient
from supabase import AsyncClient, AsyncClientOptions
from tests.support.stack import running_stack

CONCURRENCY = 1_000
GATHERED, SINGLES, NAIVE = 10_000, 1_000, 500
CALLS = 200
CACHED = 20_000

Update = Callable[[UUID], Awaitable[object]]


async def new_users(info: StackInfo, number: int) -> list[UUID]:
    """Insert users."""
    users = [uuid4() for _ in range(number)]
    connection = await asyncpg.connect(info.database_url)
    await connection.execute("insert into auth.users (id) select unnest($1::uuid[])", users)
    await connection.close()
    return users


async def rate(update: Update, users: Sequence[UUID]) -> float:
    """Measure updates a second of distinct users at a fixed concurrency."""
    room = asyncio.Semaphore(CONCURRENCY)

    async def one(user: UUID) -> None:
        async with room:
            await update(user)

    began = time.perf_counter()
    await asyncio.gather(*(one(user) for user in users))
    return len(users) / (time.perf_counter() - began)


async def at_load(client: AsyncStreakClient, users: Sequence[UUID], per_second: float) -> list[float]:
    """Start calls at a fixed rate, whatever becomes of them, and measure each from call to answer in ms."""
    took: list[float] = []
    clock = time.perf_counter

    async def one(user: UUID) -> None:
        began = clock()
        await client.update_user_streak(user, "UTC")
        took.append((clock() - began) * 1000)

    tasks, began = [], clock()
    for number, user in enumerate(users):
        ahead = began + number / per_second - clock()
        if ahead > 0.001:
            await asyncio.sleep(ahead)
        tasks.append(asyncio.create_task(one(user)))
    await asyncio.gather(*tasks)
    return took


def naive(supabase: AsyncClient) -> Update:
    """Read, compute in Python, write back, as services without an atomic function do."""

    async def update(user: UUID) -> None:
        table = supabase.table("user_streaks")
        found = (await table.select("*").eq("user_id", str(user)).execute()).data
        today = datetime.now(UTC).date()
        if not found:
            row = {
                "user_id": str(user),
                "current_streak": 1,
                "longest_streak": 1,
                "last_active_date": today.isoformat(),
            }
            await supabase.table("user_streaks").upsert(row, on_conflict="user_id").execute()
            return
        old = cast("dict[str, Any]", found[0])
        streak = old["current_streak"] + 1 if old["last_active_date"] == str(today - timedelta(1)) else 1
        await supabase.table("user_streaks").update({"current_streak": streak}).eq("user_id", str(user)).execute()

    return update


async def median_ms(call: Callable[[], Awaitable[object]]) -> float:
    """Measure calls one after another."""
    took = []
    for _ in range(CALLS):
        began = time.perf_counter()
        await call()
        took.append((time.perf_counter() - began) * 1000)
    return statistics.median(took)


async def cached_us(client: AsyncStreakClient, user: UUID) -> float:
    """Measure a read that the cache answers."""
    await client.get_user_streak(user)
    began = time.perf_counter()
    for _ in range(CACHED):
        await client.get_user_streak(user)
    return (time.perf_counter() - began) / CACHED * 1e6


async def idle(info: StackInfo, user: UUID, table: Table) -> None:
    """Compare one idle call with a bare POST, and the sync client with the async one."""
    params = {"p_user_id": str(user), "p_timezone": "UTC"}
    url = f"{info.supabase_url}/rest/v1/rpc/update_user_streak_atomic"
    async with (
        httpx.AsyncClient(headers={"apikey": info.secret_key}) as http,
        AsyncStreakClient(info.supabase_url, info.secret_key) as client,
    ):
        await client.update_user_streak(user, "UTC")
        rounds = [
            (
                await median_ms(lambda: http.post(url, json=params)),
                await median_ms(lambda: client.update_user_streak(user, "UTC")),
                await asyncio.to_thread(sync_median_ms, info, user),
            )
            for _ in range(3)
        ]
    bare, asynchronous, synchronous = (statistics.median(column) for column in zip(*rounds, strict=True))
    table.add_row("bare httpx POST", f"{bare:.2f} ms", "")
    table.add_row("AsyncStreakClient, idle", f"{asynchronous:.2f} ms", f"{asynchronous / bare:.2f} x bare")
    table.add_row("StreakClient, idle", f"{synchronous:.2f} ms", f"{synchronous / asynchronous:.2f} x async")


def sync_median_ms(info: StackInfo, user: UUID) -> float:
    """Measure the sync client."""
    took = []
    with StreakClient(info.supabase_url, info.secret_key) as client:
        client.update_user_streak(user, "UTC")
        for _ in range(CALLS):
            began = time.perf_counter()
            client.update_user_streak(user, "UTC")
            took.append((time.perf_counter() - began) * 1000)
    return statistics.median(took)


async def measure(info: StackInfo) -> None:
    """Measure and print."""
    table = Table("work", "measured", "ratio")
    async with AsyncStreakClient(info.supabase_url, info.secret_key) as client:
        await rate(lambda user: client.update_user_streak(user, "UTC"), await new_users(info, 500))
        gathered = await rate(lambda user: client.update_user_streak(user, "UTC"), await new_users(info, GATHERED))
        cached = await cached_us(client, (await new_users(info, 1))[0])
        took = sorted(await at_load(client, await new_users(info, GATHERED), 0.8 * gathered))
    async with httpx.AsyncClient(timeout=60, limits=httpx.Limits(max_connections=50)) as http:
        options = AsyncClientOptions(httpx_client=http, auto_refresh_token=False, persist_session=False)
        supabase = AsyncClient(info.supabase_url, info.secret_key, options)

        def single(user: UUID) -> Awaitable[object]:
            return supabase.rpc("update_user_streak_atomic", {"p_user_id": str(user), "p_timezone": "UTC"}).execute()

        singles = await rate(single, await new_users(info, SINGLES))
        naively = await rate(naive(supabase), await new_users(info, NAIVE))
    table.add_row("gathered, distinct users", f"{gathered:,.0f}/s", "")
    table.add_row("one RPC each, supabase-py", f"{singles:,.0f}/s", f"{gathered / singles:.1f} x")
    table.add_row("read, compute, write back", f"{naively:,.0f}/s", f"{gathered / naively:.1f} x")
    table.add_row("cached read", f"{cached:.1f} µs", "")
    p95 = took[int(len(took) * 0.95)]
    table.add_row("at 80% load", f"mean {statistics.mean(took):.1f} ms", f"p95 {p95:.1f} ms")
    await idle(info, (await new_users(info, 1))[0], table)
    Console().print(table)


def main() -> None:
    """Start a stack and measure."""
    with tempfile.TemporaryDirectory() as folder, running_stack(folder=Path(folder)) as stack:
        asyncio.run(measure(stack.info))


if __name__ == "__main__":
    main()
