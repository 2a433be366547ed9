"""Migrated databases for the tests of one module, which make users of their own or clear the database before each."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeAlias
from uuid import UUID, uuid4

import asyncpg
import pytest

from local_supabase.stack import StackInfo
from tests.support.database import (
    STUB,
    TEST_CLOCK,
    create_database,
    database_name,
    drop_database,
    execute,
    migration_scripts,
)

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


@contextmanager
def database(server_url: str, *scripts: str, template: str = "template0") -> Iterator[str]:
    """Make a database, run scripts in it, and drop it at the end of the block.

    Args:
        server_url: Of any database of the server.
        scripts: SQL to run in order.
        template: The name of the database to copy.
    """
    url = asyncio.run(create_database(server_url, template=template))
    try:
        asyncio.run(execute(url, *scripts))
        yield url
    finally:
        asyncio.run(drop_database(server_url, url))


def supabase_scripts() -> list[str]:
    """What Supabase provides before the first migration."""
    return [STUB.read_text(encoding="utf-8")]


def migrated_scripts() -> list[str]:
    """The same and every migration."""
    return [*supabase_scripts(), *migration_scripts()]


@pytest.fixture(scope="module")
def module_database(stack: StackInfo, migrated_template: str) -> Iterator[str]:
    """The URL of a migrated database that the tests of one module share; its clock turns with `streaks.test_now`."""
    with database(stack.database_url, TEST_CLOCK, template=database_name(migrated_template)) as url:
        yield url


async def sign_up(db: Connection, number: int) -> list[UUID]:
    """Sign up users."""
    users = [uuid4() for _ in range(number)]
    await db.execute("insert into auth.users (id) select unnest($1::uuid[])", users)
    return users


async def until_waiting(observer: Connection, count: int) -> None:
    """Return when so many sessions of the observer's database wait for a lock."""
    query = """
        select count(*) >= $1 from pg_stat_activity
        where datname = current_database() and wait_event_type = 'Lock'
    """
    while not await observer.fetchval(query, count):  # noqa: ASYNC110 - PostgreSQL announces no waits
        await asyncio.sleep(0.01)
