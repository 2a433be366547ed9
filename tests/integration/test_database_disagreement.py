"""Rows and ledgers that disagree: by hand they cannot be made to, and one that does all the same fails no other."""

from __future__ import annotations

from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from tests.support.crowd import assert_sound, call, crowd
from tests.support.migrated import Connection, module_database
from tests.support.noon import DAY, NOON, db

__all__ = ["db", "module_database"]
pytestmark = pytest.mark.asyncio(loop_scope="module")

UPDATE = "select * from public.update_user_streak_atomic($1, 'UTC', $2, $3)"
BATCH = "select * from public.update_user_streaks_batch($1, $2, null, $3)"
ROW = "select * from public.user_streaks where user_id = $1"
# The primary key of the ledger, the key of the history's versions, the range of a counter: each fails the statement.
SPOILS = {
    "last day behind the ledger": (
        "last_active_date = last_active_date - 1, last_activity_at = last_activity_at - interval '1 day'"
    ),
    "last days behind the ledger": (
        "last_active_date = last_active_date - 2, last_activity_at = last_activity_at - interval '2 days', "
        "expires_at = expires_at + interval '1 day'"
    ),
    "version behind the history": "version = 1",
    "no room in the counter": "run_length = 2147483647, longest_streak = 2147483647, longest_base = 2147483647",
}


async def add_users(db: Connection, count: int, *ago: int) -> list[UUID]:
    """Sign up users, in order of their ids, active so many days ago."""
    users = sorted(uuid4() for _ in range(count))
    await db.execute("insert into auth.users (id) select unnest($1::uuid[])", users)
    for n in sorted(ago, reverse=True):
        await db.fetch(BATCH, users, [NOON - n * DAY] * count, None)
    return users


async def spoil(db: Connection, user_id: UUID, change: str) -> None:
    """Change a row past the triggers, as the restore of one table may."""
    await db.execute("set session_replication_role = replica")
    await db.execute(f"update public.user_streaks set {change} where user_id = $1", user_id)  # noqa: S608 - the test's own
    await db.execute("set session_replication_role = origin")


async def batch(db: Connection, users: list[UUID], days: list[int], *requests: str) -> list[asyncpg.Record]:
    """Count an activity for each, so many days ago."""
    return await db.fetch(BATCH, users, [NOON - n * DAY for n in days], list(requests) or None)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("last_active_date", (NOON - 2 * DAY).date()),
        ("last_active_date", (NOON + 2 * DAY).date()),
        ("last_activity_at", NOON - 2 * DAY),
        ("last_activity_at", None),
        ("last_activity_timezone", "Asia/Tokyo"),
    ],
)
@pytest.mark.parametrize("role", ["service_role", "none"], ids=["service", "owner"])
async def test_a_change_by_hand_that_contradicts_the_ledger_is_refused(
    db: Connection, role: str, column: str, value: object
) -> None:
    """A change of what the ledger decides is refused by the column's name, and the next day counts as ever."""
    (user_id,) = await add_users(db, 1, 2, 1)
    before = await db.fetchrow(ROW, user_id)
    change = f"update public.user_streaks set {column} = $2 where user_id = $1"  # noqa: S608 - the test's own
    attempt = db.transaction()
    await attempt.start()
    await db.execute(f"set local role {role}")
    with pytest.raises(asyncpg.InvalidParameterValueError, match=f"^{column}: ") as caught:
        await db.execute(change, user_id, value)
    await attempt.rollback()
    assert caught.value.detail == "LEDGER_DECIDES"
    assert await db.fetchrow(ROW, user_id) == before
    answer = await db.fetchrow(UPDATE, user_id, "today", NOON)
    assert answer is not None
    assert (answer["change_type"], answer["current_streak"], answer["version"]) == ("STREAK_INCREMENT", 3, 3)


@pytest.mark.parametrize("zone", ["America/Los_Angeles", "Pacific/Auckland"])
async def test_a_zone_changed_by_hand_takes_the_expiry_along(db: Connection, zone: str) -> None:
    """After a change of the zone by hand a rebuild finds nothing to mend, and no time was taken away."""
    (user_id,) = await add_users(db, 1, 1)
    before = await db.fetchrow(ROW, user_id)
    await db.execute("update public.user_streaks set timezone = $2 where user_id = $1", user_id, zone)
    answer = await db.fetchrow("select * from public.rebuild_user_streak($1)", user_id)
    assert answer is not None
    assert before is not None
    assert (answer["change_type"], answer["timezone"], answer["version"]) == ("STREAK_MAINTAINED", zone, 2)
    assert answer["expires_at"] >= before["expires_at"]


