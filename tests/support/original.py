"""Databases that hold the original schema, with a clock that a test can turn without a change to its SQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from local_supabase.stack import StackInfo
from tests.support.migrated import database, supabase_scripts

ORIGINAL = Path(__file__).parents[1] / "data" / "original_schema.sql"

# The original asks now() without a schema: a session that looks into this one first gets this clock.
CLOCK = """
create schema test_clock;
create function test_clock.now() returns timestamptz language plpgsql stable as $$
begin
  return coalesce(nullif(current_setting('streaks.test_now', true), '')::timestamptz, pg_catalog.now());
end
$$;
grant usage on schema test_clock to public;
"""
CLOCK_PATH = "test_clock, public, pg_catalog"


def original_scripts() -> list[str]:
    """What Supabase provides, and the original schema."""
    return [*supabase_scripts(), ORIGINAL.read_text(encoding="utf-8")]


@pytest.fixture(scope="module")
def original_database(stack: StackInfo) -> Iterator[str]:
    """The URL of a database with the original schema; `set streaks.test_now` turns its clock."""
    with database(stack.database_url, *original_scripts(), CLOCK) as url:
        yield url
