"""``streaks update``, ``import``, ``recover`` and ``outbox``."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, date, datetime
from pathlib import Path

import click

from streak_client._outbox import Outbox
from streak_client._outbox_store import OutboxEntry
from streak_client.cli._activity_file import read_activity
from streak_client.cli._common import CommandError, compact_table, messages, output, progress_bar
from streak_client.cli._options import OutboxLocation, day, instant, json_option, print_json, print_objects
from streak_client.client import StreakClient
from streak_client.models import ImportSummary, StreakUpdate

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
@json_option
def import_file(file: Path, as_json: bool) -> None:
    """Enter the activities of FILE, of any age, in bulk; importing it again changes nothing.

    FILE is a CSV file with the columns user_id, occurred_at and timezone.
    """
    activities = read_activity(file, datetime.now(UTC))
    with StreakClient.from_env() as client, progress_bar(messages()) as bars:
        bar = bars.add_task("Importing", total=len(activities), note="")
        summary = client.import_activity(activities, progress=lambda done, _: bars.update(bar, completed=done))
    if as_json:
        print_objects([_summary_object(summary)])
    else:
        output().print(f"{summary.events} activities: {summary.days_added} days added for {summary.users} people.")
    if summary.refused:
        some = list(summary.refused.items())[:SHOWN]
        lines = [
            f"{len(summary.refused)} people were refused:",
            *(f"  {user}: {error.message}" for user, error in some),
        ]
        raise CommandError("\n".join(lines))


@click.command()
@click.argument("location", type=OutboxLocation(), envvar="STREAKS_OUTBOX")
@click.option("--drain", is_flag=True, help="Send what waits now.")
@click.option("--refused", is_flag=True, help="Show what the database refused instead of what waits.")
@click.option("--retry-refused", is_flag=True, help="Let what was refused wait again, before anything is sent.")
@click.option("--limit", default=1000, show_default=True, type=click.IntRange(1), help="The most entries to show.")
@json_option
def outbox(  # noqa: PLR0913 - options
    *, location: str, drain: bool, refused: bool, retry_refused: bool, limit: int, as_json: bool
) -> None:
    """Look into LOCATION, the outbox of a client, and send what waits there.

    LOCATION is a file, or the URL of a Redis. A URL with a password is best given as STREAKS_OUTBOX: other users of
    this machine can read arguments. With --json each entry is one object a line; the exit status tells the rest.
    """
    if retry_refused:
        _retry_refused(location)
    if drain:
        with StreakClient.from_env(outbox=location) as client:
            client.drain_outbox()
    with closing(Outbox(location)) as box:
        entries, waiting = box.entries(limit, refused=refused), box.depth()
    if as_json:
        print_objects(entry.as_dict() for entry in entries)
    else:
        _print_entries(entries, waiting)
    if drain and waiting:
        raise CommandError("Not everything could be sent.")


def _retry_refused(location: str) -> None:
    with closing(Outbox(location)) as box:
        count = box.retry_refused()
    messages().print(f"{count} refused activities wait again.")


def _print_entries(entries: Sequence[OutboxEntry], waiting: int) -> None:
    table = compact_table("queued (UTC)", "user", "activity at (UTC)", "zone", "attempts", "last error")
    for entry in entries:
        times = [f"{moment:%Y-%m-%d %H:%M:%S}" for moment in (entry.queued_at, entry.activity_at)]
        table.add_row(times[0], str(entry.user_id), times[1], entry.timezone or "", str(entry.attempts), entry.error)
    if entries:
        output().print(table)
    output().print(f"{waiting} waiting.")


def _summary_object(summary: ImportSummary) -> dict[str, object]:
    refused = {str(user): {"code": error.code, "message": error.message} for user, error in summary.refused.items()}
    counts = {"events": summary.events, "users": summary.users, "days_added": summary.days_added}
    return {**counts, "refused": refused}


def _print_update(answer: StreakUpdate, *, as_json: bool) -> None:
    if as_json:
        print_json([answer])
    else:
        output().print(answer.message, markup=False)
        output().print(
            f"current {answer.current_streak}, longest {answer.longest_streak} [{answer.change_type}]", markup=False
        )