async def test_a_whole_row_inserted_by_hand_has_a_ledger(db: Connection) -> None:
    """The service inserts a row with every column filled: it gets its days, and the next day is day 3."""
    (user_id,) = await add_users(db, 1)
    await db.execute("set local role service_role")
    await db.execute(
        "insert into public.user_streaks (user_id, current_streak, longest_streak, last_active_date, run_length, "
        "expires_at, last_activity_at, last_activity_timezone) values ($1, 2, 2, $2, 2, $3, $4, 'UTC')",
        user_id,
        (NOON - DAY).date(),
        NOON + DAY / 2,
        NOON - DAY,
    )
    await db.execute("reset role")
    assert await db.fetchval("select count(*) from public.streak_days where user_id = $1", user_id) == 2
    answer = await db.fetchrow(UPDATE, user_id, "today", NOON)
    assert answer is not None
    assert answer["current_streak"] == 3


@pytest.mark.parametrize("spoilt", SPOILS)
@pytest.mark.parametrize("ago", [0, 3], ids=["today", "a late day"])
async def test_a_row_that_disagrees_harms_no_other(db: Connection, spoilt: str, ago: int) -> None:
    """In a batch the others count as ever, and the row that disagrees with its ledger is mended and counts as well."""
    users = await add_users(db, 3, 5, 2, 1)
    stranger = uuid4()
    await spoil(db, users[1], SPOILS[spoilt])
    rows = await batch(db, [users[2], users[1], stranger, users[0]], [0, ago, 0, 0], "two", "one", "none", "zero")
    assert [(row["index"], row["error"]) for row in rows] == [(0, None), (1, None), (2, "USER_NOT_FOUND"), (3, None)]
    expected = {0: ("STREAK_INCREMENT", 3), 3: ("STREAK_RECOVERED", 3)}
    told = [(row["change_type"], row["current_streak"]) for row in rows]
    assert told == [expected[0], expected[ago], (None, None), expected[0]]
    assert await agrees(db, users)
    again = await batch(db, [users[2], users[1]], [0, ago], "two", "one")
    assert [(row["current_streak"], row["version"]) for row in again] == [
        (row["current_streak"], row["version"]) for row in rows[:2]
    ]


async def agrees(db: Connection, users: list[UUID]) -> bool:
    """Whether a rebuild has nothing to mend in any of the rows."""
    kinds: list[Any] = [
        await db.fetchval("select change_type from public.rebuild_user_streak($1)", user_id) for user_id in users
    ]
    return kinds == ["STREAK_MAINTAINED"] * len(users)


async def test_a_row_that_cannot_be_mended_gets_an_error_of_its_own(db: Connection) -> None:
    """Days without a row, which nothing can bring in line, cost nobody but their own user the activity."""
    users = await add_users(db, 3, 1)
    await db.execute("set session_replication_role = replica")
    await db.execute("delete from public.user_streaks where user_id = $1", users[1])
    await db.execute("set session_replication_role = origin")
    rows = await batch(db, users, [0, 1, 0])
    assert [row["error"] for row in rows] == [None, "STREAK_DAMAGED", None]
    assert [row["current_streak"] for row in rows] == [2, None, 2]


async def test_batches_that_meet_a_row_that_disagrees(module_database: str) -> None:
    """Batches in different orders at one instant, over rows that disagree: no deadlock, no error, each day once."""
    async with crowd(module_database, 12) as people:
        users = await people.users(6)
        await people.call([call("batch", users, [NOON - n * DAY] * 6) for n in (2, 1)], clocks=[NOON - DAY])
        for user_id in users[::2]:
            await spoil(people.conductor, user_id, SPOILS["last day behind the ledger"])
        turned = [users[n % 6 :] + users[: n % 6] for n in range(12)]
        outcomes = await people.call([call("batch", one, [NOON] * 6) for one in turned], clocks=[NOON])
        rows = [row for outcome in outcomes if isinstance(outcome, list) for row in outcome]
        assert [row["error"] for row in rows] == [None] * 72
        assert sum(row["change_type"] == "STREAK_INCREMENT" for row in rows) == 6
        assert {row["current_streak"] for row in rows} == {3}
        for user_id in users:
            assert await people.days(user_id) == [(NOON - n * DAY).date() for n in (2, 1, 0)]
        await assert_sound(people.conductor, users[1::2])
