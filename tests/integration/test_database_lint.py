"""Supabase's own database linter, as its CLI runs it by URL, and the indexes that it watches."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg

from tests.support.checked_server import checked_server
from tests.support.database import database_name, execute
from tests.support.migrated import migrated_scripts
from tests.support.supabase_cli import pushed_database, supabase

__all__ = ["checked_server", "pushed_database"]

# One query for each index, named by the migration that makes it. The rest are keys, used by every activity.
USES = [
    "select * from public.get_streak_leaderboard()",
    "select * from public.get_streak_leaderboard(p_order_by => 'longest_streak')",
    "select * from public.expire_lapsed_streaks(10)",
    "select * from public.erase_user_streak((select id from auth.users limit 1))",
]


def advise(url: str, home: Path) -> list[dict[str, Any]]:
    """What the security and performance advisors say."""
    done = supabase("db", "advisors", "--level", "info", "--fail-on", "info", "--db-url", url=url, home=home)
    said: list[dict[str, Any]] = json.loads(done.stdout) if done.stdout.strip().startswith("[") else []
    assert done.returncode == bool(said), done.stderr
    return said


async def exercise(url: str) -> None:
    """Call what the indexes are for: one that no query uses would be reported."""
    connection = await asyncpg.connect(url)
    users = [UUID(int=n) for n in range(1, 1001)]
    await connection.execute("insert into auth.users (id) select unnest($1::uuid[])", users)
    for _ in range(2):
        await connection.execute("select * from public.update_user_streaks_batch($1)", users)
    await connection.execute("analyze public.user_streaks")
    for use in USES:
        await connection.execute(use)
    await connection.execute("select pg_stat_force_next_flush()")
    await connection.close()


def expose(url: str) -> str:
    """Say which schemas the API exposes, as hosted projects do: without it, the linter's exposure lints are mute."""
    name = database_name(url)
    return f"alter database {name} set pgrst.db_schemas = 'public, graphql_public'"


def test_advisors_have_nothing_to_say(pushed_database: str, tmp_path: Path) -> None:
    """The security and performance advisors report nothing, once each index has met the queries it is for."""
    asyncio.run(execute(pushed_database, expose(pushed_database)))
    asyncio.run(exercise(pushed_database))
    assert advise(pushed_database, tmp_path) == []


def test_advisors_would_speak_up(pushed_database: str, tmp_path: Path) -> None:
    """The same call reports a table without row level security, a loose function and an index that nothing uses."""
    spoil = """
        create table public.spoilt (id uuid primary key, user_id uuid references auth.users (id));
        grant all on public.spoilt to anon;
        create function public.spoilt() returns void language sql security definer as '';
        create index spoilt_idx on public.user_streaks (created_at);
    """
    asyncio.run(execute(pushed_database, expose(pushed_database), spoil))
    try:
        names = {said["name"] for said in advise(pushed_database, tmp_path)}
    finally:
        mend = "drop table public.spoilt; drop function public.spoilt(); drop index public.spoilt_idx"
        asyncio.run(execute(pushed_database, mend))
    assert names >= {
        "rls_disabled_in_public",
        "function_search_path_mutable",
        "unused_index",
        "unindexed_foreign_keys",
    }


def test_functions_have_no_loose_ends(checked_server: str, tmp_path: Path) -> None:
    """`supabase db lint` finds no wrong name, type or unused variable in a function, and would report one.

    It needs plpgsql_check, so it runs on another server than the rest.
    """
    asyncio.run(execute(checked_server, *migrated_scripts()))
    lint = ("db", "lint", "--schema", "public,private", "--level", "warning", "--fail-on", "warning", "--db-url")
    done = supabase(*lint, url=checked_server, home=tmp_path)
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stdout + done.stderr
    wrong = "create function public.wrong() returns void language plpgsql as 'begin perform missing(); end'"
    asyncio.run(execute(checked_server, wrong))
    assert "public.wrong" in supabase(*lint, url=checked_server, home=tmp_path).stdout
