"""A network that loses one answer in five, and a process that dies at the worst moment: every activity counts once."""

from __future__ import annotations

import asyncio
import random
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeAlias
from uuid import UUID, uuid4

import asyncpg
import pytest

from local_supabase.stack import StackInfo
from streak_client import AsyncStreakClient, Gathering, Outbox, StreakUpdate, _outbox
from tests.support.fault_proxy import Fault, fault_proxy, one_in_five
from tests.support.redis_server import DURABLE, redis_server

NewUser = Callable[[], Awaitable[UUID]]
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

SINGLY, GATHERED, DAYS = 125, 2_375, 4
# So many that a call whose every attempt is struck would be a matter of centuries.
RETRIES = 15
KILLS = 3

LOOP = """
import sys
from streak_client import StreakClient
url, path, *users = sys.argv[1:]
with StreakClient(url, sys.stdin.readline().strip(), outbox=path) as client:
    for user in users:
        client.handle_problem_solved(user, "UTC", request_id="the one")
        print(user, flush=True)
"""


@pytest.fixture
async def crowd(db: Connection) -> AsyncIterator[list[UUID]]:
    """Enough users for ten thousand calls."""
    users = [uuid4() for _ in range(SINGLY + GATHERED)]
    await db.execute("insert into auth.users (id) select unnest($1::uuid[])", users)
    yield users
    await db.execute("delete from auth.users where id = any($1)", users)


@pytest.fixture(params=["file", "redis"])
async def outbox(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    """Where the outbox is: a file, or a Redis that has all it acknowledged on the disk."""
    if request.param == "file":
        yield str(tmp_path / "outbox.db")
        return
    async with redis_server(tmp_path, *DURABLE) as server:
        yield server.url


async def drain(stack: StackInfo, outbox: str) -> None:
    """Send what waits, as the next process does."""
    async with AsyncStreakClient(stack.supabase_url, stack.secret_key, outbox=outbox) as heir:
        while await heir.drain_outbox():
            pass


async def four_days(client: AsyncStreakClient, user: UUID, now: datetime) -> list[StreakUpdate]:
    """Count an activity on each of four days in a row, the last of them today."""
    return [
        await client.update_user_streak(user, "UTC", activity_at=now - timedelta(days=DAYS - 1 - number))
        for number in range(DAYS)
    ]


def story(updates: Sequence[StreakUpdate]) -> list[tuple[int, str, int]]:
    """Reduce answers to what tells the first one from any later one."""
    return [(update.version, update.change_type, update.longest_streak) for update in updates]


async def test_ten_thousand_calls_over_a_bad_network(stack: StackInfo, db: Connection, crowd: list[UUID]) -> None:
    """With 20% of the requests struck, each of 10,000 calls counts once, and its caller gets the first answer."""
    now = datetime.now(UTC)
    gatherings = [None] * SINGLY + [Gathering(max_batch=25, max_in_flight=8)] * GATHERED
    async with fault_proxy(stack.supabase_url, one_in_five(4)) as proxy:
        clients = {
            gathering: AsyncStreakClient(proxy.url, stack.secret_key, max_retries=RETRIES, gathering=gathering)
            for gathering in set(gatherings)
        }
        answers = await asyncio.gather(
            *(four_days(clients[way], user, now) for way, user in zip(gatherings, crowd, strict=True))
        )
        for client in clients.values():
            await client.aclose()
    assert sum(len(updates) for updates in answers) == 10_000
    assert sum(proxy.seen.values()) > 800
    assert all(proxy.seen[fault] > 30 for fault in Fault)
    expected = [(1, "FIRST_ACTIVITY", 1), *((n, "STREAK_INCREMENT", n) for n in range(2, DAYS + 1))]
    assert [user for user, updates in zip(crowd, answers, strict=True) if story(updates) != expected] == []
    assert any(update.replayed for updates in answers for update in updates)
    for table in ("streak_days", "streak_history"):
        found = await db.fetch(f"select user_id from public.{table} where user_id = any($1)", crowd)  # noqa: S608
        assert Counter(row[0] for row in found) == dict.fromkeys(crowd, DAYS), table


@pytest.mark.parametrize("fault", [Fault.BEFORE_SEND, Fault.AFTER_COMMIT])
async def test_a_process_killed_during_its_first_attempt_loses_nothing(  # noqa: PLR0913, PLR0917 - fixtures
    fault: Fault, stack: StackInfo, db: Connection, new_user: NewUser, outbox: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An activity whose process dies by SIGKILL while it is sent for the first time is counted once by the next one."""
    user = await new_user()
    async with fault_proxy(stack.supabase_url, lambda: fault) as proxy:
        process = await run_loop(proxy.url, stack.secret_key, outbox, [user])
        await asyncio.wait_for(proxy.struck.wait(), 30)
        process.kill()
        assert await process.wait() == -signal.SIGKILL
        assert await read_all(process) == ""
    monkeypatch.setattr(_outbox, "LEASE", 0.0)  # the dead process has held it for long enough
    await drain(stack, outbox)
    assert await db.fetchval("select count(*) from public.streak_history where user_id = $1", user) == 1
    box = Outbox(outbox)
    assert box.due_in() is None
    box.close()


async def test_a_process_killed_at_any_instant_loses_nothing(
    stack: StackInfo, db: Connection, outbox: str, crowd: list[UUID], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whenever SIGKILL comes, what was called for is counted once in the end, and nothing is counted twice."""
    dice, rest = random.Random(9), crowd[:200]
    called: list[UUID] = []
    for _ in range(KILLS):
        process = await run_loop(stack.supabase_url, stack.secret_key, outbox, rest)
        assert process.stdout is not None
        await process.stdout.readline()
        await asyncio.sleep(dice.uniform(0, 0.05))  # the instant is the point
        process.kill()
        await process.wait()
        done = 1 + len((await read_all(process)).split())
        called += rest[:done]
        rest = rest[done:]
    monkeypatch.setattr(_outbox, "LEASE", 0.0)
    await drain(stack, outbox)
    found = await db.fetch("select user_id from public.streak_history where user_id = any($1)", crowd)
    counts = Counter(row[0] for row in found)
    assert set(called) <= set(counts)
    assert set(counts.values()) == {1}


async def run_loop(url: str, key: str, outbox: str, users: Sequence[UUID]) -> asyncio.subprocess.Process:
    """Start a process that handles an activity of each user, and prints who is done."""
    pipe = asyncio.subprocess.PIPE
    arguments = [sys.executable, "-c", LOOP, url, outbox, *map(str, users)]
    process = await asyncio.create_subprocess_exec(*arguments, stdin=pipe, stdout=pipe)
    assert process.stdin is not None
    process.stdin.write(f"{key}\n".encode())
    await process.stdin.drain()
    return process


async def read_all(process: asyncio.subprocess.Process) -> str:
    """Read what is left of a process's output."""
    assert process.stdout is not None
    return (await process.stdout.read()).decode()
