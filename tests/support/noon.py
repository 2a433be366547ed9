"""A module's database at noon: one test's connection to it, whose writes are undone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest_asyncio

from tests.support.migrated import Connection

NOON = datetime(2026, 5, 20, 12, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest_asyncio.fixture(loop_scope="module")
async def db(module_database: str) -> AsyncIterator[Connection]:
    """A connection on which it is noon, and whose writes are undone."""
    connection = await asyncpg.connect(module_database, server_settings={"streaks.test_now": NOON.isoformat()})
    transaction = connection.transaction()
    await transaction.start()
    yield connection
    await transaction.rollback()
    await connection.close()
