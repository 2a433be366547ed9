"""An outbox in a real Redis that dies at the worst moment, or is not there at all."""

from __future__ import annotations

import asyncio
import logging
import random
import signal
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeAlias
from uuid import UUID

import asyncpg
import pytest

from local_supabase.faults import Faults
from local_supabase.stack import StackInfo
from streak_client import AsyncStreakClient, ConnectionFailedError, Outbox, StreakClient, StreakError, _drain
from tests.support.redis_server import DURABLE, free_port, redis_server

NewUser = Callable[[], Awaitable[UUID]]
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
SECRET = "correct-horse-battery"  # noqa: S105 - of a Redis that lives for a test
ROUNDS = 3

WRITER = """
import sys
from datetime import UTC, datetime
from itertools import count
from uuid import UUID
from streak_client._batch import Prepared
from streak_client._outbox import Outbox
from streak_client.errors import ConnectionFailedError
box, first, now = Outbox(sys.argv[1]), int(sys.argv[2]), datetime.now(UTC)
for n in count(first):
    if not box.put(Prepared(UUID(int=1), now, None, str(n)), ConnectionFailedError("gone"), now):
        break
    print(n, flush=True)
"""


async def test_a_redis_killed_at_any_instant_keeps_what_it_took(tmp_path: Path) -> None:
    """Whenever SIGKILL comes to a Redis that always syncs, what was said to be queued is there, whole and in order."""
    port, dice, kept = free_port(), random.Random(4), list[str]()
    for turn in range(ROUNDS):
        async with redis_server(tmp_path, *DURABLE, port=port) as server:
            writer = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", WRITER, server.url, str(turn * 1_000_000)), stdout=asyncio.subprocess.PIPE
            )
            assert writer.stdout is not None
            kept.append((await writer.stdout.readline()).decode().strip())
            await asyncio.sleep(dice.uniform(0, 0.1))  # the instant is the point
            await server.kill()
            kept += (await writer.stdout.read()).decode().split()
            assert await writer.wait() == 0
    async with redis_server(tmp_path, *DURABLE, port=port) as server:
        box = Outbox(server.url)
        found = [entry.request_id for entry in box.entries(1_000_000)]
        assert box.depth() == len(found)
        box.close()
    # One more a round may have been written without its writer having been told.
    assert set(kept) <= set(found)
    assert len(found) <= len(kept) + ROUNDS
    assert found == sorted(found, key=int)


async def test_an_outage_loses_nothing(  # noqa: PLR0913, PLR0917 - fixtures
    stack: StackInfo,
    db: Connection,
    faults: Faults,
    new_user: NewUser,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """While REST fails, both clients keep activities in one Redis; afterwards each counts once, on its own day."""
    users, now = [await new_user() for _ in range(2)], datetime.now(UTC)
    key = stack.secret_key
    async with redis_server(tmp_path, *DURABLE, "--requirepass", SECRET) as server:
        url = server.url.replace("//", f"//:{SECRET}@")
        await faults.rest_error(503)
        async with AsyncStreakClient(stack.supabase_url, key, outbox=url, max_retries=0) as client:
            with StreakClient(stack.supabase_url, key, outbox=url, max_retries=0) as twin:
                for days in (8, 1, 0):
                    at = now - timedelta(days=days)
                    first = await client.handle_problem_solved(users[0], "UTC", activity_at=at)
                    second = await asyncio.to_thread(twin.handle_problem_solved, users[1], "UTC", activity_at=at)
                    assert [(each.result, each.queued) for each in (first, second)] == [(None, True)] * 2
                assert client.outbox_depth() == 6
        await faults.rest_restore()
        async with AsyncStreakClient(stack.supabase_url, key, outbox=url) as client:
            assert await client.drain_outbox() == 0
            streaks = await client.get_user_streaks(users)
    assert {streak.current_streak for streak in streaks.values()} == {2}
    rows = await db.fetch("select user_id from public.streak_days where user_id = any($1)", users)
    assert sorted(row[0] for row in rows) == sorted(users * 3)
    assert SECRET not in caplog.text


async def test_without_its_redis_a_client_counts_all_the_same(
    stack: StackInfo, new_user: NewUser, caplog: pytest.LogCaptureFixture
) -> None:
    """When the outbox's Redis is down, activities count, with a warning that shows no password."""
    url = f"redis://:{SECRET}@127.0.0.1:{free_port()}/0"
    async with AsyncStreakClient(stack.supabase_url, stack.secret_key, outbox=url) as client:
        answer = await client.handle_problem_solved(await new_user(), "UTC")
        assert answer.result is not None
        assert (answer.result.current_streak, answer.queued) == (1, False)
        with pytest.raises(ConnectionFailedError, match="outbox") as caught:
            await client.drain_outbox()
        with pytest.raises(StreakError):
            client.outbox_depth()
    assert "without having been written to the outbox" in caplog.text
    assert SECRET not in caplog.text + str(caught.value) + str(caught.value.__cause__)


async def test_without_redis_and_service_the_loss_is_loud(
    stack: StackInfo, faults: Faults, new_user: NewUser, caplog: pytest.LogCaptureFixture
) -> None:
    """When neither service nor outbox can be reached, the answer says that nothing is queued, and the log is loud."""
    await faults.rest_error(503)
    url = f"redis://127.0.0.1:{free_port()}/0"
    async with AsyncStreakClient(stack.supabase_url, stack.secret_key, outbox=url, max_retries=0) as client:
        answer = await client.handle_problem_solved(await new_user(), "UTC")
    assert (answer.result, answer.queued) == (None, False)
    assert "DROPPED" in caplog.text
    assert {record.levelno for record in caplog.records if "DROPPED" in record.message} == {logging.ERROR}


async def test_the_drainer_outlives_its_redis(
    stack: StackInfo, faults: Faults, new_user: NewUser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What waits in a Redis that goes away and comes back is sent by itself, by tasks and by threads."""
    for attribute in ("FIRST_PAUSE", "LONGEST_PAUSE"):
        monkeypatch.setattr(_drain, attribute, 0.05)
    user, port, key = await new_user(), free_port(), stack.secret_key
    for kind in (AsyncStreakClient, StreakClient):
        await faults.rest_error(503)
        async with redis_server(tmp_path, *DURABLE, port=port) as server:
            client = kind(stack.supabase_url, key, outbox=server.url, max_retries=0)
            if isinstance(client, AsyncStreakClient):
                await client.handle_problem_solved(user, "UTC")
            else:
                await asyncio.to_thread(client.handle_problem_solved, user, "UTC")
            server.process.send_signal(signal.SIGKILL)
            await server.process.wait()
        await faults.rest_restore()
        async with redis_server(tmp_path, *DURABLE, port=port) as server:
            box = Outbox(server.url)
            async with asyncio.timeout(60):
                while await asyncio.to_thread(box.depth):  # noqa: ASYNC110 - Redis has no event for it
                    await asyncio.sleep(0.02)
            box.close()
            if isinstance(client, AsyncStreakClient):
                await client.aclose()
            else:
                await asyncio.to_thread(client.close)
    async with AsyncStreakClient(stack.supabase_url, key) as reader:
        assert (await reader.get_user_streak(user)).current_streak == 1
