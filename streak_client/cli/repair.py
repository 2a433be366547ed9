"""``streaks repair``: what an outage broke."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

import click

from streak_client._operations import Operator, RepairPlan, RepairProgress, UndoProgress
from streak_client.cli._common import WRONG_INPUT, CommandError, compact_table, messages, output
from streak_client.cli._options import FiniteFloat, instant, json_option, print_json

Progress = TypeVar("Progress", RepairProgress, UndoProgress)


@click.command()
@click.option("--from", "began", type=instant, help="When the outage began, with offset.")
@click.option("--to", "ended", type=instant, help="When it ended; at most 31 days later, and not in the future.")
@click.option("--reason", default="an outage", show_default=True, help="Why, for the audit trail.")
@click.option("--dry-run/--apply", default=True, help="Show what would be done (the default), or do it.")
@click.option("--resume", type=int, metavar="ID", help="Go on with a repair that was interrupted.")
@click.option(
    "--undo", type=int, metavar="ID", help="Take the days of a repair out again; goes on after interruptions."
)
@click.option("--yes", is_flag=True, help="Do not ask before undoing.")
@click.option("--batch", default=100, show_default=True, type=click.IntRange(1, 1000), help="Users in a transaction.")
@click.option("--pause", default=0.1, show_default=True, type=FiniteFloat(0, 60), help="Seconds between batches.")
@click.option("--sample", default=10, show_default=True, type=click.IntRange(0, 1000), help="Users to show.")
@json_option
def repair(  # noqa: PLR0913 - options
    *,
    began: datetime | None,
    ended: datetime | None,
    reason: str,
    dry_run: bool,
    resume: int | None,
    undo: int | None,
    yes: bool,
    batch: int,
    pause: float,
    sample: int,
    as_json: bool,
) -> None:
    """Give back the days that an outage took: a dry run, unless told to --apply.

    They come back where every missing day of a gap was touched by it. Without --apply nothing is written. A repair may
    be interrupted at any time and goes on with --resume; making it again finds nothing left to do.
    """
    if sum((began is not None or ended is not None, resume is not None, undo is not None)) != 1 or (
        (began is None) != (ended is None)
    ):
        raise CommandError("Give --from and --to, or --resume ID, or --undo ID.", WRONG_INPUT)
    if undo is not None and not yes:
        click.confirm(f"Take the days of repair {undo} out of the ledgers again?", abort=True, err=True)
    pace = _Pace(batch, pause)
    with Operator.from_env() as operator:
        if undo is not None:
            _work(operator.undo_repair, undo, pace, "--undo", as_json=as_json)
        elif began is None or ended is None:
            assert resume is not None  # noqa: S101 - one of the three was given
            _work(operator.continue_repair, resume, pace, "--resume", as_json=as_json)
        elif dry_run:
            _show(list(operator.plan_repair(began, ended, sample)), as_json=as_json)
        else:
            started = operator.start_repair(began, ended, reason)
            _work(operator.continue_repair, started, pace, "--resume", as_json=as_json)


@dataclass(frozen=True, slots=True)
class _Pace:
    users: int
    seconds: float


def _work(step: Callable[[int, int], Progress], repair_id: int, pace: _Pace, again: str, *, as_json: bool) -> None:
    console = messages()
    console.print(f"Repair {repair_id}: after an interruption go on with `streaks repair {again} {repair_id}`.")
    while not (progress := step(repair_id, pace.users)).finished:
        console.print(_told(progress), markup=False)
        time.sleep(pace.seconds)
    if as_json:
        print_json([progress])
    else:
        output().print(_told(progress), markup=False)


def _told(progress: RepairProgress | UndoProgress) -> str:
    if isinstance(progress, RepairProgress):
        return f"{progress.users} people repaired, {progress.days} days; {progress.scanned} people looked at."
    return (
        f"{progress.undone_users} people set back, {progress.undone_days} days taken out, "
        f"{progress.kept_days} days kept: they are active now."
    )


def _show(pages: list[RepairPlan], *, as_json: bool) -> None:
    total = RepairPlan(
        scanned=sum(page.scanned for page in pages),
        users=sum(page.users for page in pages),
        days=sum(page.days for page in pages),
        next_after=None,
        sample=tuple(user for page in pages for user in page.sample),
    )
    if as_json:
        print_json([total])
        return
    table = compact_table("user", "first day", "last day")
    for user in total.sample:
        for gap in user.gaps:
            table.add_row(str(user.user_id), str(gap.first_day), str(gap.last_day))
    if total.sample:
        output().print(table)
    output().print(
        f"{total.users} of {total.scanned} people would get {total.days} days. Nothing was written; --apply does it."
    )
