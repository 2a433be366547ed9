"""Users who are deleted while others call for them: found or not found, and nothing else."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg
import pytest
import pytest_asyncio

from tests.support.crowd import Crowd, Outcome, assert_sound, call, crowd, update
from tests.support.migrated import module_database, until_waiting

__all__ = ["module_database"]
pytestmark = pytest.mark.asyncio(loop_scope="module")

DAY = timedelta(days=1)
NOON = datetime(2026, 5, 20, 12, tzinfo=UTC)
BEGAN = NOON - 10 * DAY
WORK = ["update", "late", "batch", "import", "recover", "rebuild", "sweep", "read"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def people(module_database: str) -> AsyncIterator[Crowd]:
    """A crowd in a database of its own."""
    async with crowd(module_database, 60) as connected:
        yield connected


def work(name: str, user_id: UUID, others: list[UUID]) -> str:
    """A call that concerns a user, and others where it takes many."""
    return {
        "update": lambda: update(user_id, NOON, "solved-1"),
        "late": lambda: update(user_id, NOON - 3 * DAY),
        "batch": lambda: call("batch", [user_id, *others], [NOON] * (1 + len(others))),
        "import": lambda: call("import", [user_id, *others], [NOON - 5 * DAY] * (1 + len(others))),
        "recover": lambda: call("recover", user_id, (BEGAN + DAY).date(), (BEGAN + 2 * DAY).date()),
        "rebuild": lambda: call("rebuild", user_id),
        "sweep": lambda: call("sweep", 100),
        "read": lambda: call("read", user_id),
    }[name]()


def failures(outcomes: list[Outcome]) -> Counter[tuple[str, str | None]]:
    """The errors among outcomes, by SQLSTATE and DETAIL."""
    errors = [outcome for outcome in outcomes if isinstance(outcome, asyncpg.PostgresError)]
    return Counter((error.sqlstate or "", getattr(error, "detail", None)) for error in errors)


async def begin(people: Crowd, count: int) -> list[UUID]:
    """Users whose streaks began ten days ago and have lapsed unseen."""
    users = await people.users(count)
    await people.call([call("batch", users, [BEGAN] * count)], clocks=[BEGAN])
    return users


@pytest.mark.parametrize(
    ("name", "began"),
    # a repair and a rebuild need a streak, and say so
    [*((name, True) for name in WORK), *((name, False) for name in WORK if name not in {"recover", "rebuild"})],
)
async def test_deletion_against(people: Crowd, name: str, *, began: bool) -> None:
    """Deleting a user against each call for the user: no deadlock, and at worst USER_NOT_FOUND."""
    for turn in range(5):
        users = await (begin(people, 5) if began else people.users(5))
        user_id, others = users[turn], users[:turn] + users[turn + 1 :]
        queries = [call("delete", user_id), *[work(name, user_id, others)] * 8]
        random.Random(turn).shuffle(queries)
        outcomes = await people.call(queries, clocks=[NOON])
        assert set(failures(outcomes)) <= {("23503", "USER_NOT_FOUND")}
        if name in {"batch", "import"}:
            rows = [row for rows in outcomes if isinstance(rows, list) for row in rows if row.get("user_id")]
            assert {row["error"] for row in rows if UUID(row["user_id"]) != user_id} == {None}
            assert {row["error"] for row in rows} <= {None, "USER_NOT_FOUND"}
        await assert_nothing_left(people, [user_id])
        await assert_sound(people.conductor, others)


async def assert_nothing_left(people: Crowd, user_ids: list[UUID]) -> None:
    """A deleted user has no row anywhere."""
    left = await people.conductor.fetch(
        """
        select user_id from public.user_streaks where user_id = any ($1)
        union all select user_id from public.streak_days where user_id = any ($1)
        union all select user_id from public.streak_history where user_id = any ($1)
        """,
        user_ids,
    )
    assert left == []


async def test_many_users_go_while_everything_runs(people: Crowd) -> None:
    """Twenty of forty users go, one by one, while batches, imports, sweeps and the rest run over all of them."""
    shuffle = random.Random(0)
    users = await begin(people, 40)
    gone = users[::2]
    queries = [call("delete", user_id) for user_id in gone]
    for _ in range(40):
        some = shuffle.sample(users, 20)
        queries.append(work(shuffle.choice(WORK), some[0], some[1:]))
    shuffle.shuffle(queries)
    outcomes = await people.call(queries, clocks=[NOON])
    assert set(failures(outcomes)) <= {("23503", "USER_NOT_FOUND")}
    await assert_nothing_left(people, gone)
    await assert_sound(people.conductor, users[1::2])


@pytest.mark.parametrize("name", [name for name in WORK if name not in {"sweep", "read"}])
async def test_call_waits_for_a_deletion(people: Crowd, name: str) -> None:
    """A call that comes while the user's deletion is under way waits for it, and then finds no such user."""
    user_id, other = await begin(people, 2)
    deletion = people.conductor.transaction()
    caller, observer = people.members[:2]
    await caller.execute("select set_config('streaks.test_now', $1, false)", NOON.isoformat())
    await deletion.start()
    await people.conductor.execute("delete from auth.users where id = $1", user_id)
    waiting = asyncio.create_task(caller.fetch(work(name, user_id, [other])))
    while not await observer.fetchval(  # noqa: ASYNC110 - PostgreSQL announces no waits
        "select exists (select from pg_locks where not granted and pid = $1)", caller.get_server_pid()
    ):
        await asyncio.sleep(0.01)
    await deletion.commit()
    if name in {"batch", "import"}:
        errors = {row["user_id"]: row["error"] for row in await waiting}
        assert errors == {user_id: "USER_NOT_FOUND", other: None}
    else:
        with pytest.raises(asyncpg.ForeignKeyViolationError) as caught:
            await waiting
        assert caught.value.detail == "USER_NOT_FOUND"
    await assert_nothing_left(people, [user_id])


