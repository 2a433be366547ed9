"""What the original SQL gets wrong, shown on it, and what ours makes of it: each test runs on both."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeAlias
from uuid import UUID, uuid4

import asyncpg
import pytest

from tests.support.database import execute
from tests.support.migrated import module_database, until_waiting
from tests.support.original import CLOCK_PATH, original_database

__all__ = ["module_database", "original_database"]
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
NOON = datetime(2026, 3, 3, 12, tzinfo=UTC)


@dataclass
class Side:
    """One of the two databases."""

    url: str
    original: bool

    @asynccontextmanager
    async def connected(self) -> AsyncIterator[Connection]:
        """A connection as the owner, on which the test's clock counts."""
        connection = await asyncpg.connect(
            self.url, server_settings={"search_path": CLOCK_PATH} if self.original else {}
        )
        try:
            yield connection
        finally:
            await connection.close()


@pytest.fixture(params=["original", "ours"])
def side(request: pytest.FixtureRequest) -> Side:
    """The original's database, then ours, without a user."""
    name = "original_database" if request.param == "original" else "module_database"
    side = Side(request.getfixturevalue(name), request.param == "original")
    asyncio.run(execute(side.url, "delete from auth.users"))
    return side


async def add_user(connection: Connection) -> UUID:
    """Sign up a user."""
    user_id = uuid4()
    await connection.execute("insert into auth.users (id) values ($1)", user_id)
    return user_id


async def act(
    connection: Connection, user_id: UUID, at: datetime, zone: str = "UTC", request_id: str | None = None
) -> asyncpg.Record:
    """Call the update as the original's client does, when it is `at`."""
    await connection.execute("select set_config('streaks.test_now', $1, false)", at.isoformat())
    row = await connection.fetchrow(
        "select * from public.update_user_streak_atomic(p_user_id => $1, p_timezone => $2, p_request_id => $3)",
        user_id,
        zone,
        request_id,
    )
    assert row is not None
    return row


async def act_as(connection: Connection, role: str, user_id: UUID) -> None:
    """Become a role, and the user of a token, as the API does."""
    await connection.execute("select set_config('request.jwt.claims', $1, false)", json.dumps({"sub": str(user_id)}))
    await connection.execute(f"set role {role}")


async def test_simultaneous_first_calls(side: Side) -> None:
    """Simultaneous first calls all succeed and count one day; the original fails all but one."""
    async with side.connected() as connection:
        user_id = await add_user(connection)

    async def first(barrier: asyncio.Barrier) -> None:
        async with side.connected() as connection:
            # all have begun, and none sees what another writes, before the first writes
            await barrier.wait()
            await connection.fetchrow("select * from public.update_user_streak_atomic($1, 'UTC', null)", user_id)

    async with side.connected() as blocker:
        # holds every first call back where it needs the user's key, so that all of them have looked for a row
        transaction = blocker.transaction()
        await transaction.start()
        await blocker.execute("select from auth.users where id = $1 for update", user_id)
        barrier = asyncio.Barrier(11)
        calls = [asyncio.create_task(first(barrier)) for _ in range(10)]
        await barrier.wait()
        async with side.connected() as observer:
            await until_waiting(observer, 10)
        await transaction.commit()
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
    failures = [outcome for outcome in outcomes if isinstance(outcome, asyncpg.UniqueViolationError)]
    assert len(failures) == (9 if side.original else 0)
    assert [outcome for outcome in outcomes if outcome is not None] == failures
    async with side.connected() as connection:
        assert await connection.fetchval("select current_streak from public.user_streaks") == 1
        assert await connection.fetchval("select count(*) from public.streak_history") == 1


async def test_going_west(side: Side) -> None:
    """A flight west, to a day before the last one, leaves the streak alone; the original resets it."""
    async with side.connected() as connection:
        user_id = await add_user(connection)
        for day in range(3):
            await act(connection, user_id, NOON + timedelta(days=day), "Asia/Tokyo")
        # 01:00 in Tokyo on the 6th; ten hours later it is still the 5th in Los Angeles
        await act(connection, user_id, datetime(2026, 3, 5, 16, tzinfo=UTC), "Asia/Tokyo")
        row = await act(connection, user_id, datetime(2026, 3, 6, 5, tzinfo=UTC), "America/Los_Angeles")
    if side.original:
        assert (row["change_type"], row["current_streak"]) == ("STREAK_RESET", 1)
        assert row["message"] == "You missed -2 day(s)"
    else:
        assert (row["change_type"], row["current_streak"]) == ("STREAK_MAINTAINED", 4)


async def test_two_zones_in_one_minute(side: Side) -> None:
    """Two calls in one minute with zones that have different dates count one day; the original counts two."""
    async with side.connected() as connection:
        user_id = await add_user(connection)
        await act(connection, user_id, NOON, "Pacific/Pago_Pago")
        row = await act(connection, user_id, NOON + timedelta(minutes=1), "Pacific/Kiritimati")
    # Pago Pago has the 3rd, and Kiritimati the 4th already
    assert row["current_streak"] == (2 if side.original else 1)


