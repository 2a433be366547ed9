"""Merges, repairs, undoing and the archive while users act and leave: no deadlock, no error, no lost day."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

import asyncpg
import pytest
import pytest_asyncio

from tests.support.crowd import Crowd, Outcome, call, crowd, update
from tests.support.migrated import module_database, until_waiting

__all__ = ["module_database"]
pytestmark = pytest.mark.asyncio(loop_scope="module")

DAY = timedelta(days=1)
NOON = datetime(2026, 5, 20, 12, tzinfo=UTC)
SIZE = 40
# what an operation may be told when the user, or the day, has just gone
GONE = {"USER_NOT_FOUND", "NO_STREAK", "DAY_NOT_COUNTED"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def people(module_database: str) -> AsyncIterator[Crowd]:
    """A crowd in a database of its own; it fails where PostgreSQL found a deadlock."""
    async with crowd(module_database, SIZE) as connected:
        yield connected


def words(outcomes: list[Outcome]) -> Counter[str]:
    """The words of the errors among outcomes."""
    errors = [outcome for outcome in outcomes if isinstance(outcome, asyncpg.PostgresError)]
    return Counter(str(getattr(error, "detail", None) or error) for error in errors)


async def active(people: Crowd, users: list[UUID], *days_ago: int) -> None:
    """Let users be active so many days ago, each day written on its day."""
    for ago in sorted(days_ago, reverse=True):
        at = NOON - ago * DAY
        await people.call([call("batch", users, [at] * len(users))], clocks=[at])


async def ledgers(people: Crowd, users: list[UUID]) -> dict[UUID, dict[date, str]]:
    """Days and kinds of users."""
    rows = await people.conductor.fetch("select * from public.streak_days where user_id = any ($1)", users)
    return {user: {row["day"]: row["kind"] for row in rows if row["user_id"] == user} for user in users}


async def assert_sound(people: Crowd, users: list[UUID]) -> None:
    """Row and ledger agree; versions in history and archive follow each other without a gap, and so do the numbers."""
    rows = await people.conductor.fetch(
        """
        with history as (
          select * from public.streak_history union all select * from public.streak_history_archive
        ),
        chained as (
          select h.user_id, h.version, h.version - lag(h.version, 1, 0) over w as step,
            h.old_current_streak - lag(h.new_current_streak, 1, 0) over w as drift
          from history h where h.user_id = any ($1) window w as (partition by h.user_id order by h.version)
        )
        select 'chain' as what, c.user_id from chained c where c.step <> 1 or c.drift <> 0
        union all
        select 'version', s.user_id from public.user_streaks s
        where s.user_id = any ($1) and s.version <> (select max(h.version) from history h where h.user_id = s.user_id)
        union all
        select 'ledger', s.user_id
        from public.user_streaks s left join private.count_runs($1) c on c.user_id = s.user_id
        where s.user_id = any ($1)
          and (s.run_length, s.last_active_date) is distinct from (c.run_length, c.last_day)
        """,
        users,
    )
    assert [tuple(row) for row in rows] == []


@pytest.mark.parametrize("seed", range(4))
async def test_merges_against_everything(people: Crowd, seed: int) -> None:
    """Accounts merge in both directions and in circles while their users act: every day is in one of the ledgers."""
    shuffle = random.Random(seed)
    users = await people.users(6)
    with_rows = users if seed % 2 else users[:3]  # the rest get their first row in the middle of it
    await active(people, with_rows, 9, 8)
    sent = [(shuffle.choice(users), shuffle.randrange(6)) for _ in range(SIZE // 2)]
    queries = [update(user, NOON - ago * DAY) for user, ago in sent]
    while len(queries) < SIZE:
        some = shuffle.sample(users, 3)
        queries.append(
            shuffle.choice(
                [
                    call("merge", some[0], some[1]),
                    call("merge", some[0], some[1]),
                    update(some[2], NOON - shuffle.randrange(6) * DAY),
                    call("explain", some[2]),
                    call("sweep", 3),
                ]
            )
        )
    shuffle.shuffle(queries)
    outcomes = await people.call(queries, clocks=[NOON])
    # a user whose row is merged away again and again under a call may be told to call again
    assert set(words(outcomes)) <= {"CONCURRENT_MODIFICATION"}
    failed = {
        query for query, outcome in zip(queries, outcomes, strict=True) if isinstance(outcome, asyncpg.PostgresError)
    }
    days = {day for ledger in (await ledgers(people, users)).values() for day in ledger}
    counted = {ago for user, ago in sent if update(user, NOON - ago * DAY) not in failed}
    assert days >= {(NOON - ago * DAY).date() for ago in counted}
    await assert_sound(people, users)


@pytest.mark.parametrize("seed", range(2))
async def test_repair_against_live_updates(people: Crowd, seed: int) -> None:
    """Two processes repair in small batches while the same users act: every gap is closed, and an activity wins."""
    shuffle = random.Random(seed)
    users = await people.users(12)
    await active(people, users, 8, 7, 3)
    repair = await people.conductor.fetchval(
        "select repair_id from public.start_streak_repair($1, $2, 'an outage')", NOON - 6 * DAY, NOON - 4 * DAY
    )
    late = [(user, shuffle.choice([6, 5, 4])) for user in users]
    queries = [update(user, NOON - ago * DAY) for user, ago in late]
    queries += [call("repair", repair, 2)] * 16 + [call("undo", user, (NOON - 3 * DAY).date()) for user in users[:3]]
    shuffle.shuffle(queries)
    outcomes = await people.call(queries, clocks=[NOON])
    assert words(outcomes) == {}
    while not (await people.call([call("repair", repair, 100)], clocks=[NOON]))[0][0]["finished"]:  # type: ignore[index]
        pass
    found = await ledgers(people, users)
    for user, ago in late:
        assert found[user][(NOON - ago * DAY).date()] == "active"
    for user in users[3:]:
        assert set(found[user]) >= {(NOON - ago * DAY).date() for ago in range(3, 9)}
    await assert_sound(people, users)
    # and back again, while everybody acts today
    undo = [call("undo repair", repair, 2)] * 10 + [update(user, NOON) for user in users]
    shuffle.shuffle(undo)
    assert words(await people.call(undo, clocks=[NOON])) == {}
    while not (await people.call([call("undo repair", repair, 100)], clocks=[NOON]))[0][0]["finished"]:  # type: ignore[index]
        pass
    kinds = Counter(kind for ledger in (await ledgers(people, users)).values() for kind in ledger.values())
    assert kinds["repaired"] == 0
    await assert_sound(people, users)


async def test_undoing_a_repair_whose_user_merges_away(people: Crowd) -> None:
    """A merge that moves repaired days while their repair is being undone: the undoing goes on until none is left."""
    source, into = await people.users(2)
    await active(people, [source], 6, 5, 3, 2)
    outage = NOON - 4 * DAY
    repair = await people.conductor.fetchval(
        "select repair_id from public.start_streak_repair($1, $2, 'an outage')", outage, outage + DAY / 24
    )
    await people.call([call("repair", repair, 1000)], clocks=[NOON])
    merging, undoing = people.members[:2]
    for member in (merging, undoing):
        await member.execute("select set_config('streaks.test_now', $1, false)", NOON.isoformat())
    merge = merging.transaction()
    await merge.start()
    await merging.execute(call("merge", source, into))
    waiting = asyncio.create_task(undoing.fetchrow(call("undo repair", repair, 1000)))
    await until_waiting(people.conductor, 1)
    await merge.commit()
    answer = await waiting
    assert answer is not None
    assert not answer["finished"]
    again = await undoing.fetchrow(call("undo repair", repair, 1000))
    assert again is not None
    assert again["finished"]
    assert (await ledgers(people, [into]))[into].get(outage.date()) is None
    assert again["kept_days"] == 0
    await assert_sound(people, [source, into])


async def test_archive_against_updates_and_deletion(people: Crowd) -> None:
    """History is archived while its users act and leave: those who stay keep every change, the others leave none."""
    later = NOON + 60 * DAY
    users = await people.users(20)
    await active(people, users, 4, 3, 2, 1, 0)
    gone, stay = users[:8], users[8:]
    queries = [call("delete", user) for user in gone] + [call("archive", 20)] * 8
    queries += [update(user, later) for user in stay] + [call("batch", stay, [later - DAY] * len(stay))] * 4
    random.Random(0).shuffle(queries)
    assert words(await people.call(queries, clocks=[later])) == {}
    # what nobody could take while its user was held, or was a user's latest change, comes another day
    another_day = later + 2 * DAY
    while not (await people.call([call("archive", 20)], clocks=[another_day]))[0][0]["finished"]:  # type: ignore[index]
        pass
    left = await people.conductor.fetchval(
        """
        select count(*) from (select user_id from public.streak_history union all
                              select user_id from public.streak_history_archive) h where h.user_id = any ($1)
        """,
        gone,
    )
    archived = await people.conductor.fetchval(
        "select count(*) from public.streak_history_archive where user_id = any ($1)", stay
    )
    assert (left, archived) == (0, 5 * len(stay))
    await assert_sound(people, stay)


@pytest.mark.parametrize(
    "name", ["undo", "merge from", "merge into", "erase", "repair", "undo repair", "archive", "explain"]
)
async def test_deletion_against(people: Crowd, name: str) -> None:
    """Deleting a user against each operation on the user: no deadlock, and at worst there is no such user or day."""
    for turn in range(2):
        users = await people.users(4)
        await active(people, users, 6, 5, 3)
        user_id, other = users[turn], users[2]
        repair = await people.conductor.fetchval(
            "select repair_id from public.start_streak_repair($1, $2, 'an outage')", NOON - 4 * DAY, NOON - 3.6 * DAY
        )
        if name == "undo repair":
            await people.call([call("repair", repair, 100)], clocks=[NOON])
        query = {
            "undo": call("undo", user_id, (NOON - 5 * DAY).date()),
            "merge from": call("merge", user_id, other),
            "merge into": call("merge", other, user_id),
            "erase": call("erase", user_id),
            "repair": call("repair", repair, 1),
            "undo repair": call("undo repair", repair, 1),
            "archive": call("archive", 3),
            "explain": call("explain", user_id),
        }[name]
        queries = [call("delete", user_id), *[query] * 6, *[update(user_id, NOON), update(other, NOON)] * 2]
        random.Random(turn).shuffle(queries)
        assert set(words(await people.call(queries, clocks=[NOON]))) <= GONE
        assert (await ledgers(people, [user_id]))[user_id] == {}
        await assert_sound(people, users)
