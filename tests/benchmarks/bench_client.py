"""How many updates a second one process makes: gathered, one RPC each, and read-compute-write in Python.

Run: ``.venv/bin/python -m tests.benchmarks.bench_client [--scale 1.0] [--output FILE]``. It starts a stack of its own,
or uses the Supabase that SUPABASE_URL, SUPABASE_SECRET_KEY and DATABASE_URL name. Use the ratios: the figures depend on
the machine and on who else uses it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import asyncpg
import httpx
from rich.console import Console
from rich.table import Table

from local_supabase.stack import StackInfo
from streak_client import AsyncStreakClient, StreakClient
from supabase import AsyncClient, AsyncClientOptions
from tests.benchmarks.client_load import burst_requests, by_client, lost_updates, naive, rest_load
from tests.support.stack import outside_stack, running_stack

CONCURRENCY = 1_000


@dataclass(frozen=True)
class Sizes:
    """How many calls of each kind.

    Args:
        scale: 1 for the sizes that the goals are about.
    """

    scale: float = 1.0

    def _of(self, full: int) -> int:
        return max(round(full * self.scale), 10)

    @property
    def gathered(self) -> int:
        """Updates that share requests."""
        return self._of(10_000)

    @property
    def singles(self) -> int:
        """Updates with a request each."""
        return self._of(1_000)

    @property
    def naive(self) -> int:
        """Updates computed in Python."""
        return self._of(500)

    @property
    def calls(self) -> int:
        """Calls one after another."""
        return self._of(200)

    @property
    def pairs(self) -> int:
        """Users who act on two days at the same time."""
        return self._of(200)

    @property
    def rest(self) -> int:
        """Requests of the REST API."""
        return self._of(1_000)

    @property
    def cached(self) -> int:
        """Reads that the cache answers."""
        return self._of(20_000)


Update = Callable[[UUID], Awaitable[object]]


async def new_users(info: StackInfo, number: int) -> list[UUID]:
    """Insert users."""
    users = [uuid4() for _ in range(number)]
    connection = await asyncpg.connect(info.database_url)
    await connection.execute("insert into auth.users (id) select unnest($1::uuid[])", users)
    await connection.close()
    return users


async def known_users(info: StackInfo, number: int) -> list[UUID]:
    """Insert users who acted yesterday, as nearly all have who act today."""
    users, at = await new_users(info, number), datetime.now(UTC) - timedelta(days=1)
    connection = await asyncpg.connect(info.database_url)
    for start in range(0, number, 500):
        some = users[start : start + 500]
        await connection.execute(
            "select public.update_user_streaks_batch($1::uuid[], $2::timestamptz[])", some, [at] * len(some)
        )
    await connection.close()
    return users


async def rate(update: Update, users: Sequence[UUID]) -> float:
    """Measure updates a second of distinct users at a fixed concurrency."""
    waiting = iter(users)

    async def caller() -> None:
        for user in waiting:
            await update(user)

    began = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(CONCURRENCY)))
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


async def median_ms(call: Callable[[], Awaitable[object]], calls: int) -> float:
    """Measure calls one after another."""
    took = []
    for _ in range(calls):
        began = time.perf_counter()
        await call()
        took.append((time.perf_counter() - began) * 1000)
    return statistics.median(took)


async def cached_us(client: AsyncStreakClient, user: UUID, calls: int) -> float:
    """Measure a read that the cache answers."""
    await client.get_user_streak(user)
    rounds = []
    for _ in range(10):
        began = time.perf_counter()
        for _ in range(calls // 10):
            await client.get_user_streak(user)
        rounds.append((time.perf_counter() - began) / (calls // 10) * 1e6)
    return statistics.median(rounds)


async def idle(info: StackInfo, user: UUID, calls: int) -> dict[str, float]:
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
                await median_ms(lambda: http.post(url, json=params), calls),
                await median_ms(lambda: client.update_user_streak(user, "UTC"), calls),
                await asyncio.to_thread(sync_median_ms, info, user, calls),
            )
            for _ in range(3)
        ]
    names = ("bare post, ms", "async client, ms", "sync client, ms")
    return {name: statistics.median(column) for name, column in zip(names, zip(*rounds, strict=True), strict=True)}


def sync_median_ms(info: StackInfo, user: UUID, calls: int) -> float:
    """Measure the sync client."""
    took = []
    with StreakClient(info.supabase_url, info.secret_key) as client:
        client.update_user_streak(user, "UTC")
        for _ in range(calls):
            began = time.perf_counter()
            client.update_user_streak(user, "UTC")
            took.append((time.perf_counter() - began) * 1000)
    return statistics.median(took)


async def measure(info: StackInfo, sizes: Sizes) -> dict[str, float]:
    """Measure everything."""
    async with AsyncStreakClient(info.supabase_url, info.secret_key) as client:
        first = await rate(lambda user: client.update_user_streak(user, "UTC"), await new_users(info, sizes.gathered))
        users, began = await known_users(info, sizes.gathered), time.process_time()
        gathered = await rate(lambda user: client.update_user_streak(user, "UTC"), users)
        cpu = (time.process_time() - began) / len(users) * 1e6
        cached = await cached_us(client, (await new_users(info, 1))[0], sizes.cached)
        took = sorted(await at_load(client, await known_users(info, sizes.gathered), 0.8 * gathered))
        client_lost = await lost_updates(info, by_client(client), await new_users(info, sizes.pairs))
    async with httpx.AsyncClient(timeout=60, limits=httpx.Limits(max_connections=50)) as http:
        options = AsyncClientOptions(httpx_client=http, auto_refresh_token=False, persist_session=False)
        supabase = AsyncClient(info.supabase_url, info.secret_key, options)

        def single(user: UUID) -> Awaitable[object]:
            return supabase.rpc("update_user_streak_atomic", {"p_user_id": str(user), "p_timezone": "UTC"}).execute()

        singles = await rate(single, await known_users(info, sizes.singles))
        today, peer = datetime.now(UTC).date(), naive(supabase)
        naively = await rate(lambda user: peer(user, today), await known_users(info, sizes.naive))
        naive_lost = await lost_updates(info, peer, await new_users(info, sizes.pairs))
    return {
        "gathered cpu a call, us": cpu,
        "client lost updates, %": client_lost / sizes.pairs * 100,
        "naive lost updates, %": naive_lost / sizes.pairs * 100,
        "requests of 100 calls": await burst_requests(info, (await new_users(info, 1))[0]),
        **await rest_load(info, await new_users(info, 20), sizes.rest),
        "gathered, a second": gathered,
        "gathered first activities, a second": first,
        "single, a second": singles,
        "naive, a second": naively,
        "cached read, us": cached,
        "mean at 80% load, ms": statistics.mean(took),
        "p95 at 80% load, ms": took[int(len(took) * 0.95)],
        **await idle(info, (await new_users(info, 1))[0], sizes.calls),
    }


def report(found: dict[str, float]) -> None:
    """Print the figures and their ratios."""
    gathered, bare, client = found["gathered, a second"], found["bare post, ms"], found["async client, ms"]
    table = Table("work", "measured", "ratio")
    table.add_row("gathered, distinct users", f"{gathered:,.0f}/s", "")
    table.add_row("the same, first activities", f"{found['gathered first activities, a second']:,.0f}/s", "")
    for name, key in (("one RPC each, supabase-py", "single"), ("read, compute, write back", "naive")):
        peer = found[f"{key}, a second"]
        table.add_row(name, f"{peer:,.0f}/s", f"{gathered / peer:.1f} x")
    table.add_row("CPU of a gathered update", f"{found['gathered cpu a call, us']:.0f} µs", "")
    lost = (f"{found[f'{key} lost updates, %']:.0f}% lost" for key in ("client", "naive"))
    table.add_row("two days told at once: client, naive", *lost)
    table.add_row("100 calls at once, one user", f"{found['requests of 100 calls']:.0f} requests", "")
    rest = f"{found['rest, a second']:,.0f}/s, {found['rest cpu a request, ms']:.2f} ms CPU each"
    table.add_row("REST, 100 at a time", f"p95 {found['rest p95, ms']:.0f} ms", rest)
    table.add_row("cached read", f"{found['cached read, us']:.1f} µs", "")
    mean, p95 = found["mean at 80% load, ms"], found["p95 at 80% load, ms"]
    table.add_row("at 80% load", f"mean {mean:.1f} ms", f"p95 {p95:.1f} ms")
    table.add_row("bare httpx POST", f"{bare:.2f} ms", "")
    table.add_row("AsyncStreakClient, idle", f"{client:.2f} ms", f"{client / bare:.2f} x bare")
    sync = found["sync client, ms"]
    table.add_row("StreakClient, idle", f"{sync:.2f} ms", f"{sync / client:.2f} x async")
    Console().print(table)


def main() -> None:
    """Start a stack, unless there is one, and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=float, default=1.0, help="of the numbers of calls")
    parser.add_argument("--output", type=Path, help="also write the figures as JSON")
    arguments = parser.parse_args()
    with contextlib.ExitStack() as exits:
        info = outside_stack()
        if info is None:
            folder = Path(exits.enter_context(tempfile.TemporaryDirectory()))
            info = exits.enter_context(running_stack(folder=folder)).info
        found = asyncio.run(measure(info, Sizes(arguments.scale)))
    report(found)
    if arguments.output:
        arguments.output.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
