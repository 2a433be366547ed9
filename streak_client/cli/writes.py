"""``streaks update``, ``import``, ``recover`` and ``outbox``."""

from __future__ import annotations

from datetime import UTC, date, datetime
from pathlib import Path

import click

from streak_client._outbox import Outbox
from streak_client.cli._activity_file import read_activity
from streak_client.cli._common import CommandError, compact_table, messages, output, progress_bar
from streak_client.cli._options import day, instant, json_option, print_json
from streak_client.client import StreakClient
from streak_client.models import StreakUpdate

SHOWN = 5


@click.command()
@click.argument("user", metavar="USER")
@click.option("--timezone", help="The IANA zone that USER is in; the stored one by default.")
@click.option("--at", "activity_at", type=instant, help="When, with offset; at most 7 days ago. Now by default.")
@click.option("--request-id", help="Calls with the same id count once.")
@json_option
def update(
    user: str, timezone: str | None, activity_at: datetime | None, request_id: str | None, as_json: bool
) -> None:
    """Count an activity of USER."""
    with StreakClient.from_env() as client:
        answer = client.update_user_streak(user, timezone, request_id=request_id, activity_at=activity_at)
    _print_update(answer, as_json=as_json)


@click.command()
@click.argument("user", metavar="USER")
@click.option("--from", "first", type=day, required=True, help="The first missed day.")
@click.option("--to", "last", type=day, help="The last missed day; the first one by default.")
@click.option("--reason", required=True, help="Why, for the audit trail.")
@json_option
def recover(user: str, first: date, last: date | None, reason: str, as_json: bool) -> None:
    """Enter missed days of USER as repaired, so that the streak goes on."""
    with StreakClient.from_env() as client:
        answer = client.recover_user_streak(user, first, last or first, reason)
    _print_update(answer, as_json=as_json)


@click.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def import_file(file: Path) -> None:
    """Enter the activities of FILE, of any age, in bulk; importing it again changes nothing.

    FILE is a CSV file with the columns user_id, occurred_at and timezone.
    """
    activities = read_activity(file, datetime.now(UTC))
    with StreakClient.from_env() as client, progress_bar(messages()) as bars:
        bar = bars.add_task("Importing", total=len(activities), note="")
        summary = client.import_activity(activities, progress=lambda done, _: bars.update(bar, completed=done))
    output().print(f"{summary.events} activities: {summary.days_added} days added for {summary.users} people.")
    if summary.refused:
        some = list(summary.refused.items())[:SHOWN]
        lines = [
            f"{len(summary.refused)} people were refused:",
            *(f"  {user}: {error.message}" for user, error in some),
        ]
        raise CommandError("\n".join(lines))


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--drain", is_flag=True, help="Send what waits now.")
@click.option("--refused", is_flag=True, help="Show what the database refused instead of what waits.")
def outbox(file: Path, drain: bool, refused: bool) -> None:
    """Look into FILE, the outbox of a client, and send what waits there."""
    if drain:
        with StreakClient.from_env(outbox=file) as client:
            client.drain_outbox()
    box = Outbox(file)
    entries = box.entries(refused=refused)
    table = compact_table("queued (UTC)", "user", "activity at (UTC)", "zone", "attempts", "last error")
    for entry in entries:
        times = [f"{moment:%Y-%m-%d %H:%M:%S}" for moment in (entry.queued_at, entry.activity_at)]
        table.add_row(times[0], str(entry.user_id), times[1], entry.timezone or "", str(entry.attempts), entry.error)
    if entries:
        output().print(table)
    waiting = box.depth()
    box.close()
    output().print(f"{waiting} waiting.")
    if drain and waiting:
        raise CommandError("Not everything could be sent.")


def _print_update(answer: StreakUpdate, *, as_json: bool) -> None:
    if as_json:
        print_json([answer])
    else:
        output().print(answer.message, markup=False)
        output().print(
            f"current {answer.current_streak}, longest {answer.longest_streak} [{answer.change_type}]", markup=False
        )
