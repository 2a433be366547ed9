"""A database with the tables behind the transcripts, and the stand-in for Realtime on it."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

import asyncpg

from local_supabase.realtime import RealtimeServer, Settings
from tests.support.realtime_replay import SECRET

__all__ = ["PUBLISHABLE_KEY", "SECRET_KEY", "TABLES", "database", "server"]

SECRET_KEY: Final = "sb_secret_of-the-realtime-tests"  # noqa: S105  (opens nothing but the test's own server)
PUBLISHABLE_KEY: Final = "sb_publishable_of-the-realtime-tests"

TABLES: Final = """
create table public.user_streaks (user_id uuid primary key, current_streak int, longest_streak int,
  last_active_date date, timezone text, version int, updated_at timestamptz);
alter table public.user_streaks replica identity full;
alter table public.user_streaks enable row level security;
create policy "select own row" on public.user_streaks for select to authenticated using (auth.uid() = user_id);
create table public.not_published (id int primary key, v text);
alter publication supabase_realtime add table public.user_streaks;
"""
_BEFORE: Final = """
create schema if not exists auth;
create or replace function auth.uid() returns uuid language sql stable as
  $$ select nullif(nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub', '')::uuid $$;
create publication supabase_realtime;
alter default privileges in schema public grant all on tables to anon, authenticated, service_role;
grant usage on schema auth, public to anon, authenticated, service_role;
create table public.contract_marker (id int generated always as identity primary key);
alter publication supabase_realtime add table public.contract_marker;
"""


async def _create(url: str, sql: str) -> str:
    name = f"realtime_{secrets.token_hex(6)}"
    outer = await asyncpg.connect(url)
    await outer.execute(f"create database {name}")
    await outer.close()
    own = urlunsplit(urlsplit(url)._replace(path=f"/{name}"))
    connection = await asyncpg.connect(own)
    await connection.execute(_BEFORE + sql)
    await connection.close()
    return own


async def _drop(url: str, own: str) -> None:
    outer = await asyncpg.connect(url)
    await outer.execute(f"drop database if exists {urlsplit(own).path[1:]} with (force)")
    await outer.close()


@contextmanager
def database(url: str, sql: str = TABLES) -> Iterator[str]:
    """Make a database with the roles' rights, a publication and the tables of `sql`. Not within an event loop.

    Args:
        url: A database of a cluster that has the roles anon, authenticated and service_role.
        sql: Statements that make what the test needs.

    Yields:
        The URL of the new database, which goes away with the block.
    """
    own = asyncio.run(_create(url, sql))
    try:
        yield own
    finally:
        asyncio.run(_drop(url, own))


@asynccontextmanager
async def server(url: str, **settings: Any) -> AsyncIterator[RealtimeServer]:
    """Run a server with faults on a database, with delays that do not hold up tests."""
    quick = {"subscribe_delay": 0.0, "reject_delay": 0.0, "join_error_delay": 0.0, "publication_interval": 0.05}
    running = RealtimeServer(
        database_url=url,
        jwt_secret=SECRET,
        secret_key=SECRET_KEY,
        publishable_key=PUBLISHABLE_KEY,
        faults=True,
        settings=Settings(**(quick | settings)),
    )
    await running.start()
    try:
        yield running
    finally:
        await running.stop()
