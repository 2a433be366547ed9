"""`docs/growth/queue.sql`: activities through a queue, counted once whatever fails."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest

from tests.support.crowd import assert_sound
from tests.support.database import execute
from tests.support.migrated import Connection, sign_up

QUEUE = Path(__file__).parents[2] / "docs" / "growth" / "queue.sql"
PGMQ = Path(__file__).with_name("pgmq.sql")
TAKE = "select * from private.take_streak_queue($1, $2)"
WAITING = "select count(*) from pgmq.q_streak_activity"
KEPT = "select message from pgmq.a_streak_activity order by msg_id"


@pytest.fixture
def queue_database(own_database: str) -> str:
    """A migrated database with the queue."""
    asyncio.run(execute(own_database, PGMQ.read_text(encoding="utf-8"), QUEUE.read_text(encoding="utf-8")))
    return own_database


def message(user: UUID, at: datetime, request_id: str) -> dict[str, Any]:
    """A message as a producer sends it."""
    return {"user_id": str(user), "activity_at": at.isoformat(), "timezone": "UTC", "request_id": request_id}


async def one_row(db: Connection, query: str, *arguments: Any) -> asyncpg.Record:
    """Run a query that answers with a row."""
    row = await db.fetchrow(query, *arguments)
    assert row is not None
    return row


async def send(db: Connection, messages: Sequence[dict[str, Any]]) -> None:
    """Send messages."""
    texts = [json.dumps(one) for one in messages]
    await db.execute("select pgmq.send('streak_activity', m::jsonb) from unnest($1::text[]) m", texts)


async def test_consumers_side_by_side_count_everything_once(queue_database: str) -> None:
    """Four consumers, one of which dies in every other transaction, count each of 3,000 activities exactly once."""
    now = datetime.now(UTC)
    db = await asyncpg.connect(queue_database)
    ids = await sign_up(db, 500)
    days = [now - timedelta(days=ago) for ago in (2, 1, 0)]
    sent = [message(user, at, f"{at.date()}") for at in days for user in ids]
    await send(db, [*sent, *sent])  # a producer that did not hear the answer sends again

    async def consume(*, dies: bool) -> int:
        counted, rounds = 0, 0
        consumer = await asyncpg.connect(queue_database)
        try:
            while await consumer.fetchval(WAITING):
                rounds += 1
                transaction = consumer.transaction()
                await transaction.start()
                row = await one_row(consumer, TAKE, 100, 30)
                if dies and rounds % 2:
                    await transaction.rollback()
                else:
                    await transaction.commit()
                    counted += row["counted"]
        finally:
            await consumer.close()
        return counted

    try:
        async with asyncio.timeout(120):
            counted = await asyncio.gather(*(consume(dies=dies) for dies in (True, False, False, False)))
        assert sum(counted) == len(sent) * 2
        assert await db.fetchval("select count(*) from public.streak_days") == len(sent)
        assert await db.fetchval("select count(*) from public.streak_history") == len(sent)
        assert await db.fetchval("select min(run_length) from public.user_streaks") == 3
        assert await db.fetch(KEPT) == []
        await assert_sound(db, ids)
    finally:
        await db.close()


async def test_reading_at_least_once_counts_once(queue_database: str) -> None:
    """A consumer outside the database that counts and dies before it deletes makes the next one get replays."""
    db = await asyncpg.connect(queue_database)
    try:
        (user,) = await sign_up(db, 1)
        await send(db, [message(user, datetime.now(UTC), "one")])
        for replayed in (False, True):
            read = await one_row(db, "select * from pgmq.read('streak_activity', 0, 10)")
            body = json.loads(read["message"])
            answer = await one_row(
                db,
                "select * from public.update_user_streak_atomic($1, $2, $3, $4)",
                UUID(body["user_id"]),
                body["timezone"],
                body["request_id"],
                datetime.fromisoformat(body["activity_at"]),
            )
            assert (answer["change_type"], answer["replayed"]) == ("FIRST_ACTIVITY", replayed)
        assert await db.fetchval("select version from public.user_streaks where user_id = $1", user) == 1
    finally:
        await db.close()


async def test_bad_messages_are_kept_and_stop_nobody(queue_database: str) -> None:
    """What cannot be counted goes to the queue's archive; what lies behind it is counted in the same transaction."""
    db = await asyncpg.connect(queue_database)
    try:
        (user,) = await sign_up(db, 1)
        now = datetime.now(UTC)
        bad: list[dict[str, Any]] = [
            {"user_id": "nobody", "activity_at": now.isoformat()},
            {"user_id": str(user), "activity_at": "yesterday-ish"},
            {"user_id": str(user)},
            {},
            message(uuid4(), now, "a stranger's"),
            message(user, now + timedelta(hours=1), "the future's"),
            message(user, now - timedelta(days=8), "too old"),
        ]
        await send(db, [*bad, message(user, now, "good")])
        row = await one_row(db, TAKE, 1000, 30)
        assert tuple(row) == (8, 1, 7)
        assert [json.loads(one["message"]) for one in await db.fetch(KEPT)] == bad
        assert await db.fetchval(WAITING) == 0
        assert await db.fetchval("select run_length from public.user_streaks where user_id = $1", user) == 1
    finally:
        await db.close()


async def test_the_procedure_empties_the_queue(queue_database: str) -> None:
    """One call of the procedure that pg_cron runs takes all that waits, a thousand a transaction."""
    db = await asyncpg.connect(queue_database)
    try:
        ids = await sign_up(db, 2_500)
        await send(db, [message(user, datetime.now(UTC), "one") for user in ids])
        await db.execute("call private.drain_streak_queue()")
        assert await db.fetchval(WAITING) == 0
        assert await db.fetchval("select count(*) from public.user_streaks") == len(ids)
        assert await db.fetchval("select count(distinct xmin::text) from public.user_streaks") == 3
    finally:
        await db.close()
