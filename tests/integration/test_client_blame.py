"""One bad activity harms no other on the real stack, and its error is the one that it would meet alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeAlias
from uuid import UUID, uuid4

import asyncpg
import pytest

from local_supabase.stack import StackInfo
from streak_client import Activity, AsyncStreakClient, ConnectionFailedError, DatabaseError, Outbox, StreakError
from streak_client._async_driver import AsyncDriver
from streak_client._batch import Prepared
from streak_client._calls import send_prepared
from streak_client._metrics import metrics_for
from streak_client._translate import _REFUSALS, from_word
from streak_client.settings import Settings

NewUser = Callable[[], Awaitable[UUID]]
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
DOWN = ConnectionFailedError("gone")


@asynccontextmanager
async def poisoned(db: Connection, user: UUID) -> AsyncIterator[None]:
    """Let every new day of a user fail, as a trigger of somebody else's may."""
    await db.execute(
        "create function private.poison() returns trigger language plpgsql as "
        "$$ begin raise exception 'not this one'; end $$"
    )
    try:
        await db.execute(
            "create trigger poison before insert on public.streak_days for each row "
            f"when (new.user_id = '{user}') execute function private.poison()"
        )
        yield
    finally:
        await db.execute("drop function private.poison() cascade")


def told(error: object) -> tuple[object, ...]:
    """List all that an error says."""
    assert isinstance(error, StreakError)
    field = getattr(error, "field", None)
    return type(error), error.message, error.code, error.detail, error.status, error.sqlstate, error.retryable, field


async def test_a_poisoned_user_harms_no_other(
    stack: StackInfo, db: Connection, new_user: NewUser, tmp_path: Path
) -> None:
    """When the database refuses a whole batch for one user, all others count, gathered, listed and from the outbox."""
    users = [await new_user() for _ in range(4)]
    bad, now = users[1], datetime.now(UTC)
    box_file = tmp_path / "outbox.db"
    box = Outbox(box_file)
    for user in users:
        box.put(Prepared(user, now - timedelta(days=1), "UTC", "yesterday"), DOWN, now)
    async with poisoned(db, bad), AsyncStreakClient(stack.supabase_url, stack.secret_key, max_retries=0) as client:
        listed = await client.update_user_streaks([Activity(user, now - timedelta(days=3)) for user in users])
        gathered = await asyncio.gather(*map(client.update_user_streak, users), return_exceptions=True)
        with pytest.raises(DatabaseError, match="not this one") as alone:
            await client.update_user_streak(bad)
        async with AsyncStreakClient(stack.supabase_url, stack.secret_key, outbox=box_file, max_retries=0) as drainer:
            assert await drainer.drain_outbox() == 1
    assert [type(outcome.error) for outcome in listed] == [type(None), DatabaseError, type(None), type(None)]
    assert told(gathered[1]) == told(alone.value)
    days = "select count(*) from public.streak_days where user_id = $1"
    assert [await db.fetchval(days, user) for user in users] == [3, 0, 3, 3]
    assert [entry.user_id for entry in box.entries()] == [bad]
    box.close()


async def test_a_batch_names_errors_as_a_single_call_does(db: Connection) -> None:
    """For each word, the error of an element says what the database raises for a call of its own."""
    for word in _REFUSALS:
        with pytest.raises(asyncpg.PostgresError) as caught:
            await db.execute("select private.raise_streak_error($1)", word)
        raised, error = caught.value.as_dict(), from_word(word)
        assert (error.message, error.sqlstate, error.detail) == (
            raised["message"],
            raised["sqlstate"],
            raised["detail"],
        )


async def test_gathering_changes_nobodys_error(stack: StackInfo, new_user: NewUser) -> None:
    """What is wrong with an activity is said in the same words, code and status, sent alone or beside another."""
    user, now = await new_user(), datetime.now(UTC)
    good = Prepared(user, now, "UTC", "good")
    wrong = [
        Prepared(user, now - timedelta(days=8), "UTC", "old"),
        Prepared(user, now + timedelta(hours=1), "UTC", "future"),
        Prepared(user, now, "UTC", "x" * 101),
        Prepared(uuid4(), now, "UTC", "nobody"),
    ]
    driver = AsyncDriver(Settings(stack.supabase_url, stack.secret_key), 0, 10.0, metrics_for(None))
    for each in wrong:
        (alone,) = await driver.run(send_prepared([each]))
        _, beside = await driver.run(send_prepared([good, each]))
        assert told(beside) == told(alone)
    await driver.aclose()


async def test_what_counted_before_the_outage_is_not_imported(
    stack: StackInfo, db: Connection, new_user: NewUser, tmp_path: Path
) -> None:
    """An entry whose request has counted enters no second day, however old it is; one that has not is imported."""
    counted, missed, now = await new_user(), await new_user(), datetime.now(UTC)
    long_ago, path = now - timedelta(days=30), tmp_path / "outbox.db"
    box = Outbox(path)
    box.put(Prepared(counted, long_ago, "Pacific/Auckland", "lost"), DOWN, now)
    box.put(Prepared(missed, long_ago, "Pacific/Auckland", "lost"), DOWN, now)
    async with AsyncStreakClient(stack.supabase_url, stack.secret_key, outbox=path) as client:
        with box.draining() as mine:
            assert mine
            await client.update_user_streak(counted, "UTC", request_id="lost", activity_at=now - timedelta(days=2))
        while await client.drain_outbox():
            pass
    days = "select array_agg(timezone) from public.streak_days where user_id = $1"
    assert (await db.fetchval(days, counted), await db.fetchval(days, missed)) == (["UTC"], ["Pacific/Auckland"])
    assert box.entries(refused=True) == []
    box.close()
