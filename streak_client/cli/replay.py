"""``streaks replay``: a file of activity, as it is."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import click

from streak_client.async_client import AsyncStreakClient
from streak_client.cli._activity_file import read_activity, split_by_age
from streak_client.cli._common import WRONG_INPUT, CommandError, messages, output
from streak_client.cli._options import FiniteFloat
from streak_client.cli._playback import Played, play
from streak_client.cli._users import create_users
from streak_client.errors import UserNotFoundError
from streak_client.models import Activity
from streak_client.settings import environment

SHOWN = 5


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--speed",
    type=FiniteFloat(0),
    default=0.0,
    show_default=True,
    help="Seconds of activity played in one second, at least 1; 0 is as fast as possible.",
)
@click.option("--create-users", is_flag=True, help="First insert the users who are missing (needs DATABASE_URL).")
def replay(file: Path, speed: float, create_users: bool) -> None:
    """Count the activities of FILE, a CSV file with the columns user_id, occurred_at and timezone.

    What is older than six days goes through the import, the rest is played one by one. Replaying a file again
    changes nothing.
    """
    check_speed(speed)
    now = datetime.now(UTC)
    activities = read_activity(file, now)
    played = asyncio.run(_replay(activities, now, speed, with_users=create_users))
    output().print(
        f"{len(activities)} activities of {len({activity.user_id for activity in activities})} people: "
        f"{played.imported} imported, {played.live} played live."
    )
    if played.refused:
        raise CommandError(_refusals(played), WRONG_INPUT)


async def _replay(activities: Sequence[Activity], now: datetime, speed: float, *, with_users: bool) -> Played:
    if with_users:
        database_url = environment().get("DATABASE_URL")
        if not database_url:
            raise CommandError("--create-users needs DATABASE_URL in the environment or in a .env file.", WRONG_INPUT)
        await create_users(database_url, {activity.user_id for activity in activities})
    async with AsyncStreakClient.from_env() as client:
        return await play(client, *split_by_age(activities, now), speed, messages())


def check_speed(speed: float) -> None:
    """Refuse a speed at which activities would grow too old while they wait for their turn.

    Args:
        speed: Seconds of activity played in one second.

    Raises:
        CommandError: It lies between 0 and 1.
    """
    if 0 < speed < 1:
        raise CommandError("--speed must be 0 or at least 1.", WRONG_INPUT)


def _refusals(played: Played) -> str:
    lines = [f"{len(played.refused)} people's activities were refused; all others are counted."]
    lines += [f"  {user_id}: {error.message} [{error.code}]" for user_id, error in list(played.refused.items())[:SHOWN]]
    if len(played.refused) > SHOWN:
        lines.append("  ...")
    if any(isinstance(error, UserNotFoundError) for error in played.refused.values()):
        lines.append("Unknown users can be made first: --create-users, with DATABASE_URL in the environment or .env.")
    return "\n".join(lines)
