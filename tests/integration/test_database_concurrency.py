"""Simultaneous calls over real connections: nothing is lost, nothing deadlocks, and no caller sees an error."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg
import httpx
import pytest
import pytest_asyncio

from local_supabase.stack import StackInfo
from tests.support.crowd import Crowd, Outcome, assert_sound, call, crowd, update
from tests.support.migrated import module_database
from tests.support.stack import insert_user

__all__ = ["module_database"]
pytestmark = pytest.mark.asyncio(loop_scope="module")

SIZES = [10, 50, 100, 200]
DAY = timedelta(days=1)
MIDNIGHT = datetime(2026, 5, 20, tzinfo=UTC)
NOON = MIDNIGHT + DAY / 2


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def people(module_database: str) -> AsyncIterator[Crowd]:
    """As many connections as the largest test wants."""
    async with crowd(module_database, max(SIZES)) as connected:
        yield connected


def types(outcomes: list[Outcome]) -> Counter[str]:
    """How often each change was answered; an error fails the test."""
    errors = [outcome for outcome in outcomes if isinstance(outcome, asyncpg.PostgresError)]
    assert errors == []
    return Counter(row["change_type"] for rows in outcomes if isinstance(rows, list) for row in rows)


@pytest.mark.parametrize("size", SIZES)
async def test_first_calls(people: Crowd, size: int) -> None:
    """Any number of simultaneous first calls for one user: one is the first, the others find its day counted."""
    (user_id,) = await people.users(1)
    outcomes = await people.call([update(user_id)] * size)
    assert types(outcomes) == {"FIRST_ACTIVITY": 1, "STREAK_MAINTAINED": size - 1}
    assert {row["current_streak"] for rows in outcomes if isinstance(rows, list) for row in rows} == {1}
    await assert_sound(people.conductor, [user_id])


@pytest.mark.parametrize("size", SIZES)
async def test_one_new_day(people: Crowd, size: int) -> None:
    """Any number of simultaneous calls on a new day: one counts it, and all are told the same numbers."""
    (user_id,) = await people.users(1)
    await people.call([update(user_id)], clocks=[NOON])
    outcomes = await people.call([update(user_id)] * size, clocks=[NOON + DAY])
    assert types(outcomes) == {"STREAK_INCREMENT": 1, "STREAK_MAINTAINED": size - 1}
    numbers = {(r["current_streak"], r["version"]) for rows in outcomes if isinstance(rows, list) for r in rows}
    assert numbers == {(2, 2)}
    await assert_sound(people.conductor, [user_id])


@pytest.mark.parametrize("size", SIZES)
async def test_one_request(people: Crowd, size: int) -> None:
    """Simultaneous tries of one request count once, and all are told the same numbers."""
    (user_id,) = await people.users(1)
    outcomes = await people.call([update(user_id, request_id="solved-1")] * size)
    rows = [row for rows in outcomes if isinstance(rows, list) for row in rows]
    assert len(rows) == size
    assert Counter(row["replayed"] for row in rows)[False] >= 1
    assert {row["change_type"] for row in rows if row["replayed"]} <= {"FIRST_ACTIVITY"}
    assert {(row["current_streak"], row["version"]) for row in rows} == {(1, 1)}
    await assert_sound(people.conductor, [user_id])


@pytest.mark.parametrize("size", SIZES)
async def test_day_change_in_the_middle(people: Crowd, size: int) -> None:
    """Half of the clocks say before midnight, half after: both days count, in whatever order they arrive."""
    (user_id,) = await people.users(1)
    await people.call([update(user_id)], clocks=[NOON - DAY])
    second = timedelta(seconds=1)
    clocks = [MIDNIGHT + DAY - second, MIDNIGHT + DAY + second]
    counted = types(await people.call([update(user_id)] * size, clocks=clocks))
    # the day after midnight may come first: a reset, until the day before it joins the two runs
    assert counted["STREAK_INCREMENT"] + counted["STREAK_RESET"] + counted["STREAK_RECOVERED"] == 2
    assert await people.days(user_id) == [(MIDNIGHT + n * DAY).date() for n in (-1, 0, 1)]
    run = await people.conductor.fetchval("select run_length from public.user_streaks where user_id = $1", user_id)
    assert run == 3
    await assert_sound(people.conductor, [user_id])


@pytest.mark.parametrize("size", SIZES)
async def test_overlapping_batches(people: Crowd, size: int) -> None:
    """Batches over the same users in different orders and with different days: every day of every user counts once."""
    shuffle = random.Random(size)
    users = await people.users(12)
    queries = []
    for _ in range(size):
        chosen = shuffle.sample(users, 10)
        queries.append(call("batch", chosen, [NOON - shuffle.randrange(5) * DAY for _ in chosen]))
    everything = call(
        "batch", [user for user in users for _ in range(5)], [NOON - n * DAY for _ in users for n in range(5)]
    )
    outcomes = await people.call([*queries[1:], everything], clocks=[NOON])
    types(outcomes)
    assert {row["error"] for rows in outcomes if isinstance(rows, list) for row in rows} == {None}
    for user_id in users:
        assert await people.days(user_id) == [(NOON - n * DAY).date() for n in range(4, -1, -1)]
    await assert_sound(people.conductor, users)


@pytest.mark.parametrize("size", [50, 200])
async def test_old_and_new_users_in_one_call(people: Crowd, size: int) -> None:
    """Batches, imports and single calls over users of whom half are new, in any order: every day counts once."""
    shuffle = random.Random(size)
    users = await people.users(20)
    await people.call([call("batch", users[::2], [NOON - DAY] * 10)], clocks=[NOON - DAY])
    queries = [call("batch", users, [NOON] * 20)]
    for _ in range(size - 1):
        some = shuffle.sample(users, 12)
        kinds = [
            call("batch", some, [NOON] * 12),
            call("batch", some, [NOON - shuffle.randrange(3) * DAY for _ in some]),
            call("import", some, [NOON - 2 * DAY] * 12),
            update(some[0], NOON),
        ]
        queries.append(shuffle.choice(kinds))
    outcomes = await people.call(queries, clocks=[NOON])
    types(outcomes)
    assert {row.get("error") for rows in outcomes if isinstance(rows, list) for row in rows} == {None}
    for user_id in users:
        assert NOON.date() in await people.days(user_id)
    await assert_sound(people.conductor, users)


async def lapsed(people: Crowd, count: int) -> list[UUID]:
    """Users who were active from 40 to 36 days ago, and whose streaks no sweep has seen."""
    users = await people.users(count)
    ago = [NOON - n * DAY for n in range(40, 35, -1)]
    # written as of then, so that the column still says 5
    for at in ago:
        await people.call([call("batch", users, [at] * count)], clocks=[at])
    return users


def upkeep(users: list[UUID], shuffle: random.Random) -> str:
    """One of the calls of jobs, operators and platforms."""
    some = shuffle.sample(users, 5)
    first = (NOON - 36 * DAY).date()
    return shuffle.choice(
        [
            call("sweep", 3),
            call("import", some, [NOON - 30 * DAY] * 5),
            call("recover", some[0], first, first + 3 * DAY),
            call("rebuild", some[1]),
            call("batch", some, [NOON - shuffle.randrange(3) * DAY for _ in some]),
            update(some[2], NOON - shuffle.randrange(3) * DAY),
        ]
    )


@pytest.mark.parametrize("size", SIZES)
async def test_sweep_import_and_recovery_at_once(people: Crowd, size: int) -> None:
    """Sweeps, imports, recoveries, rebuilds, batches and single calls on the same users: each does its work."""
    shuffle = random.Random(size)
    users = await lapsed(people, 8)
    outcomes = await people.call([upkeep(users, shuffle) for _ in range(size)], clocks=[NOON])
    assert [outcome for outcome in outcomes if isinstance(outcome, asyncpg.PostgresError)] == []
    await assert_sound(people.conductor, users)
    # whoever was left out has their turn: then all have the same days, each once
    first = (NOON - 36 * DAY).date()
    last = [
        call("import", users, [NOON - 30 * DAY] * len(users)),
        *(call("recover", user, first, first + 3 * DAY) for user in users),
        *(call("batch", users, [NOON - n * DAY] * len(users)) for n in range(3)),
    ]
    outcomes = await people.call(last, clocks=[NOON])
    assert [outcome for outcome in outcomes if isinstance(outcome, asyncpg.PostgresError)] == []
    expected = [*range(40, 32, -1), 30, 2, 1, 0]
    for user_id in users:
        assert await people.days(user_id) == [(NOON - n * DAY).date() for n in expected]
    await assert_sound(people.conductor, users)


@pytest.mark.parametrize("size", [100, 200])
async def test_first_calls_over_rest(stack: StackInfo, new_user_id: Callable[[], Awaitable[UUID]], size: int) -> None:
    """The same over REST, with the secret key: one first activity, and every answer is 200."""
    user_id = await new_user_id()
    limits = httpx.Limits(max_connections=size)
    async with httpx.AsyncClient(
        base_url=stack.supabase_url, headers={"apikey": stack.secret_key}, timeout=60, limits=limits
    ) as http:
        path = "/rest/v1/rpc/update_user_streak_atomic"
        answers = await asyncio.gather(*(http.post(path, json={"p_user_id": str(user_id)}) for _ in range(size)))
        read = await http.post("/rest/v1/rpc/get_user_streak", json={"p_user_id": str(user_id)})
    assert {answer.status_code for answer in answers} == {200}
    counted = Counter(answer.json()[0]["change_type"] for answer in answers)
    assert counted["FIRST_ACTIVITY"] == 1
    assert set(counted) <= {"FIRST_ACTIVITY", "STREAK_MAINTAINED"}
    assert read.json()[0]["current_streak"] == 1


@pytest_asyncio.fixture(loop_scope="module")
async def new_user_id(stack: StackInfo) -> AsyncIterator[Callable[[], Awaitable[UUID]]]:
    """A function that signs up a user in the stack's own database."""
    connection = await asyncpg.connect(stack.database_url)
    made: list[UUID] = []

    async def make() -> UUID:
        made.append(await insert_user(connection))
        return made[-1]

    yield make
    await connection.execute("delete from auth.users where id = any ($1)", made)
    await connection.close()
