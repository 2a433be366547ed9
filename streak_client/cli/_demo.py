"""The demo: real activity of 275 people, its last day played live through client, RPC, Realtime and bridge."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from uuid import UUID

from rich.table import Table

from streak_client.async_client import AsyncStreakClient
from streak_client.cli._activity_file import demo_file, move_to_present, read_activity, split_by_age
from streak_client.cli._common import messages, output
from streak_client.cli._listeners import Ears, listening
from streak_client.cli._playback import Played, play
from streak_client.cli._users import create_users
from streak_client.models import LeaderboardEntry, LeaderboardOrder

if TYPE_CHECKING:
    from local_supabase.stack import StackInfo
    from realtime_bridge import ServedBridge

TOP = 8
# Everybody in the data acts in the last day, so that every change shows a streak that is alive.
LIVE_AGE = timedelta(days=1)
# Longer than any debouncing, and than the bridge's slow reconciliation, which mends what Realtime leaves out.
PATIENCE = 60.0


async def run_demo(stack: StackInfo, served: ServedBridge, speed: float) -> None:
    """Play the demo and show what came of it.

    Args:
        stack: The running stack.
        served: The running bridge.
        speed: Seconds of activity played in one second; 0 is as fast as possible.

    Raises:
        StreakError: The service failed.
    """
    now = datetime.now(UTC)
    activities = move_to_present(read_activity(demo_file(), now), now)
    people = list(dict.fromkeys(UUID(str(activity.user_id)) for activity in activities))
    await create_users(stack.database_url, people)
    async with (
        AsyncStreakClient(stack.supabase_url, stack.secret_key) as client,
        listening(served.bridge, served.url, stack.secret_key) as ears,
    ):
        played = await play(client, *split_by_age(activities, now, LIVE_AGE), speed, messages())
        versions = {user_id: streak.version for user_id, streak in (await client.get_user_streaks(people)).items()}
        await _catch_up(ears, versions)
        current = await client.get_leaderboard(TOP)
        longest = await client.get_leaderboard(TOP, order_by=LeaderboardOrder.LONGEST_STREAK)
        _report(played, (current, longest), ears, versions)


async def _catch_up(ears: Sequence[Ears], versions: Mapping[UUID, int]) -> None:
    try:
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*(listener.catch_up(versions) for listener in ears))
    except TimeoutError:
        pass  # the table shows what is missing


def _report(
    played: Played,
    boards: tuple[Sequence[LeaderboardEntry], Sequence[LeaderboardEntry]],
    ears: Sequence[Ears],
    versions: Mapping[UUID, int],
) -> None:
    console = output()
    current, longest = boards
    console.print(_board("Best current streaks", current), _board("Longest streaks ever", longest))
    heard = Table("listener", "changes received", "people", "missing", title="Listeners", title_justify="left")
    for listener in ears:
        numbers = (listener.changes, len(listener.versions), listener.missing(versions))
        heard.add_row(listener.name, *(f"{number:,}" for number in numbers))
    console.print(heard)
    console.print(
        f"{len(versions)} people, {played.imported + played.live:,} activities: {played.imported:,} imported, "
        f"{played.live:,} played live; listeners received {sum(listener.changes for listener in ears):,} changes, "
        f"{sum(listener.missing(versions) for listener in ears)} missing.",
        soft_wrap=True,
    )


def _board(title: str, entries: Sequence[LeaderboardEntry]) -> Table:
    table = Table("#", "user", "current", "longest", "last active", title=title, title_justify="left")
    for entry in entries:
        name = str(entry.user_id).partition("-")[0]
        table.add_row(
            str(entry.rank), name, str(entry.current_streak), str(entry.longest_streak), str(entry.last_active_date)
        )
    return table
