"""Both clients against the real stack: REST, the functions, and what happens when REST fails."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, TypeAlias
from uuid import UUID, uuid4

import asyncpg
import pytest

from local_supabase.faults import Faults
from local_supabase.stack import StackInfo
from streak_client import (
    Activity,
    AsyncStreakClient,
    ChangeType,
    ConfigurationError,
    ConnectionFailedError,
    DatabaseError,
    DayKind,
    InvalidInputError,
    PermissionDeniedError,
    RequestTimeoutError,
    StreakClient,
    UserNotFoundError,
)

Run = Callable[..., Awaitable[Any]]
NewUser = Callable[[], Awaitable[UUID]]
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


@pytest.fixture(params=["async", "sync"])
async def run(request: pytest.FixtureRequest, stack: StackInfo) -> AsyncIterator[Run]:
    """Call a method of the async and of the sync client; the latter in a thread."""
    asynchronous, synchronous = (
        AsyncStreakClient(stack.supabase_url, stack.secret_key),
        StreakClient(stack.supabase_url, stack.secret_key),
    )

    async def call(method: str, *args: Any, **kwargs: Any) -> Any:
        if request.param == "sync":
            answer = await asyncio.to_thread(getattr(synchronous, method), *args, **kwargs)
            return list(answer) if inspect.isgenerator(answer) else answer
        answer = getattr(asynchronous, method)(*args, **kwargs)
        return [entry async for entry in answer] if inspect.isasyncgen(answer) else await answer

    yield call
    synchronous.close()
    await asynchronous.aclose()


@pytest.fixture
async def client(stack: StackInfo) -> AsyncIterator[AsyncStreakClient]:
    """An async client of the stack."""
    async with AsyncStreakClient(stack.supabase_url, stack.secret_key) as opened:
        yield opened


async def rows(db: Connection, table: str, user: UUID) -> int:
    """Count a user's rows of a table."""
    counted: int = await db.fetchval(f"select count(*) from public.{table} where user_id = $1", user)  # noqa: S608
    return counted


async def test_a_users_first_days(run: Run, new_user: NewUser) -> None:
    """Activities on following days grow the streak, and every read tells the same."""
    user, now = await new_user(), datetime.now(UTC)
    updates = [
        await run("update_user_streak", user, "UTC", activity_at=now - timedelta(days=days)) for days in (2, 1, 0, 0)
    ]
    update = updates[-1]
    assert [each.change_type for each in updates] == [
        "FIRST_ACTIVITY",
        "STREAK_INCREMENT",
        "STREAK_INCREMENT",
        "STREAK_MAINTAINED",
    ]
    streak = await run("get_user_streak", user)
    assert (streak.user_id, streak.current_streak, streak.longest_streak) == (user, 3, 3)
    assert (streak.last_active_date, streak.is_active_today, streak.version) == (update.last_active_date, True, 3)
    assert streak.expires_at == update.expires_at
    assert await run("get_user_streaks", [user, user]) == {user: streak}
    days = await run("get_calendar", user, now.date() - timedelta(days=3), now.date())
    assert [day.kind for day in days] == [DayKind.ACTIVE] * 3
    history = await run("iter_history", user, page_size=2)
    assert [entry.version_after for entry in history] == [3, 2, 1]
    assert history[-1].change_type is ChangeType.FIRST_ACTIVITY
    assert any(entry.user_id == user for entry in await run("iter_leaderboard", page_size=100))


async def test_a_user_without_activity(run: Run, new_user: NewUser) -> None:
    """A user who never did anything has zeros, no dates and no history."""
    user = await new_user()
    streak = await run("get_user_streak", user)
    assert (streak.current_streak, streak.longest_streak, streak.version) == (0, 0, 0)
    assert (streak.last_active_date, streak.expires_at, streak.days_since_activity) == (None, None, None)
    assert await run("get_history", user) == []
    assert await run("get_calendar", user, date(2020, 1, 1), date(2026, 12, 31)) == []


async def test_a_hundred_simultaneous_first_activities(
    client: AsyncStreakClient, db: Connection, new_user: NewUser
) -> None:
    """A hundred first calls at once all succeed, and leave streak 1, one ledger row and one history row."""
    user = await new_user()
    updates = await asyncio.gather(*(client.update_user_streak(user, "UTC") for _ in range(100)))
    assert {update.current_streak for update in updates} == {1}
    assert sum(update.change_type is ChangeType.FIRST_ACTIVITY for update in updates) == 1
    assert [await rows(db, table, user) for table in ("user_streaks", "streak_days", "streak_history")] == [1, 1, 1]


