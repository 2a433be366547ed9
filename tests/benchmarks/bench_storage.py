"""What the data weighs, what archiving costs writers, and how often autovacuum should come (docs/sizing.md).

    python -m tests.benchmarks.bench_storage [--users 4000] [--days 60] [--only bytes,archive,autovacuum]

Starts a local stack of its own. Bytes are exact; of times take the ratios.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import asyncpg
from rich.console import Console
from rich.progress import track
from rich.table import Table

from tests.support.database import TEST_CLOCK, create_migrated, drop_database, execute
from tests.support.migrated import Connection, sign_up
from tests.support.stack import running_stack

ZONES = ("UTC", "America/New_York", "Asia/Kolkata", "Pacific/Auckland")
ACTIVE, CHUNK = 0.7, 1_000
WRITERS, ROUNDS, SECONDS = 3, 4, 2.5
BATCH = "select count(*) from public.update_user_streaks_batch($1::uuid[], $2::timestamptz[], $3::text[], $4::text[])"
SINGLE = "select public.update_user_streak_atomic($1, null, $2)"
SIZE = """
select pg_relation_size($1::regclass) as heap, pg_indexes_size($1::regclass) as indexes
"""
UPDATES = """
select n_tup_hot_upd as hot, n_tup_newpage_upd as moved from pg_stat_user_tables where relname = 'user_streaks'
"""


async def act(db: Connection, users: Sequence[UUID], day: datetime) -> int:
    """Let most users act at any time of a day, with the clock at its end, and sweep; return how many acted."""
    await db.execute("select set_config('streaks.test_now', $1, false)", str(day + timedelta(days=1)))
    dice = random.Random(day.toordinal())
    active = [user for user in users if dice.random() < ACTIVE]
    dice.shuffle(active)
    for start in range(0, len(active), CHUNK):
        some = active[start : start + CHUNK]
        ats = [day + timedelta(seconds=dice.random() * 86_400) for _ in some]
        zones = [ZONES[user.int % len(ZONES)] for user in some]
        await db.execute(BATCH, some, ats, zones, [str(uuid4()) for _ in some])
    await db.execute("select public.expire_lapsed_streaks(100000)")
    return len(active)


async def wal(db: Connection) -> int:
    """The position in the log, in bytes."""
    position: int = await db.fetchval("select (pg_current_wal_lsn() - '0/0')::bigint")
    return position


async def years_of(db: Connection, users: Sequence[UUID], days: int) -> tuple[int, int]:
    """Let users act on each day until yesterday; return the activities and the bytes of log."""
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    began, acted = await wal(db), 0
    for ago in track(range(days, 0, -1), "days", transient=True):
        acted += await act(db, users, today - timedelta(days=ago))
    await db.execute("reset streaks.test_now")
    return acted, await wal(db) - began


async def weights(db: Connection, users: Sequence[UUID], days: int) -> Table:
    """Bytes a row of each table, and of the log an activity."""
    acted, logged = await years_of(db, users, days)
    table = Table("table", "rows an activity", "row, B", "heap a row, B", "indexes a row, B")
    for name in ("streak_days", "streak_history", "user_streaks"):
        table.add_row(*await weight(db, name, acted))
    # a copy: the archive's benchmark needs the history where it is
    await db.execute("insert into public.streak_history_archive select * from public.streak_history")
    table.add_row(*await weight(db, "streak_history_archive", acted))
    await db.execute("truncate public.streak_history_archive")
    table.caption = f"{acted:,} activities, {logged / acted:,.0f} B of WAL each"
    return table


async def weight(db: Connection, name: str, acted: int) -> list[str]:
    """A table's bytes, divided by its rows."""
    await db.execute(f"vacuum analyze public.{name}")
    row = await db.fetchrow(f"select count(*) as rows, avg(pg_column_size(t.*)) as bytes from public.{name} t")  # noqa: S608 - a constant
    size = await db.fetchrow(SIZE, f"public.{name}")
    assert row is not None
    assert size is not None
    each = [size["heap"] / row["rows"], size["indexes"] / row["rows"]]
    return [name, f"{row['rows'] / acted:.2f}", f"{row['bytes']:.0f}", *(f"{value:.0f}" for value in each)]


async def writers(url: str, users: Sequence[UUID], seconds: float) -> list[float]:
    """The latencies, in ms, of updates over a few connections."""
    took: list[float] = []
    until = time.perf_counter() + seconds

    async def one(number: int) -> None:
        db = await asyncpg.connect(url)
        while (began := time.perf_counter()) < until:
            await db.execute(SINGLE, random.choice(users[number::WRITERS]), str(uuid4()))
            took.append((time.perf_counter() - began) * 1000)
        await db.close()

    await asyncio.gather(*(one(number) for number in range(WRITERS)))
    return took


