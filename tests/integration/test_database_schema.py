"""The migrated schema: what it is, what every part of it must have, and how it comes about."""

from __future__ import annotations

import asyncio
import difflib
import os
from collections.abc import AsyncIterator
from typing import TypeAlias

import asyncpg
import pytest

from local_supabase.stack import StackInfo
from tests.support.database import migration_scripts
from tests.support.migrated import database, supabase_scripts
from tests.support.schema import SNAPSHOT, schema_of
from tests.support.supabase_cli import pushed_database

__all__ = ["pushed_database"]
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
UPDATE = "UPDATE_SCHEMA_SNAPSHOT"
OURS = ("public", "private")


@pytest.fixture
async def connection(pushed_database: str) -> AsyncIterator[Connection]:
    """A connection as the owner."""
    connection = await asyncpg.connect(pushed_database)
    yield connection
    await connection.close()


async def test_schema_is_the_one_we_keep(pushed_database: str) -> None:
    """The migrated schema is the snapshot; `UPDATE_SCHEMA_SNAPSHOT=1 pytest -k schema_is_the_one` writes it anew."""
    lines = await schema_of(pushed_database)
    if os.environ.get(UPDATE):
        SNAPSHOT.write_text("\n".join(lines) + "\n", encoding="utf-8")
    kept = SNAPSHOT.read_text(encoding="utf-8").splitlines()
    difference = "\n".join(difflib.unified_diff(kept, lines, str(SNAPSHOT.name), "migrated", lineterm="", n=0))
    assert not difference, f"{difference}\nIf it is meant, set {UPDATE}=1 and run this test again."


def test_every_earlier_version_leads_to_the_same_schema(stack: StackInfo) -> None:
    """A push from any earlier version makes the same schema as one from nothing, with users acting in between."""
    scripts = migration_scripts()
    for done in range(len(scripts) + 1):
        with database(stack.database_url, *supabase_scripts(), *scripts[:done]) as url:
            with_rows = asyncio.run(fill(url))
            asyncio.run(push(url, scripts[done:]))
            assert asyncio.run(schema_of(url)) == SNAPSHOT.read_text(encoding="utf-8").splitlines(), done
            assert asyncio.run(read(url)) == with_rows, done


async def push(url: str, scripts: list[str]) -> None:
    """Apply migrations as the CLI does: each in a transaction."""
    connection = await asyncpg.connect(url)
    try:
        for script in scripts:
            async with connection.transaction():
                await connection.execute(script)
    finally:
        await connection.close()


async def fill(url: str) -> list[asyncpg.Record]:
    """Leave rows of a user in the tables that exist by now, and return what the tables hold."""
    connection = await asyncpg.connect(url)
    try:
        if await connection.fetchval("select to_regclass('public.user_streaks')"):
            await connection.execute("""
                insert into auth.users (id) values ('00000000-0000-4000-8000-000000000001');
                insert into public.user_streaks (user_id, current_streak, longest_streak, last_active_date)
                select id, 3, 5, current_date from auth.users;
            """)
    finally:
        await connection.close()
    return await read(url)


async def read(url: str) -> list[asyncpg.Record]:
    """The rows as every version has them."""
    connection = await asyncpg.connect(url)
    try:
        if not await connection.fetchval("select to_regclass('public.user_streaks')"):
            return []
        return await connection.fetch(
            "select user_id, current_streak, longest_streak, last_active_date, version from public.user_streaks"
        )
    finally:
        await connection.close()


async def test_everything_has_a_comment(connection: Connection) -> None:
    """Every schema of ours, table, column, view, type and function has a comment."""
    missing = await connection.fetch(
        """
        with ours as (select n.oid, n.nspname from pg_namespace n where n.nspname = any ($1))
        select 'schema ' || o.nspname from ours o where obj_description(o.oid, 'pg_namespace') is null
        union all
        select c.oid::regclass::text from pg_class c join ours o on o.oid = c.relnamespace
        where c.relkind in ('r', 'v', 'm', 'p', 'f') and obj_description(c.oid, 'pg_class') is null
        union all
        select c.oid::regclass || '.' || a.attname from pg_class c join ours o on o.oid = c.relnamespace
        join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
        where c.relkind in ('r', 'p', 'f') and col_description(c.oid, a.attnum) is null
        union all
        select p.oid::regprocedure::text from pg_proc p join ours o on o.oid = p.pronamespace
        where obj_description(p.oid, 'pg_proc') is null
        union all
        select 'type ' || t.typname from pg_type t join ours o on o.oid = t.typnamespace
        left join pg_class c on c.oid = t.typrelid
        where (t.typtype in ('e', 'd') or c.relkind = 'c') and obj_description(t.oid, 'pg_type') is null
        """,
        OURS,
    )
    assert [name for (name,) in missing] == []


async def test_every_function_has_an_empty_search_path(connection: Connection) -> None:
    """No function of ours resolves a name by the caller's search_path."""
    loose = await connection.fetch(
        """
        select p.oid::regprocedure::text from pg_proc p where p.pronamespace::regnamespace::text = any ($1)
        and not coalesce(p.proconfig @> array['search_path=""'], false)
        """,
        OURS,
    )
    assert [name for (name,) in loose] == []


async def test_execute_is_granted_by_name(connection: Connection) -> None:
    """Nothing of ours is executable by everyone or by anon, and a user may execute these functions alone."""
    grants = await connection.fetch(
        """
        select coalesce(r.rolname, 'public') as role, p.pronamespace::regnamespace || '.' || p.proname as function
        from pg_proc p cross join lateral aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) x
        left join pg_roles r on r.oid = x.grantee
        where p.pronamespace::regnamespace::text = any ($1) and x.grantee <> p.proowner
        """,
        OURS,
    )
    may = {role: {g["function"] for g in grants if g["role"] == role} for role in {g["role"] for g in grants}}
    assert set(may) == {"authenticated", "service_role"}
    assert {name for name in may["authenticated"] if name.startswith("public.")} == {
        "public.explain_user_streak",
        "public.get_streak_calendar",
        "public.get_streak_leaderboard",
        "public.get_user_streak",
    }
    definers = await connection.fetch(
        "select proname from pg_proc where pronamespace = 'public'::regnamespace and prosecdef"
    )
    assert definers == []


async def test_anon_cannot_reach_the_private_schema(connection: Connection) -> None:
    """The schema `private` is closed to anon, and to everybody for making things in it."""
    rights = {
        (role, right): await connection.fetchval("select has_schema_privilege($1, 'private', $2)", role, right)
        for role in ("anon", "authenticated", "service_role")
        for right in ("usage", "create")
    }
    assert {who for who, allowed in rights.items() if allowed} == {
        ("authenticated", "usage"),
        ("service_role", "usage"),
    }
    tables = await connection.fetch(
        """
        select c.relname, r.rolname from pg_class c, pg_roles r
        where c.relnamespace = 'private'::regnamespace and c.relkind in ('r', 'v')
          and r.rolname in ('anon', 'authenticated', 'service_role')
          and has_table_privilege(r.oid, c.oid, 'select, insert, update, delete')
        """
    )
    assert tables == []


async def test_old_signatures_are_gone(connection: Connection) -> None:
    """No function of the API is overloaded: PostgREST could not choose."""
    twice = await connection.fetch(
        "select proname from pg_proc where pronamespace = 'public'::regnamespace group by 1 having count(*) > 1"
    )
    assert twice == []
