"""Databases for tests that need one of their own: a migrated template, made once a session, and copies of it.

They live on the server of the session's stack, beside the stack's own database, which cannot be a template itself:
others are connected to it. A copy may do what the stack's database must not, such as turning its clock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg
import pytest

if TYPE_CHECKING:
    from local_supabase.stack import StackInfo

MIGRATIONS = Path(__file__).parents[2] / "supabase" / "migrations"
STUB = Path(__file__).with_name("supabase_stub.sql")

# The clock of the functions, turned by `set streaks.test_now`; without the setting it is the real one.
TEST_CLOCK = """
create or replace function private.now() returns timestamptz
language plpgsql stable parallel safe set search_path = '' as $$
begin
  return coalesce(nullif(current_setting('streaks.test_now', true), '')::timestamptz, pg_catalog.now());
end
$$
"""


def on_server(server_url: str, database: str) -> str:
    """The same server and user, another database."""
    return urlunsplit(urlsplit(server_url)._replace(path=f"/{database}"))


async def execute(url: str, *scripts: str) -> None:
    """Run SQL scripts in order over one connection."""
    connection = await asyncpg.connect(url)
    try:
        for script in scripts:
            await connection.execute(script)
    finally:
        await connection.close()


async def create_database(server_url: str, *, template: str = "template0") -> str:
    """Make a database with a fresh name, and return its URL."""
    name = f"streaks_test_{uuid4().hex[:12]}"
    await execute(server_url, f'create database "{name}" template "{template}"')
    return on_server(server_url, name)


async def drop_database(server_url: str, url: str) -> None:
    """Drop a database, whoever may still be connected to it."""
    await execute(server_url, f'drop database if exists "{database_name(url)}" with (force)')


def database_name(url: str) -> str:
    """The name of the database that a URL leads to."""
    return urlsplit(url).path.lstrip("/")


def migration_scripts() -> list[str]:
    """The migrations in the order in which the CLI applies them."""
    return [path.read_text(encoding="utf-8") for path in sorted(MIGRATIONS.glob("*.sql"))]


async def create_migrated(server_url: str) -> str:
    """Make a database, give it what Supabase provides, and apply every migration."""
    url = await create_database(server_url)
    try:
        await execute(url, STUB.read_text(encoding="utf-8"), *migration_scripts())
    except BaseException:
        await drop_database(server_url, url)
        raise
    return url


@pytest.fixture(scope="session")
def migrated_template(stack: StackInfo) -> Iterator[str]:
    """The URL of a migrated, empty database. Connect to copies of it only, or it is a template no more."""
    url = asyncio.run(create_migrated(stack.database_url))
    yield url
    asyncio.run(drop_database(stack.database_url, url))


@pytest.fixture
def own_database(stack: StackInfo, migrated_template: str) -> Iterator[str]:
    """The URL of a migrated, empty database that one test has to itself."""
    url = asyncio.run(create_database(stack.database_url, template=database_name(migrated_template)))
    yield url
    asyncio.run(drop_database(stack.database_url, url))


@pytest.fixture
def clockwork_database(own_database: str) -> str:
    """The same, with a clock that `set streaks.test_now` turns."""
    asyncio.run(execute(own_database, TEST_CLOCK))
    return own_database
