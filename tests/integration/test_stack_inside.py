"""The local Supabase inside the caller's own process, as `streaks up` runs it."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest

from local_supabase.faults import Faults
from local_supabase.stack import LocalSupabase, StackConfig
from tests.support.stack import connection, insert_user

# The stream of changes waits for us, and there is a connection of the pool.
HELD = """
select count(*) = 1 and max(total) > 1 from (
  select query, state, count(*) over () as total
  from pg_stat_activity where application_name = 'local_supabase realtime'
) sessions where query like '%wait_for_wal%' and state = 'idle'
"""


async def test_crash_of_postgres_is_no_traceback(caplog: pytest.LogCaptureFixture) -> None:
    """A crash of PostgreSQL is told in a line of Realtime's, without a traceback of the driver's."""
    async with LocalSupabase(StackConfig(port=0, faults=True)) as stack:
        assert stack.info.faults_socket is not None
        faults = Faults(stack.info.faults_socket)
        await faults.hold_changes()
        async with connection(stack.info) as database, asyncio.timeout(30):
            await insert_user(database)
            while not await database.fetchval(HELD):  # noqa: ASYNC110 - in PostgreSQL
                await asyncio.sleep(0.05)
        # The stream does not notice, so the pool lives on without its connections.
        await faults.postgres_kill()
        await faults.postgres_start()
        await faults.hold_changes(0)
        async with connection(stack.info) as database, asyncio.timeout(30):
            while not await database.fetchval("select exists (select from pg_replication_slots)"):  # noqa: ASYNC110 - too
                await asyncio.sleep(0.05)
    assert "the stream of changes was interrupted" in caplog.text
    assert [record for record in caplog.records if record.exc_info or record.name.startswith("asyncpg")] == []


@pytest.mark.parametrize("missing", ["asyncpg", "aiohttp", "platformdirs"])
def test_without_the_extra(missing: str) -> None:
    """Without what the extra brings, the program says what is missing and how to install it, with status 2."""
    code = (
        f"import runpy, sys; sys.modules[{missing!r}] = None; runpy.run_module('local_supabase', run_name='__main__')"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == f'local_supabase: this needs {missing}: pip install "supabase-streaks[all]"\n'
