"""PostgreSQL killed in the middle of a load."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from uuid import UUID, uuid4

import asyncpg
import pytest

from local_supabase.database_errors import DATABASE_ERRORS
from local_supabase.faults import Faults
from local_supabase.stack import StackInfo
from tests.support.crowd import assert_sound
from tests.support.stack import connection, insert_user

DAYS = 7
CALL = "select * from public.update_user_streak_atomic($1, 'UTC', $2, $3)"


@pytest.fixture
async def users(stack: StackInfo) -> AsyncIterator[list[UUID]]:
    """Users in the stack's own database; gone with the test."""
    async with connection(stack) as database:
        ids = [await insert_user(database) for _ in range(400)]
    yield ids
    async with connection(stack) as database:
        await database.execute("delete from auth.users where id = any ($1)", ids)


async def test_acknowledged_activities_survive_kill_9(stack: StackInfo, faults: Faults, users: list[UUID]) -> None:
    """After SIGKILL under load every acknowledged activity is there, none twice, and what was not can be repeated.

    A killed process loses nothing that it wrote, whatever its `fsync`: the operating system keeps the pages. (The
    stack sets `fsync = off` unless it has a `--data-dir`; that risks a crash of the machine only.)
    """
    begun = datetime.now(UTC).replace(microsecond=0) - timedelta(days=DAYS - 1)
    work = [(user, begun + n * timedelta(days=1), uuid4().hex) for n in range(DAYS) for user in users]
    waiting, acknowledged = iter(work), []
    enough = asyncio.Event()

    async def load() -> None:
        database = await asyncpg.connect(stack.database_url)
        try:
            for user, at, request_id in itertools.islice(waiting, len(work)):
                await database.fetchrow(CALL, user, request_id, at)
                acknowledged.append((user, at.date()))
                if len(acknowledged) >= len(work) // 3:
                    enough.set()
        finally:
            database.terminate()

    clients = [asyncio.create_task(load()) for _ in range(16)]
    await enough.wait()
    await faults.postgres_kill()
    ends = await asyncio.gather(*clients, return_exceptions=True)
    assert all(isinstance(end, DATABASE_ERRORS) for end in ends), ends
    assert len(acknowledged) < len(work)
    await faults.postgres_start()

    async with connection(stack) as database:
        assert set(acknowledged) <= await ledger(database, users)
        await assert_sound(database, users)
        for user, at, request_id in work:
            await database.fetchrow(CALL, user, request_id, at)
        assert await ledger(database, users) == {(user, at.date()) for user, at, _ in work}
        await assert_sound(database, users)
        requests = await database.fetch("select request_id from public.streak_history where user_id = any ($1)", users)
        assert Counter(row["request_id"] for row in requests) == Counter(request_id for _, _, request_id in work)


async def ledger(database: asyncpg.Connection[asyncpg.Record], users: list[UUID]) -> set[tuple[UUID, date]]:
    """The days of users."""
    rows = await database.fetch("select user_id, day from public.streak_days where user_id = any ($1)", users)
    return {(row["user_id"], row["day"]) for row in rows}