async def test_one_sync_client_serves_many_threads(stack: StackInfo, db: Connection, new_user: NewUser) -> None:
    """Threads that share a client each get their own user's answer."""
    users = [await new_user() for _ in range(8)]
    with StreakClient(stack.supabase_url, stack.secret_key) as shared, ThreadPoolExecutor(8) as pool:
        wanted = users * 5
        streaks = [pool.submit(shared.update_user_streak, user, "UTC") for user in wanted]
        await asyncio.to_thread(lambda: [future.result() for future in streaks])
        read = [pool.submit(shared.get_user_streak, user) for user in wanted]
        answers = await asyncio.to_thread(lambda: [future.result().user_id for future in read])
    assert answers == wanted
    assert {await rows(db, "streak_days", user) for user in users} == {1}


async def test_the_same_request_gets_the_first_answer_again(run: Run, new_user: NewUser) -> None:
    """A request id that wrote is answered with the first answer, marked as replayed, days later too."""
    user, at = await new_user(), datetime.now(UTC)
    first = await run("update_user_streak", user, "UTC", request_id="once", activity_at=at - timedelta(days=1))
    await run("update_user_streak", user, "UTC", activity_at=at)
    again = await run("update_user_streak", user, "UTC", request_id="once", activity_at=at - timedelta(days=30))
    assert again == first.model_copy(update={"replayed": True})


async def test_a_lost_answer_counts_once(run: Run, db: Connection, faults: Faults, new_user: NewUser) -> None:
    """When the answer is lost after the commit, the retry gets the first answer, and the day counts once."""
    user = await new_user()
    await faults.rest_lose_answer(count=1, path="/rpc/update_user_streak_atomic")
    update = await run("update_user_streak", user, "UTC")
    assert (update.change_type, update.replayed) == (ChangeType.FIRST_ACTIVITY, True)
    assert await rows(db, "streak_history", user) == 1


async def test_a_batch_whose_answer_is_lost_counts_once(
    run: Run, db: Connection, faults: Faults, new_user: NewUser
) -> None:
    """A batch is repeated whole after a lost answer, and each activity counts once."""
    users = [await new_user() for _ in range(3)]
    await faults.rest_lose_answer(count=1, path="/rpc/update_user_streaks_batch")
    outcomes = await run("update_user_streaks", [Activity(user, timezone="UTC") for user in users])
    assert [outcome.unwrap().replayed for outcome in outcomes] == [True] * 3
    assert {await rows(db, "streak_history", user) for user in users} == {1}


async def test_short_faults_are_bridged_and_long_ones_are_errors(run: Run, faults: Faults, new_user: NewUser) -> None:
    """Three failures in a row are made good by retries; a fourth is the caller's error, with the status."""
    user = await new_user()
    await faults.rest_error(503, count=3)
    assert (await run("get_user_streak", user)).version == 0
    await faults.rest_error(500, count=4)
    with pytest.raises(DatabaseError) as caught:
        await run("get_user_streak", await new_user())  # another one: the first is in the cache
    assert (caught.value.status, caught.value.retryable) == (500, True)


async def test_a_service_that_never_answers_is_a_time_out(stack: StackInfo, faults: Faults) -> None:
    """A hanging service is a retryable error after the time-out, not a hanging caller."""
    await faults.rest_hang()
    async with AsyncStreakClient(stack.supabase_url, stack.secret_key, timeout=0.2, max_retries=0) as impatient:
        with pytest.raises(RequestTimeoutError):
            await impatient.get_user_streak(uuid4())


async def test_nobody_at_the_address() -> None:
    """A closed port is a lost connection, after all retries."""
    async with AsyncStreakClient("http://127.0.0.1:9", "sb_secret_x") as lonely:
        with pytest.raises(ConnectionFailedError):
            await lonely.get_user_streak(uuid4())


async def test_a_wrong_key_and_a_wrong_address_are_told_apart(stack: StackInfo) -> None:
    """A refused key is PERMISSION_DENIED, a URL that is none of Supabase's is CONFIGURATION."""
    async with AsyncStreakClient(stack.supabase_url, "sb_secret_of_another_project") as stranger:
        with pytest.raises(PermissionDeniedError):
            await stranger.get_user_streak(uuid4())
    async with AsyncStreakClient(f"{stack.supabase_url}/elsewhere", stack.secret_key) as lost:
        with pytest.raises(ConfigurationError):
            await lost.get_user_streak(uuid4())


