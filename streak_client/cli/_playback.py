"""Plays activities through the client: the old ones as one import, the recent ones one by one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from rich.console import Console

from streak_client.async_client import AsyncStreakClient
from streak_client.cli._activity_file import instant
from streak_client.cli._common import progress_bar
from streak_client.errors import InvalidInputError, StreakError
from streak_client.models import Activity

# Enough to keep the service busy, few enough to leave it room for others. A user's activities share a lane, and so
# act in their order.
LANES = 16
QUEUE = 100


@dataclass(slots=True)
class Played:
    """What a playback did.

    Attributes:
        imported: Activities that went through the import.
        live: Activities that were counted one by one.
        refused: Users whose activities were refused, with the reason.
        failed: The fault of the service that ended the playback, if one did.
    """

    imported: int = 0
    live: int = 0
    refused: dict[UUID, StreakError] = field(default_factory=dict)
    failed: StreakError | None = None


async def play(
    client: AsyncStreakClient, old: Sequence[Activity], recent: Sequence[Activity], speed: float, console: Console
) -> Played:
    """Import the old activities, then play the recent ones.

    Args:
        client: Counts them.
        old: For the import.
        recent: To be played, oldest first.
        speed: Seconds of activity that pass in one second; 0 leaves out all waiting.
        console: Where progress is shown.

    Returns:
        What was done, and for whom it could not be.

    Raises:
        StreakError: The service failed.
    """
    played = Played()
    with progress_bar(console) as bars:
        if old:
            bar = bars.add_task("Importing history", total=len(old), note="")
            summary = await client.import_activity(old, progress=lambda done, _: bars.update(bar, completed=done))
            played.refused = dict(summary.refused)
            played.imported = sum(UUID(str(activity.user_id)) not in played.refused for activity in old)
        if recent:
            bar = bars.add_task("Playing recent days live", total=len(recent), note="")

            def advance(activity: Activity) -> None:
                bars.update(bar, advance=1, note=f"{instant(activity):%a %d %b %H:%M}")

            await _play_live(client, recent, speed, played, advance)
    return played


async def _play_live(
    client: AsyncStreakClient,
    recent: Sequence[Activity],
    speed: float,
    played: Played,
    advance: Callable[[Activity], None],
) -> None:
    lanes = [asyncio.Queue[Activity | None](QUEUE) for _ in range(LANES)]
    workers = [asyncio.create_task(_work(client, lane, played, advance)) for lane in lanes]
    try:
        await _schedule(recent, lanes, speed)
        await asyncio.gather(*workers)
    finally:
        for worker in workers:
            worker.cancel()
    if played.failed is not None:
        raise played.failed


async def _schedule(recent: Sequence[Activity], lanes: Sequence[asyncio.Queue[Activity | None]], speed: float) -> None:
    clock = asyncio.get_running_loop().time
    began, first = clock(), instant(recent[0])
    for activity in recent:
        if speed:
            due = began + (instant(activity) - first).total_seconds() / speed
            await asyncio.sleep(max(0.0, due - clock()))
        await lanes[hash(activity.user_id) % len(lanes)].put(activity)
    for lane in lanes:
        await lane.put(None)


async def _work(
    client: AsyncStreakClient,
    lane: asyncio.Queue[Activity | None],
    played: Played,
    advance: Callable[[Activity], None],
) -> None:
    while (activity := await lane.get()) is not None:
        if played.failed is not None:
            continue  # the lanes must still be emptied, or their feeder would wait for ever
        try:
            await client.update_user_streak(
                activity.user_id, activity.timezone, activity_at=activity.activity_at, request_id=activity.request_id
            )
        except InvalidInputError as error:
            played.refused[UUID(str(activity.user_id))] = error
        except StreakError as error:
            played.failed = error
        else:
            played.live += 1
        advance(activity)
