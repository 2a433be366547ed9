"""``streaks explain``."""

from __future__ import annotations

from datetime import UTC

import click

from streak_client.cli._common import compact_table, output
from streak_client.cli._options import json_option, print_json
from streak_client.client import StreakClient
from streak_client.models import HistoryEntry

RULES = {
    2: "the ledger, as an operator, an import or a rebuild left it",
    3: "what one activity does",
    6: "the zone",
    7: "the lapse",
}


@click.command()
@click.argument("user", metavar="USER")
@json_option
def explain(user: str, as_json: bool) -> None:
    """Say why the streak of USER is what it is, and why the one before broke.

    In plain words: its days, its zone, when it lapses.
    """
    with StreakClient.from_env() as client:
        found = client.explain_user_streak(user)
    if as_json:
        print_json([found])
        return
    output().print(f"current {found.current_streak}, longest {found.longest_streak}", markup=False)
    output().print(f"decided by rule {found.rule}: {RULES.get(found.rule, 'see the documentation')}", markup=False)
    for sentence in found.explanation:
        output().print(f"- {sentence}", markup=False)
    _print_history(found.history)


def _print_history(entries: tuple[HistoryEntry, ...]) -> None:
    if not entries:
        return
    table = compact_table("written (UTC)", "change", "day", "zone", "current", "reason")
    for entry in entries:
        table.add_row(
            f"{entry.created_at.astimezone(UTC):%Y-%m-%d %H:%M}",
            entry.change_type,
            str(entry.activity_date),
            entry.timezone,
            f"{entry.old_current_streak} > {entry.new_current_streak}",
            entry.reason or "",
        )
    output().print(table)
