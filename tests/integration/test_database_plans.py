"""Plans that do not depend on when they were made: a call reads its own users' rows, however the tables grew since."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg
import pytest

from tests.support.migrated import Connection, sign_up

GROWN = 4_000
# What a call may read of the four tables, for each of its users: rows, entries of the ledger, history, keys.
ROWS_A_USER = 30
READ = """
select coalesce(sum(seq_tup_read + idx_tup_fetch), 0)::integer from pg_stat_xact_user_tables
where schemaname in ('public', 'auth') and relname in ('user_streaks', 'streak_days', 'streak_history', 'users')
"""
BATCH = "select * from public.update_user_streaks_batch($1::uuid[], $2::timestamptz[])"
SINGLE = """
select public.update_user_streak_atomic(p_user_id => u, p_activity_at => ($2::timestamptz[])[1])
from unnest($1::uuid[]) u
"""
IMPORT = """
select public.import_user_activity(array[u], array[($2::timestamptz[])[1]], array['UTC']) from unnest($1::uuid[]) u
"""
CALENDAR = """
select public.get_streak_calendar(u, current_date - 5, current_date) from unnest($1::uuid[]) u
where $2::timestamptz[] is not null
"""
# each with the number of days before today on which its users act
CALLS: dict[str, tuple[str, Sequence[int]]] = {
    "first activities, one by one": (SINGLE, [3]),
    "new days, one by one": (SINGLE, [3, 2]),
    "late days, one by one": (SINGLE, [2, 3]),
    "repeats, one by one": (SINGLE, [3, 3]),
    "first activities, a batch": (BATCH, [3]),
    "new days, a batch": (BATCH, [3, 2]),
    "late days, a batch": (BATCH, [2, 3]),
    "repeats, a batch": (BATCH, [3, 3]),
    "read, one by one": (
        "select public.get_user_streak(u) from unnest($1::uuid[]) u where $2::timestamptz[] is not null",
        [3, 3],
    ),
    "imports of one user": (IMPORT, [3, 2]),
    "recounts": (
        "select public.rebuild_user_streak(u) from unnest($1::uuid[]) u where $2::timestamptz[] is not null",
        [3, 3],
    ),
    "calendar": (CALENDAR, [3, 3]),
    "read, all": ("select * from public.get_user_streaks($1) where $2::timestamptz[] is not null", [3, 3]),
}


async def rows_read(connection: Connection, call: str, people: Sequence[UUID], days: Sequence[int]) -> int:
    """Let users act, on the last day by the call in question, and count the rows that this one read."""
    now = datetime.now(UTC)
    for at in days[:-1]:
        await connection.execute(BATCH, people, [now - timedelta(days=at)] * len(people))
    async with connection.transaction():
        before: int = await connection.fetchval(READ)
        await connection.fetch(call, people, [now - timedelta(days=days[-1])] * len(people))
        after: int = await connection.fetchval(READ)
    return after - before


@pytest.mark.parametrize("name", CALLS)
def test_plan_made_for_small_tables_reads_no_more_when_they_have_grown(own_database: str, name: str) -> None:
    """A connection that knew the tables when they were small reads only its own users' rows when they are large."""
    asyncio.run(compare(own_database, *CALLS[name]))


async def compare(database: str, call: str, days: Sequence[int]) -> None:
    """Make the call's plan on small tables, let them grow, and count what it reads then."""
    async with contextlib.AsyncExitStack() as exits:
        connection = await asyncpg.connect(database)
        exits.push_async_callback(connection.close)
        for table in ("public.user_streaks", "public.streak_days", "public.streak_history", "auth.users"):
            await connection.execute(f"alter table {table} set (autovacuum_enabled = false)")  # nor analyze
        for number in (1, 5, 40, 40, 100, 100, 100):
            await rows_read(connection, call, await sign_up(connection, number), days)
        await grow(database)
        for number in (1, 5, 40):
            read = await rows_read(connection, call, await sign_up(connection, number), days)
            assert read <= ROWS_A_USER * number, f"{number} users: {read} rows"


async def grow(database: str) -> None:
    """Let others act, too, on a connection of their own."""
    other = await asyncpg.connect(database)
    crowd, yesterday = await sign_up(other, GROWN), datetime.now(UTC) - timedelta(days=1)
    for start in range(0, GROWN, 500):
        await other.execute(BATCH, crowd[start : start + 500], [yesterday] * 500)
    await other.close()