async def kill_streak(connection: Connection) -> tuple[UUID, UUID]:
    """Make a user whose 500 days ended in 2020, and one who has been active for two days."""
    dead, alive = await add_user(connection), await add_user(connection)
    await connection.execute(
        "insert into public.user_streaks (user_id, current_streak, longest_streak, last_active_date)"
        " values ($1, 500, 500, '2020-02-01')",
        dead,
    )
    for day in range(2):
        await act(connection, alive, NOON + timedelta(days=day))
    return dead, alive


async def test_dead_streak_is_read_as_dead(side: Side) -> None:
    """A streak that ended in 2020 is read as 0 without any job; the original reports 500."""
    async with side.connected() as connection:
        dead, _ = await kill_streak(connection)
        row = await connection.fetchrow("select * from public.get_user_streak($1)", dead)
    assert row is not None
    assert row["current_streak"] == (500 if side.original else 0)
    assert row["longest_streak"] == 500


async def test_dead_streak_does_not_lead(side: Side) -> None:
    """A streak that ended in 2020 is not on the leaderboard of current ones; in the original it leads it."""
    async with side.connected() as connection:
        dead, alive = await kill_streak(connection)
        rows = await connection.fetch("select user_id, current_streak from public.get_streak_leaderboard()")
    expected = [(dead, 500), (alive, 2)] if side.original else [(alive, 2)]
    assert [tuple(row) for row in rows] == expected


async def test_leaderboard_shows_everybody(side: Side) -> None:
    """A signed-in user sees all users on the leaderboard; the original shows that user's own row alone."""
    async with side.connected() as connection:
        users = [await add_user(connection) for _ in range(3)]
        for user_id in users:
            await act(connection, user_id, NOON)
        await act_as(connection, "authenticated", users[0])
        rows = await connection.fetch("select user_id from public.get_streak_leaderboard()")
    assert {row["user_id"] for row in rows} == (set(users[:1]) if side.original else set(users))


@pytest.mark.parametrize("role", ["anon", "authenticated"])
async def test_execute_is_not_open(side: Side, role: str) -> None:
    """Nobody but the service may count an activity; the original lets everyone do it for anyone."""
    async with side.connected() as connection:
        user_id = await add_user(connection)
        await act_as(connection, role, uuid4())
        if side.original:
            row = await connection.fetchrow("select * from public.update_user_streak_atomic($1)", user_id)
            assert row is not None
            assert row["change_type"] == "FIRST_ACTIVITY"
        else:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.fetchrow("select * from public.update_user_streak_atomic($1)", user_id)


async def test_replayed_request(side: Side) -> None:
    """The same request id a day later gets its first answer again; the original counts it as another day."""
    async with side.connected() as connection:
        user_id = await add_user(connection)
        first = await act(connection, user_id, NOON, request_id="solved-1")
        again = await act(connection, user_id, NOON + timedelta(days=1), request_id="solved-1")
    if side.original:
        assert (again["change_type"], again["current_streak"]) == ("STREAK_INCREMENT", 2)
    else:
        assert dict(again) == {**first, "replayed": True}
        assert (first["change_type"], first["current_streak"]) == ("FIRST_ACTIVITY", 1)


async def test_retry_over_midnight(side: Side) -> None:
    """A retry after midnight of a call that was lost lands on the activity's day; the original takes the next one."""
    before, after = NOON.replace(hour=23, minute=59, second=59), NOON.replace(hour=0) + timedelta(days=1)
    async with side.connected() as connection:
        user_id = await add_user(connection)
        if side.original:  # which cannot be told when the activity was
            row = await act(connection, user_id, after, request_id="solved-1")
        else:
            await connection.execute("select set_config('streaks.test_now', $1, false)", after.isoformat())
            found = await connection.fetchrow(
                "select * from public.update_user_streak_atomic($1, 'UTC', 'solved-1', $2)", user_id, before
            )
            assert found is not None
            row = found
    assert row["last_active_date"] == (after if side.original else before).date()


@pytest.mark.parametrize("zone", ["Mars/Olympus_Mons", "PST8PDT4", ""])
async def test_unknown_zone(side: Side, zone: str) -> None:
    """A zone that is none costs nobody the day; the original fails the call, or believes 'PST8PDT4'."""
    async with side.connected() as connection:
        user_id = await add_user(connection)
        if side.original and zone != "PST8PDT4":
            with pytest.raises(asyncpg.PostgresError) as caught:
                await act(connection, user_id, NOON, zone)
            assert caught.value.sqlstate == "22023"
            return
        row = await act(connection, user_id, NOON, zone)
        stored = await connection.fetchval("select timezone from public.user_streaks")
    assert (row["change_type"], row["current_streak"]) == ("FIRST_ACTIVITY", 1)
    if side.original:
        assert stored == zone
    else:
        assert stored == row["timezone"] == "UTC"
        assert zone in row["message"]
