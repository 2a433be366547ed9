"""``streaks leaderboard``, ``history`` and ``calendar``."""

from __future__ import annotations

from calendar import day_abbr
from collections.abc import Mapping
from datetime import UTC, date, datetime

import click
from rich.text import Text

from streak_client.cli._common import compact_table, output
from streak_client.cli._options import day, json_option, print_json
from streak_client.client import StreakClient
from streak_client.models import CalendarDay, DayKind, LeaderboardOrder

WEEK = 7
YEAR = 365
_SHADES = {DayKind.ACTIVE: "green", DayKind.REPAIRED: "cyan", DayKind.SKIPPED: "bright_black"}


@click.command()
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 1000), help="The most places to show.")
@click.option("--offset", default=0, type=click.IntRange(0), help="How many places to skip.")
@click.option("--longest", is_flag=True, help="Order by the longest streaks ever instead of the current ones.")
@json_option
def leaderboard(limit: int, offset: int, longest: bool, as_json: bool) -> None:
    """Show the best streaks."""
    order = LeaderboardOrder.LONGEST_STREAK if longest else LeaderboardOrder.CURRENT_STREAK
    with StreakClient.from_env() as client:
        entries = client.get_leaderboard(limit, offset, order)
    if as_json:
        print_json(entries)
        return
    table = compact_table("#", "user", "current", "longest", "last active", "today")
    for entry in entries:
        numbers = (str(entry.current_streak), str(entry.longest_streak))
        today = "yes" if entry.is_active_today else ""
        table.add_row(str(entry.rank), str(entry.user_id), *numbers, str(entry.last_active_date or ""), today)
    output().print(table)


@click.command()
@click.argument("user", metavar="USER")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 1000), help="The most changes to show.")
@json_option
def history(user: str, limit: int, as_json: bool) -> None:
    """Show why the streak of USER is what it is: its latest changes, newest first."""
    with StreakClient.from_env() as client:
        entries = client.get_history(user, limit)
    if as_json:
        print_json(entries)
        return
    table = compact_table("written (UTC)", "change", "day", "zone", "current", "longest", "version", "reason")
    for entry in entries:
        table.add_row(
            f"{entry.created_at.astimezone(UTC):%Y-%m-%d %H:%M}",
            entry.change_type,
            str(entry.activity_date),
            entry.timezone,
            f"{entry.old_current_streak} > {entry.new_current_streak}",
            f"{entry.old_longest_streak} > {entry.new_longest_streak}",
            str(entry.version_after),
            entry.reason or "",
        )
    output().print(table)


@click.command()
@click.argument("user", metavar="USER")
@click.option("--from", "first", type=day, help="The first day; a year before the last by default.")
@click.option("--to", "last", type=day, help="The last day; today (UTC) by default.")
@json_option
def calendar(user: str, first: date | None, last: date | None, as_json: bool) -> None:
    """Show the days that count for USER: a year as a heat map."""
    last = last or datetime.now(UTC).date()
    first = first or date.fromordinal(max(1, last.toordinal() - YEAR))  # the calendar begins with the year 1
    with StreakClient.from_env() as client:
        days = client.get_calendar(user, first, last)
    if as_json:
        print_json(days)
    else:
        output().print(heat_map({day.day: day for day in days}, first, last))


def heat_map(days: Mapping[date, CalendarDay], first: date, last: date) -> Text:
    """Draw days as a map with a row per weekday and a column per week.

    Args:
        days: The days that count.
        first: The first day of the map.
        last: The last day of the map.

    Returns:
        The map, with the months above and what the colours mean below.
    """
    shown = range(first.toordinal(), last.toordinal() + 1)
    # By number: the last week of the map may go beyond the last day that there is.
    mondays = range(shown.start - first.weekday(), shown.stop, WEEK)
    text = Text("    ")
    for monday in mondays:
        start = date.fromordinal(monday)
        text.append(f"{start:%b} "[:2] if start.day <= WEEK else "  ", "dim")
    for weekday, name in enumerate(day_abbr):
        text.append(f"\n{name} ", "dim")
        for number in (monday + weekday for monday in mondays):
            text.append_text(_cell(days.get(date.fromordinal(number))) if number in shown else Text("  "))
    counting = sum(day.kind is not DayKind.SKIPPED for day in days.values())
    text.append(f"\n\n{counting} days  ")
    for kind, colour in _SHADES.items():
        text.append("■", colour).append(f" {kind}  ", "dim")
    return text


def _cell(day: CalendarDay | None) -> Text:
    return Text("· ", "bright_black") if day is None else Text("■ ", _SHADES[day.kind])
