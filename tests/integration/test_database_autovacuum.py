"""Autovacuum of the hot table: visited early, and what an operator has set stays."""

from __future__ import annotations

import asyncio
from pathlib import Path

import asyncpg
import pytest

from tests.support.database import MIGRATIONS

(MIGRATION,) = MIGRATIONS.glob("*_streak_autovacuum.sql")
OPTIONS = "select coalesce(reloptions, '{}') from pg_class where oid = 'public.user_streaks'::regclass"


async def options(url: str, *statements: str) -> list[str]:
    """The table's settings after statements."""
    connection = await asyncpg.connect(url)
    try:
        for statement in statements:
            await connection.execute(statement)
        found: list[str] = await connection.fetchval(OPTIONS)
        return sorted(found)
    finally:
        await connection.close()


SCALE, THRESHOLD = "autovacuum_vacuum_scale_factor=0.02", "autovacuum_vacuum_threshold=500"
RESET = "alter table public.user_streaks reset (autovacuum_vacuum_scale_factor, autovacuum_vacuum_threshold)"


def test_the_hot_table_is_visited_early(own_database: str) -> None:
    """user_streaks is vacuumed at 2% of dead rows, and a second run of the migration changes nothing."""
    assert asyncio.run(options(own_database)) == [SCALE, THRESHOLD]
    assert asyncio.run(options(own_database, MIGRATION.read_text(encoding="utf-8"))) == [SCALE, THRESHOLD]


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ("autovacuum_vacuum_scale_factor = 0.1", ["autovacuum_vacuum_scale_factor=0.1"]),
        ("fillfactor = 90", [SCALE, THRESHOLD, "fillfactor=90"]),
    ],
)
def test_what_an_operator_has_set_stays(own: str, expected: list[str], own_database: str) -> None:
    """An upgrade keeps the table's own settings of autovacuum, and adds ours beside others."""
    change = f"alter table public.user_streaks set ({own})"
    migration = Path(MIGRATION).read_text(encoding="utf-8")
    assert asyncio.run(options(own_database, RESET, change, migration)) == expected
