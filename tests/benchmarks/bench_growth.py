"""What the steps of docs/growth.md cost and bring, beside the database as it is; ratios of neighbours in one run.

    python -m tests.benchmarks.bench_growth [--rounds 5] [--users 2000]

Starts a local stack of its own. Needs pgbouncer; the queue stands on tests/growth/pgmq.sql, not on the extension.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import asyncpg
from rich.console import Console
from rich.table import Table

from local_supabase.stack import StackInfo
from tests.growth.pgbouncer import POOL, pgbouncer
from tests.growth.standby import standby
from tests.support.database import create_migrated, drop_database, execute
from tests.support.migrated import Connection, sign_up
from tests.support.stack import running_stack

ROOT = Path(__file__).parents[2]
UPDATE = "select * from public.update_user_streak_atomic($1, 'UTC', null, now())"
BATCH = "select * from public.update_user_streaks_batch($1::uuid[])"
READ = "select * from public.get_user_streak($1)"
SEND = "select pgmq.send('streak_activity', $1::jsonb)"


async def rate(work: Callable[[Sequence[UUID]], Awaitable[object]], users: Sequence[UUID]) -> float:
    """Users a second."""
    began = time.perf_counter()
    await work(users)
    return len(users) / (time.perf_counter() - began)


def batches(db: Connection) -> Callable[[Sequence[UUID]], Awaitable[object]]:
    """New days in batches of 500."""

    async def work(users: Sequence[UUID]) -> None:
        for start in range(0, len(users), 500):
            await db.execute(BATCH, users[start : start + 500])

    return work


def one_by_one(connections: Sequence[Connection], query: str) -> Callable[[Sequence[UUID]], Awaitable[object]]:
    """A call for each user, over connections side by side."""

    async def one(connection: Connection, users: Sequence[UUID]) -> None:
        for user in users:
            await connection.fetchrow(query, user)

    async def work(users: Sequence[UUID]) -> None:
        step = len(connections)
        await asyncio.gather(*(one(connection, users[n::step]) for n, connection in enumerate(connections)))

    return work


async def partitions(info: StackInfo, rounds: int, number: int) -> tuple[float, float]:
    """Users a second in batches: as it is, and on partitions."""
    urls = [await create_migrated(info.database_url) for _ in range(2)]
    try:
        await execute(urls[1], (ROOT / "docs/growth/partition.sql").read_text(encoding="utf-8"))
        found = await asyncio.gather(*(asyncpg.connect(url) for url in urls))
        took: list[list[float]] = [[], []]
        for _ in range(rounds):
            for n, db in enumerate(found):
                took[n].append(await rate(batches(db), await sign_up(db, number)))
        await asyncio.gather(*(db.close() for db in found))
    finally:
        for url in urls:
            await drop_database(info.database_url, url)
    return statistics.median(took[0]), statistics.median(took[1])


async def pooler(info: StackInfo, rounds: int, number: int) -> tuple[float, float]:
    """Updates a second of 100 clients: over connections of their own, and over the pooler's four."""
    direct = await asyncpg.connect(info.database_url)
    async with pgbouncer(info.database_url) as made:
        own = [await asyncpg.connect(info.database_url, statement_cache_size=0) for _ in range(100)]
        shared = [await asyncpg.connect(made.url(info.database_url), statement_cache_size=0) for _ in range(100)]
        took: list[list[float]] = [[], []]
        for _ in range(rounds):
            for n, connections in enumerate((own, shared)):
                took[n].append(await rate(one_by_one(connections, UPDATE), await sign_up(direct, number)))
        await asyncio.gather(*(one.close() for one in (*own, *shared, direct)))
    return statistics.median(took[0]), statistics.median(took[1])


async def queue(info: StackInfo, rounds: int, number: int) -> tuple[float, float, float]:
    """A second: updates over one connection, messages sent over one, and messages counted by one consumer."""
    url = await create_migrated(info.database_url)
    try:
        for script in ("tests/growth/pgmq.sql", "docs/growth/queue.sql"):
            await execute(url, (ROOT / script).read_text(encoding="utf-8"))
        db = await asyncpg.connect(url)

        async def send(users: Sequence[UUID]) -> None:
            for user in users:
                body = {"user_id": str(user), "activity_at": datetime.now(UTC).isoformat(), "request_id": str(user)}
                await db.execute(SEND, json.dumps(body))

        took: list[list[float]] = [[], [], []]
        for _ in range(rounds):
            took[0].append(await rate(one_by_one([db], UPDATE), await sign_up(db, number)))
            users = await sign_up(db, number)
            took[1].append(await rate(send, users))
            took[2].append(await rate(lambda _: db.execute("call private.drain_streak_queue()"), users))
        await db.close()
    finally:
        await drop_database(info.database_url, url)
    updates, sent, counted = (statistics.median(values) for values in took)
    return updates, sent, counted


async def replica(info: StackInfo, rounds: int) -> tuple[float, float]:
    """Milliseconds from the commit on the primary until the replica shows it: median and most."""
    db = await asyncpg.connect(info.database_url)
    took = []
    async with standby(info) as made:
        other = await asyncpg.connect(made.database_url)
        for user in await sign_up(db, 20 * rounds):
            await db.fetchrow(UPDATE, user)
            began = time.perf_counter()
            while not await other.fetchval(f"select version from ({READ}) r", user):  # noqa: S608 - a constant
                pass
            took.append((time.perf_counter() - began) * 1000)
        await other.close()
    await db.close()
    return statistics.median(took), max(took)


async def measure(info: StackInfo, rounds: int, number: int) -> Table:
    """Measure everything."""
    table = Table("step", "as it is", "with it", "ratio")
    flat, parted = await partitions(info, rounds, number)
    table.add_row("16 partitions, new days in batches", f"{flat:,.0f}/s", f"{parted:,.0f}/s", f"{parted / flat:.2f}")
    own, shared = await pooler(info, rounds, number)
    table.add_row(f"pooler, 100 clients over {POOL}", f"{own:,.0f}/s", f"{shared:,.0f}/s", f"{shared / own:.2f}")
    updates, sent, counted = await queue(info, rounds, number)
    table.add_row("queue, send instead of update", f"{updates:,.0f}/s", f"{sent:,.0f}/s", f"{sent / updates:.2f}")
    table.add_row(
        "queue, counted by one consumer", f"{updates:,.0f}/s", f"{counted:,.0f}/s", f"{counted / updates:.2f}"
    )
    median, most = await replica(info, rounds)
    table.add_row("replica, commit to visible", "", f"median {median:.1f} ms, at most {most:.1f} ms", "")
    return table


def main() -> None:
    """Start a stack and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--users", type=int, default=2000, help="for each measurement")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, running_stack("--faults", folder=Path(folder)) as stack:
        Console().print(asyncio.run(measure(stack.info, arguments.rounds, arguments.users)))


if __name__ == "__main__":
    main()
