"""Reads on a real streaming replica, and how old they may be."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import asyncpg
import pytest

from local_supabase.stack import StackInfo
from streak_client import AsyncStreakClient, InvalidInputError, StreakClient, StreakError
from streak_client.replicas import AsyncReplicaReader, ReplicaReader
from tests.growth.standby import Standby, standby

NewUser = Callable[[], Awaitable[UUID]]


@dataclass(frozen=True)
class Pair:
    """A primary and a replica that has all that the primary has."""

    info: StackInfo
    standby: Standby
    primary: AsyncStreakClient
    replica: AsyncStreakClient
    user: UUID


@pytest.fixture
async def pair(stack: StackInfo, db: asyncpg.Connection[asyncpg.Record], new_user: NewUser) -> AsyncIterator[Pair]:
    """Both, and a user with a streak of one day."""
    user = await new_user()
    async with (
        standby(stack) as made,
        AsyncStreakClient(stack.supabase_url, stack.secret_key) as primary,
        AsyncStreakClient(made.supabase_url, stack.secret_key, caching=None, max_retries=0) as replica,
    ):
        await primary.update_user_streak(user, "UTC", activity_at=datetime.now(UTC) - timedelta(days=1))
        await made.catch_up(db)
        yield Pair(stack, made, primary, replica, user)


async def test_reads_go_to_the_replica_unless_it_is_behind(pair: Pair, db: asyncpg.Connection[asyncpg.Record]) -> None:
    """The replica answers whatever it is new enough for; what is older than was seen comes from the primary."""
    reader = AsyncReplicaReader(pair.primary, pair.replica)
    assert (await reader.get_user_streak(pair.user)).version == 1
    assert (reader.counts.replica, reader.counts.behind) == (1, 0)

    await pair.standby.pause()
    result = await pair.primary.update_user_streak(pair.user, "UTC")
    assert (await pair.replica.get_user_streak(pair.user)).current_streak == 1, "the replica is not behind"
    stale = await reader.get_user_streak(pair.user)  # nobody has told the reader of more
    assert (stale.version, reader.counts.behind) == (1, 0)
    fresh = await reader.get_user_streak(pair.user, min_version=result.version)
    assert (fresh.version, fresh.current_streak, reader.counts.behind) == (result.version, 2, 1)
    reader.seen(pair.user, result.version)
    assert (await reader.get_user_streak(pair.user)).version == result.version
    assert reader.counts.behind == 2

    def in_a_thread() -> tuple[int, int]:
        with (
            StreakClient(pair.info.supabase_url, pair.info.secret_key) as primary,
            StreakClient(pair.standby.supabase_url, pair.info.secret_key, caching=None) as replica,
        ):
            reader = ReplicaReader(primary, replica)
            first = reader.get_user_streak(pair.user)
            reader.seen(str(pair.user), result.version)
            return first.version, reader.get_user_streak(pair.user).version

    assert await asyncio.to_thread(in_a_thread) == (1, result.version)

    await pair.standby.catch_up(db)
    assert (await reader.get_user_streak(pair.user)).version == result.version
    assert (reader.counts.replica, reader.counts.behind) == (3, 2)


async def test_every_read_works_on_the_replica_and_no_write(pair: Pair, db: asyncpg.Connection[asyncpg.Record]) -> None:
    """All functions that read answer on a replica as on the primary; a write there is refused and changes nothing."""
    today = datetime.now(UTC).date()
    for client in (pair.primary, pair.replica):
        streaks = await client.get_user_streaks([pair.user])
        assert streaks[pair.user].version == 1
        days = await client.get_calendar(pair.user, today - timedelta(days=7), today)
        assert len(days) == 1
        assert pair.user in {entry.user_id for entry in await client.get_leaderboard(1000)}
        assert len(await client.get_history(pair.user)) == 1
    with pytest.raises(StreakError):
        await pair.replica.update_user_streak(pair.user, "UTC")
    assert await db.fetchval("select version from public.user_streaks where user_id = $1", pair.user) == 1


async def test_a_replica_that_is_away_costs_no_answer(stack: StackInfo, new_user: NewUser) -> None:
    """Without the replica the primary answers; bad input and a deleted row are what they are."""
    user = await new_user()
    async with (
        AsyncStreakClient(stack.supabase_url, stack.secret_key, caching=None) as primary,
        AsyncStreakClient("http://127.0.0.1:9", stack.secret_key, caching=None, max_retries=0) as nobody,
    ):
        reader = AsyncReplicaReader(primary, nobody)
        await primary.update_user_streak(user, "UTC")
        assert (await reader.get_user_streak(user)).version == 1
        assert reader.counts.failed == 1
        with pytest.raises(InvalidInputError, match="version"):
            await reader.get_user_streak(user, min_version=-1)
        with pytest.raises(InvalidInputError) as refused:
            reader.seen("nobody", 1)
        assert refused.value.field == "user_id"

        again = AsyncReplicaReader(primary, primary)  # a replica without any lag
        stranger = uuid4()
        again.seen(stranger, 5)
        assert [(await again.get_user_streak(stranger)).version for _ in range(2)] == [0, 0]
        assert (again.counts.behind, again.counts.replica) == (1, 1), "the primary's word was not taken"