async def test_errors_of_the_database_name_the_field(run: Run, db: Connection, new_user: NewUser) -> None:
    """What only the database can check comes back as an error with its field, and writes nothing."""
    user = await new_user()
    with pytest.raises(UserNotFoundError) as unknown:
        await run("update_user_streak", uuid4())
    with pytest.raises(InvalidInputError) as old:
        await run("update_user_streak", user, activity_at=datetime.now(UTC) - timedelta(days=8))
    with pytest.raises(InvalidInputError) as nothing:
        await run("recover_user_streak", user, date(2026, 1, 1), date(2026, 1, 1), "ill")
    assert [(error.value.field, error.value.detail) for error in (unknown, old, nothing)] == [
        ("user_id", "USER_NOT_FOUND"),
        ("activity_at", "ACTIVITY_TOO_OLD"),
        ("user_id", "NO_STREAK"),
    ]
    assert await rows(db, "streak_history", user) == 0


@pytest.mark.parametrize("zone", ["Mars/Olympus", "FOO+5", "x" * 100, "Europe/\x00Paris", "' or 1=1 --", "😀"])
async def test_a_wrong_zone_costs_no_day(
    run: Run, new_user: NewUser, zone: str, caplog: pytest.LogCaptureFixture
) -> None:
    """With a zone that is none, the day counts in the stored zone, and a warning says so."""
    user = await new_user()
    with caplog.at_level(logging.WARNING, "streak_client"):
        update = await run("update_user_streak", user, zone)
    assert (update.current_streak, update.timezone) == (1, "UTC")
    assert "ignored" in caplog.text


async def test_an_import_and_its_repetition(run: Run, db: Connection, new_user: NewUser) -> None:
    """An import enters days of any age, reports unknown users, and changes nothing when repeated."""
    user, stranger = await new_user(), uuid4()
    start = datetime(2020, 2, 27, 12, tzinfo=UTC)
    activities = [Activity(user, start + timedelta(days=n), "UTC") for n in range(5)] + [Activity(stranger, start)]
    summary = await run("import_activity", activities, chunk_size=4)
    assert (summary.events, summary.users, summary.days_added) == (6, 1, 5)
    assert isinstance(summary.refused[stranger], UserNotFoundError)
    assert (await run("get_user_streak", user)).longest_streak == 5
    history = await rows(db, "streak_history", user)
    assert (await run("import_activity", activities)).days_added == 0
    assert await rows(db, "streak_history", user) == history


async def test_a_recovered_day_joins_two_runs(run: Run, new_user: NewUser) -> None:
    """A repaired day makes one streak of two, once per request id."""
    user, now = await new_user(), datetime.now(UTC)
    yesterday = now.date() - timedelta(days=1)
    for days in (2, 0):
        await run("update_user_streak", user, "UTC", activity_at=now - timedelta(days=days))
    first, again = [
        await run("recover_user_streak", user, yesterday, yesterday, "the site was down", request_id="repair")
        for _ in range(2)
    ]
    assert (first.change_type, first.current_streak, first.replayed) == (ChangeType.STREAK_RECOVERED, 3, False)
    assert again.replayed
    assert (await run("get_history", user, limit=1))[0].reason == "the site was down"


async def test_an_outage_loses_nothing(
    stack: StackInfo, db: Connection, faults: Faults, new_user: NewUser, tmp_path: Path
) -> None:
    """While REST fails, activities wait in the outbox; afterwards each counts once, on its own day."""
    users, now = [await new_user() for _ in range(3)], datetime.now(UTC)
    path = tmp_path / "outbox.db"
    await faults.rest_error(503)
    async with AsyncStreakClient(stack.supabase_url, stack.secret_key, outbox=path, max_retries=0) as client:
        for days in (8, 1, 0):
            for user in users:
                solved = await client.handle_problem_solved(user, "UTC", activity_at=now - timedelta(days=days))
                assert (solved.result, solved.queued) == (None, True)
    await faults.rest_restore()
    async with AsyncStreakClient(stack.supabase_url, stack.secret_key, outbox=path) as client:
        assert await client.drain_outbox() == 0
        streaks = await client.get_user_streaks(users)
    assert {streak.current_streak for streak in streaks.values()} == {2}
    assert {await rows(db, "streak_days", user) for user in users} == {3}


async def test_a_batch_of_more_than_a_thousand(client: AsyncStreakClient, db: Connection, new_user: NewUser) -> None:
    """A batch of any size is sent in parts; one user's elements act in order, and strangers harm nobody."""
    user, now = await new_user(), datetime.now(UTC)
    activities = [Activity(user, now - timedelta(days=2 - n), "UTC") for n in range(3)]
    outcomes = await client.update_user_streaks([*activities, *[Activity(uuid4())] * 1000, Activity(user, now, "UTC")])
    assert [outcome.unwrap().current_streak for outcome in (*outcomes[:3], outcomes[-1])] == [0, 2, 3, 3]
    assert all(isinstance(outcome.error, UserNotFoundError) for outcome in outcomes[3:-1])
    assert await rows(db, "streak_history", user) == 3
