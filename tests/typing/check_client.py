"""What a type checker must see of the client; mypy runs over this file, nothing else does."""

from collections.abc import AsyncIterator, Iterator
from datetime import date, datetime
from typing import assert_type
from uuid import UUID
from zoneinfo import ZoneInfo

from streak_client import (
    Activity,
    ActivityOutcome,
    AsyncStreakClient,
    CacheInfo,
    Caching,
    CalendarDay,
    ChangeType,
    DayKind,
    ErrorCode,
    Gathering,
    HistoryEntry,
    ImportSummary,
    InvalidInputError,
    LeaderboardEntry,
    Outbox,
    OutboxEntry,
    ProblemSolved,
    RateLimit,
    StreakClient,
    StreakError,
    StreakUpdate,
    UserStreak,
)


def sync_client(client: StreakClient, user: UUID, day: date, at: datetime) -> None:
    """Every method of the sync client has a precise answer."""
    with client as entered:
        assert_type(entered, StreakClient)
    assert_type(StreakClient.from_env(), StreakClient)
    assert_type(client.update_user_streak(str(user), ZoneInfo("Europe/Paris"), activity_at=at), StreakUpdate)
    assert_type(client.update_user_streaks([Activity(user)]), list[ActivityOutcome])
    assert_type(client.get_user_streak(user), UserStreak)
    assert_type(client.get_user_streaks({user}), dict[UUID, UserStreak])
    assert_type(client.get_leaderboard(10, order_by="longest_streak"), list[LeaderboardEntry])
    assert_type(client.iter_leaderboard(), Iterator[LeaderboardEntry])
    assert_type(client.get_history(user), list[HistoryEntry])
    assert_type(client.iter_history(user), Iterator[HistoryEntry])
    assert_type(client.get_calendar(user, day, day), list[CalendarDay])
    assert_type(client.recover_user_streak(user, day, day, "ill"), StreakUpdate)
    assert_type(client.handle_problem_solved(user), ProblemSolved)
    assert_type(client.drain_outbox(), int)
    assert_type(client.import_activity(iter([Activity(user, at)]), progress=print), ImportSummary)


async def async_client(client: AsyncStreakClient, user: UUID, day: date, at: datetime) -> None:
    """Every method of the async client has the same answer, awaited."""
    async with client as entered:
        assert_type(entered, AsyncStreakClient)
    assert_type(AsyncStreakClient.from_env(), AsyncStreakClient)
    assert_type(await client.update_user_streak(user, "Europe/Paris", request_id="r"), StreakUpdate)
    assert_type(await client.update_user_streaks([Activity(user)]), list[ActivityOutcome])
    assert_type(await client.get_user_streak(str(user)), UserStreak)
    assert_type(await client.get_user_streaks([user]), dict[UUID, UserStreak])
    assert_type(await client.get_leaderboard(), list[LeaderboardEntry])
    assert_type(client.iter_leaderboard(), AsyncIterator[LeaderboardEntry])
    assert_type(await client.get_history(user, before_id=7), list[HistoryEntry])
    assert_type(client.iter_history(user), AsyncIterator[HistoryEntry])
    assert_type(await client.get_calendar(user, day, day), list[CalendarDay])
    assert_type(await client.recover_user_streak(user, day, day, "ill", request_id="r"), StreakUpdate)
    assert_type(await client.handle_problem_solved(user), ProblemSolved)
    assert_type(await client.drain_outbox(), int)
    assert_type(await client.import_activity([Activity(user, at)], chunk_size=5), ImportSummary)


def stores(url: str, box: Outbox) -> None:
    """Stores are given by URL, and what they tell is typed."""
    client = StreakClient(
        url, "key", outbox=url, caching=Caching(store=url), rate_limit=RateLimit(store=url), gathering=Gathering()
    )
    assert_type(client.cache_info(), CacheInfo)
    assert_type(client.cache_info().failures, int)
    assert_type(client.outbox_depth(), int)
    assert_type(box.entries(refused=True), list[OutboxEntry])
    assert_type(box.due_in(), float | None)
    StreakClient.from_env(outbox=7)  # type: ignore[arg-type]
    Caching(store=7)  # type: ignore[arg-type]


def models(update: StreakUpdate, streak: UserStreak, day: CalendarDay, outcome: ActivityOutcome) -> None:
    """Fields are dates, aware instants, UUIDs and enumerations, not strings."""
    assert_type(update.last_active_date, date)
    assert_type(update.expires_at, datetime)
    assert_type(update.change_type, ChangeType)
    assert_type(streak.user_id, UUID)
    assert_type(streak.last_active_date, date | None)
    assert_type(day.kind, DayKind)
    assert_type(outcome.unwrap(), StreakUpdate)
    assert_type(outcome.error, StreakError | None)


def errors(error: StreakError, invalid: InvalidInputError) -> None:
    """Errors carry typed fields."""
    assert_type(error.code, ErrorCode)
    assert_type(error.retryable, bool)
    assert_type(invalid.field, str | None)


def mistakes(client: StreakClient, streak: UserStreak, user: UUID) -> None:
    """What is wrong is an error for the type checker; an unused ignore would be one too."""
    client.update_user_streak(7)  # type: ignore[arg-type]
    client.update_user_streak(user, activity_at="now")  # type: ignore[arg-type]
    client.update_user_streaks([user])  # type: ignore[list-item]
    streak.current_streak = 9  # type: ignore[misc]