async def archiver(db: Connection, times: list[float]) -> None:
    """Archive a batch every 0.1 s; note how long each took, in ms."""
    while True:
        began = time.perf_counter()
        await db.execute("select public.archive_streak_history('30 days', 1000)")
        times.append((time.perf_counter() - began) * 1000)
        await asyncio.sleep(0.1)


async def archive(db: Connection, url: str, users: Sequence[UUID]) -> Table:
    """Latencies of writers without and with archiving, in rounds that take turns."""
    alone, beside, batches = list[float](), list[float](), list[float]()
    for _ in range(ROUNDS):
        alone += await writers(url, users, SECONDS)
        job = asyncio.create_task(archiver(db, batches))
        beside += await writers(url, users, SECONDS)
        job.cancel()
        await asyncio.gather(job, return_exceptions=True)
    table = Table("an update's latency", "alone, ms", "beside archiving, ms", "ratio")
    for name, share in (("median", 50), ("95th percentile", 95), ("99th percentile", 99)):
        without, with_ = (statistics.quantiles(found, n=100)[share - 1] for found in (alone, beside))
        table.add_row(name, f"{without:.2f}", f"{with_:.2f}", f"{with_ / without:.2f}")
    moved = await db.fetchval("select count(*) from public.streak_history_archive")
    table.caption = f"{moved:,} rows moved in {len(batches)} batches, median {statistics.median(batches):.0f} ms"
    return table


async def vacuums(db: Connection, users: Sequence[UUID], share: float) -> list[str]:
    """Update every user on three days, with a vacuum at a share of dead rows, as autovacuum would come."""
    today, visits, dead = datetime.now(UTC), 0, 0
    began = await wal(db)
    for ago in (2, 1, 0):
        order = random.sample(users, len(users))
        for start in range(0, len(order), 100):
            some = order[start : start + 100]
            await db.execute(BATCH, some, [today - timedelta(days=ago)] * len(some), None, None)
            dead += len(some) if ago < 2 else 0  # the first day only inserts
            if dead >= 50 + share * len(users):
                await db.execute("vacuum public.user_streaks")
                visits, dead = visits + 1, 0
    logged = await wal(db) - began
    await db.fetchval("select pg_stat_force_next_flush()")
    size, updates = await db.fetchrow(SIZE, "public.user_streaks"), await db.fetchrow(UPDATES)
    assert size is not None
    assert updates is not None
    megabytes = [f"{size[name] / 2**20:.2f}" for name in ("heap", "indexes")]
    moved = f"{updates['moved'] / (2 * len(users)):.0%}"
    return [f"{share:.0%}", *megabytes, str(updates["hot"]), moved, str(visits), f"{logged / 3 / len(users):,.0f}"]


async def autovacuum(server: str, number: int) -> Table:
    """The same load with visits at different shares of dead rows, each in a database of its own."""
    table = Table(
        "dead rows at a visit", "heap, MB", "indexes, MB", "HOT", "to a new page", "visits", "WAL an update, B"
    )
    for share in (0.2, 0.05, 0.02):
        url = await create_migrated(server)
        db = await asyncpg.connect(url)
        await db.execute("alter table public.user_streaks set (autovacuum_enabled = false)")
        table.add_row(*await vacuums(db, await sign_up(db, number), share))
        await db.close()
        await drop_database(server, url)
    return table


async def measure(server: str, number: int, days: int, only: Sequence[str]) -> None:
    """Measure what is wanted, and print it."""
    console = Console()
    url = await create_migrated(server)
    await execute(url, TEST_CLOCK)
    db = await asyncpg.connect(url)
    try:
        users = await sign_up(db, number)
        if {"bytes", "archive"} & set(only):
            console.print(await weights(db, users, days))
        if "archive" in only:
            console.print(await archive(db, url, users))
        if "autovacuum" in only:
            console.print(await autovacuum(server, number))
    finally:
        await db.close()
        await drop_database(server, url)


def main() -> None:
    """Start a stack and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=4_000)
    parser.add_argument("--days", type=int, default=60, help="at least 32, for there to be something to archive")
    parser.add_argument("--only", default="bytes,archive,autovacuum", help="names, separated by commas")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, running_stack(folder=Path(folder)) as stack:
        only = arguments.only.split(",")
        asyncio.run(measure(stack.info.database_url, arguments.users, arguments.days, only))


if __name__ == "__main__":
    main()
