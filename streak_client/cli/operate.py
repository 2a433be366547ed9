"""``streaks undo``, ``merge``, ``export``, ``erase`` and ``archive``."""

from __future__ import annotations

import json
import os
import time
from datetime import date, timedelta
from pathlib import Path

import click

from streak_client._operations import Correction, Operator
from streak_client.cli._common import WRONG_INPUT, CommandError, messages, output
from streak_client.cli._options import FiniteFloat, day, json_option, print_json

LEAST_DAYS = 30


@click.command()
@click.argument("user", metavar="USER")
@click.option("--day", "undone", type=day, required=True, help="The local day, as `streaks calendar` names it.")
@click.option("--reason", required=True, help="Why, for the audit trail.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def undo(user: str, undone: date, reason: str, yes: bool, as_json: bool) -> None:
    """Take a day of USER out of the ledger, as if nothing had counted on it.

    A record that rested on it goes, too.
    """
    if not yes:
        click.confirm(f"Take {undone} from the streak of {user}?", abort=True, err=True)
    with Operator.from_env() as operator:
        _print(operator.undo(user, undone, reason), as_json=as_json)


@click.command()
@click.argument("source", metavar="FROM")
@click.argument("into", metavar="INTO")
@click.option("--reason", required=True, help="Why, for the audit trail.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def merge(source: str, into: str, reason: str, yes: bool, as_json: bool) -> None:
    """Give all days of the user FROM to the user INTO.

    FROM keeps its history and has no streak afterwards.
    """
    if not yes:
        click.confirm(f"Give all days of {source} to {into}? There is no way back.", abort=True, err=True)
    with Operator.from_env() as operator:
        _print(operator.merge(source, into, reason), as_json=as_json)


@click.command()
@click.argument("user", metavar="USER")
@click.option("--output", "file", type=click.Path(dir_okay=False, path_type=Path), help="A new file, for you alone.")
@click.option("--json", "compact", is_flag=True, help="One line instead of many.")
def export(user: str, file: Path | None, compact: bool) -> None:
    """Print all that streaks hold of USER as one JSON document.

    It holds the profile's zone, streak, days, history and repairs.
    """
    with Operator.from_env() as operator:
        document = operator.export(user)
    text = json.dumps(document, indent=None if compact else 2, separators=(",", ":") if compact else None)
    if file is None:
        click.echo(text)
        return
    try:
        # personal data: nobody else may read it, and no file is overwritten
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as target:
            target.write(text + "\n")
    except OSError as error:
        raise CommandError(f"{file}: {error.strerror}", WRONG_INPUT) from None


@click.command()
@click.argument("user", metavar="USER")
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
def erase(user: str, yes: bool, as_json: bool) -> None:
    """Remove all that streaks hold of USER, who stays signed up. An outbox may still hold activities of USER."""
    if not yes:
        click.confirm(f"Erase streak, days and history of {user}? There is no way back.", abort=True, err=True)
    with Operator.from_env() as operator:
        gone = operator.erase(user)
    if as_json:
        print_json([gone])
    else:
        changes = gone.history + gone.archived
        output().print(f"{gone.streaks} streak, {gone.days} days and {changes} changes were erased.", markup=False)


@click.command()
@click.option(
    "--older-than",
    type=click.IntRange(LEAST_DAYS),
    metavar="DAYS",
    help="At least 30; by default what private.history_retention() says, which by default is: none.",
)
@click.option("--remove", is_flag=True, help="Remove them instead of keeping them in streak_history_archive.")
@click.option("--batch", default=1000, show_default=True, type=click.IntRange(1, 100_000), help="Rows a transaction.")
@click.option("--pause", default=0.1, show_default=True, type=FiniteFloat(0, 60), help="Seconds between batches.")
@click.option("--yes", is_flag=True, help="Do not ask before removing.")
@json_option
def archive(  # noqa: PLR0913 - options
    *, older_than: int | None, remove: bool, batch: int, pause: float, yes: bool, as_json: bool
) -> None:
    """Move old history out of the way in batches.

    Ledgers, streaks and each user's latest change stay.
    """
    if remove and not yes:
        click.confirm("Remove old history? There is no way back.", abort=True, err=True)
    age = None if older_than is None else timedelta(days=older_than)
    total, finished = 0, False
    with Operator.from_env() as operator:
        while not finished:
            moved, finished = operator.archive(age, batch, remove=remove)
            total += moved
            if not finished:
                messages().print(f"{total} changes so far")
                time.sleep(pause)
    if as_json:
        click.echo(json.dumps({"archived": total, "removed": remove}, separators=(",", ":")))
    else:
        output().print(f"{total} changes were {'removed' if remove else 'archived'}.", markup=False)


def _print(answer: Correction, *, as_json: bool) -> None:
    if as_json:
        print_json([answer])
        return
    output().print(answer.message, markup=False)
    output().print(
        f"current {answer.current_streak}, longest {answer.longest_streak} [{answer.change_type}]", markup=False
    )
