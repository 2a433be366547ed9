"""``streaks show``: one user's streak."""

from __future__ import annotations

import click
from rich.table import Table

from streak_client.cli._common import output
from streak_client.client import StreakClient
from streak_client.models import UserStreak


@click.command()
@click.argument("user", metavar="USER")
@click.option("--json", "as_json", is_flag=True, help="Print the streak as one JSON object.")
def show(user: str, as_json: bool) -> None:
    """Show the streak of USER (a user id) as it counts at this moment."""
    with StreakClient.from_env() as client:
        streak = client.get_user_streak(user)
    if as_json:
        click.echo(streak.model_dump_json())
    else:
        console = output()
        # As a table's title it would be wrapped to the table's width.
        console.print(str(streak.user_id), soft_wrap=True)
        console.print(streak_table(streak))


def streak_table(streak: UserStreak) -> Table:
    """Lay out one streak.

    Args:
        streak: The streak.

    Returns:
        A table of two columns.
    """
    table = Table(show_header=False)
    for name, value in (
        ("current streak", f"{streak.current_streak} days"),
        ("longest streak", f"{streak.longest_streak} days"),
        ("last active", "never" if streak.last_active_date is None else _last_active(streak)),
        ("active today", "yes" if streak.is_active_today else "no"),
        ("lapses", "" if streak.expires_at is None else f"{streak.expires_at:%Y-%m-%d %H:%M} UTC"),
        ("time zone", streak.timezone),
        ("version", str(streak.version)),
    ):
        table.add_row(name, value)
    return table


def _last_active(streak: UserStreak) -> str:
    days = streak.days_since_activity or 0
    ago = {0: "today", 1: "yesterday"}.get(days, f"{days} days ago")
    return f"{streak.last_active_date} ({ago})"