@pytest.mark.parametrize("name", ["sweep", "read"])
async def test_call_does_not_wait_for_a_deletion(people: Crowd, name: str) -> None:
    """A sweep and a read go past a user who is being deleted."""
    user_id, other = await begin(people, 2)
    deletion = people.conductor.transaction()
    caller = people.members[0]
    await caller.execute("select set_config('streaks.test_now', $1, false)", NOON.isoformat())
    await deletion.start()
    await people.conductor.execute("delete from auth.users where id = $1", user_id)
    async with asyncio.timeout(20):
        await caller.fetch(work(name, user_id, [other]))
    await deletion.commit()
    await assert_nothing_left(people, [user_id])


async def test_deletion_against_a_change_by_hand(people: Crowd) -> None:
    """A row changed by hand while its user is being deleted: the change is told to come again, the deletion goes on."""
    (user_id,) = await begin(people, 1)
    changer, deleter, observer = people.members[:3]
    # holds the change between the row's lock and the trigger that writes its history
    await people.conductor.execute("""
        create function crowd.pause() returns trigger language plpgsql as $$
        begin
          perform pg_advisory_xact_lock(4712);
          return new;
        end
        $$;
        create trigger a_pause before update on public.user_streaks for each row execute function crowd.pause();
        select pg_advisory_lock(4712);
    """)
    try:
        change = "update public.user_streaks set longest_streak = 10 where user_id = $1"
        changing = asyncio.create_task(changer.execute(change, user_id))
        await until_waiting(observer, 1)
        deleting = asyncio.create_task(deleter.execute("delete from auth.users where id = $1", user_id))
        await until_waiting(observer, 2)
    finally:
        await people.conductor.execute("select pg_advisory_unlock(4712)")
        outcomes = await asyncio.gather(changing, deleting, return_exceptions=True)
        await people.conductor.execute("drop trigger a_pause on public.user_streaks")
    assert failures([one for one in outcomes if isinstance(one, asyncpg.PostgresError)]) == {
        ("PT409", "CONCURRENT_MODIFICATION"): 1
    }
    await assert_nothing_left(people, [user_id])
