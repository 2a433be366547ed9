"""Through a pooler in transaction mode, where every transaction may get another server connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID

import asyncpg
import psycopg
import pytest

from local_supabase.stack import StackInfo
from tests.growth.pgbouncer import POOL, Pooler, pgbouncer
from tests.support.crowd import assert_sound
from tests.support.migrated import sign_up

UPDATE = "select * from public.update_user_streak_atomic($1, 'Europe/Paris', $2)"
BATCH = "select * from public.update_user_streaks_batch($1)"
READ = "select * from public.get_user_streak($1)"
BACKENDS = "select count(*) from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()"

# Whatever a session may keep between transactions.
RESIDUE = """
select 'setting ' || name from pg_settings where source = 'session'
union all select 'prepared statement ' || name from pg_prepared_statements
union all select 'cursor ' || name from pg_cursors
union all select 'channel ' || c from pg_listening_channels() c
union all select 'advisory lock' from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()
union all select 'temporary table ' || c.relname from pg_class c where c.relpersistence = 't'
  and c.relnamespace = pg_my_temp_schema()
"""
# Settings of our own are in no view: the sources must not make any that lasts.
LASTING = r"""
select p.oid::regprocedure::text from pg_proc p
where p.pronamespace in ('public'::regnamespace, 'private'::regnamespace)
  and p.prosrc ~*
    'set_config\s*\([^;]*,\s*false\s*\)|\mset\s+session\M|pg_advisory_(lock|unlock)|\mlisten\M|create\s+temp'
"""
CALLS = """
select public.update_user_streak_atomic($1, 'Asia/Tokyo', 'one', now() - interval '2 days');
select public.update_user_streak_atomic($1, 'Asia/Tokyo', 'two', now());
select public.update_user_streak_atomic($1, 'Asia/Tokyo', 'two', now());
select public.update_user_streaks_batch(array[$1::uuid, $1::uuid], array[now(), now() - interval '3 days']);
select public.recover_user_streak($1, current_date - 1, current_date - 1, 'an outage');
select public.import_user_activity(array[$1::uuid], array[now() - interval '9 days'], array['UTC']);
select public.get_user_streak($1);
select public.get_user_streaks(array[$1::uuid]);
select public.get_streak_leaderboard();
select public.get_streak_calendar($1, current_date - 7, current_date);
select public.rebuild_user_streak($1);
select public.expire_lapsed_streaks(10);
"""


@pytest.fixture
async def pooler(stack: StackInfo) -> AsyncIterator[Pooler]:
    """A pooler in front of the stack's server."""
    async with pgbouncer(stack.database_url) as made:
        yield made


async def test_a_hundred_clients_share_four_connections(pooler: Pooler, own_database: str) -> None:
    """A hundred clients that update, repeat, send batches and read over four server connections get right answers."""
    direct = await asyncpg.connect(own_database)
    ids = await sign_up(direct, 100)
    clients = [await asyncpg.connect(pooler.url(own_database), statement_cache_size=0) for _ in ids]

    async def work(client: asyncpg.Connection[asyncpg.Record], user: UUID) -> None:
        first = await client.fetchrow(UPDATE, user, "one")
        again = await client.fetchrow(UPDATE, user, "one")
        batch = await client.fetch(BATCH, [user, ids[0]])
        read = await client.fetchrow(READ, user)
        assert first is not None
        assert again is not None
        assert read is not None
        assert (first["current_streak"], again["current_streak"], read["current_streak"]) == (1, 1, 1)
        assert again["replayed"]
        assert [row["error"] for row in batch] == [None, None]

    try:
        await asyncio.gather(*(work(client, user) for client, user in zip(clients, ids, strict=True)))
        assert 1 <= await direct.fetchval(BACKENDS) <= POOL
        assert await direct.fetchval("select count(*) from public.streak_days") == len(ids)
        await assert_sound(direct, ids)
    finally:
        await asyncio.gather(*(client.close() for client in clients))
        await direct.close()


async def test_functions_leave_nothing_in_the_session(own_database: str) -> None:
    """No function sets, prepares, locks, listens or makes anything that outlives its transaction."""
    connection = await asyncpg.connect(own_database, statement_cache_size=0)
    try:
        (user,) = await sign_up(connection, 1)
        before = {row[0] for row in await connection.fetch(RESIDUE)}
        for statement in filter(None, map(str.strip, CALLS.split(";\n"))):
            await connection.execute(statement.replace("$1", f"'{user}'"))
        assert {row[0] for row in await connection.fetch(RESIDUE)} == before
        assert await connection.fetch(LASTING) == []
        assert await connection.fetchval("select count(*) from public.streak_days") >= 4
    finally:
        await connection.close()


async def test_prepared_statements(pooler: Pooler, own_database: str) -> None:
    """Drivers that prepare nothing work behind every pooler; named statements need PgBouncer 1.21 or newer."""
    direct = await asyncpg.connect(own_database)
    ids = await sign_up(direct, 20)
    url = pooler.url(own_database)
    connections = [
        await psycopg.AsyncConnection.connect(url, autocommit=True, prepare_threshold=None) for _ in range(8)
    ]
    caching = [await asyncpg.connect(url) for _ in range(8)]

    async def update(connection: psycopg.AsyncConnection, user: UUID) -> None:
        for _ in range(10):
            await connection.execute("select * from public.update_user_streak_atomic(%s)", [user])

    async def named() -> None:
        for _ in range(5):
            await asyncio.gather(*(one.fetch(READ, ids[0]) for one in caching))

    try:
        await asyncio.gather(*(update(*pair) for pair in zip(connections, ids, strict=False)))
        assert await direct.fetchval("select count(*) from public.streak_days") == len(connections)
        if pooler.version >= (1, 21):
            await named()
        else:
            with pytest.raises((asyncpg.DuplicatePreparedStatementError, asyncpg.InvalidSQLStatementNameError)):
                await named()
    finally:
        await asyncio.gather(*(one.close() for one in connections))
        for one in caching:
            one.terminate()
        await direct.close()
