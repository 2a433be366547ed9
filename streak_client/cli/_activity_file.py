"""Files of activity: CSV with a header ``user_id,occurred_at,timezone``."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib import resources
from pathlib import Path
from uuid import UUID

from streak_client import _inputs
from streak_client.cli._common import WRONG_INPUT, CommandError
from streak_client.errors import InvalidInputError
from streak_client.models import Activity

REQUIRED = ("user_id", "occurred_at")
DAY = timedelta(days=1)
# The database takes activities of up to seven days one by one; the rest of the week is time to play them.
LIVE_AGE = timedelta(days=6)


def demo_file() -> Path:
    """Find the demo's activity.

    Returns:
        The copy inside the installed package, or the original in a checkout.
    """
    packaged = Path(str(resources.files("streak_client"))) / "_data" / "activity.csv"
    return packaged if packaged.is_file() else Path(__file__).parents[2] / "tests" / "data" / "activity.csv"


def read_activity(path: Path, now: datetime) -> list[Activity]:
    """Read a file of activity.

    Args:
        path: A CSV file in UTF-8: user id, ISO 8601 instant with offset, and, where known, IANA zone.
        now: The present instant.

    Returns:
        The activities, oldest first.

    Raises:
        CommandError: The file cannot be read, or a line is wrong; the message names line and field.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            activities = list(_rows(path, csv.DictReader(file), now))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CommandError(f"{path} cannot be read: {error}", WRONG_INPUT) from error
    return sorted(activities, key=instant)


def _rows(path: Path, rows: csv.DictReader[str], now: datetime) -> Iterator[Activity]:
    missing = [name for name in REQUIRED if name not in (rows.fieldnames or ())]
    if missing:
        raise CommandError(
            f"{path}: the first line must name the columns; {', '.join(missing)} is missing", WRONG_INPUT
        )
    for row in rows:
        try:
            yield _activity(row, now)
        except InvalidInputError as error:
            raise CommandError(f"{path}, line {rows.line_num}: {error.message}", WRONG_INPUT) from error


def _activity(row: dict[str, str | None], now: datetime) -> Activity:
    try:
        occurred_at = datetime.fromisoformat(row["occurred_at"] or "")
    except ValueError:
        raise InvalidInputError("occurred_at is no ISO 8601 instant", field="occurred_at") from None
    return Activity(
        user_id=_inputs.user_id(row["user_id"]),
        activity_at=_inputs.activity_at(occurred_at, now, "occurred_at"),
        timezone=row.get("timezone") or None,
    )


def instant(activity: Activity) -> datetime:
    """Tell when an activity that was read from a file happened.

    Args:
        activity: The activity.

    Returns:
        Its time, which a file always gives.
    """
    return activity.activity_at or datetime.max.replace(tzinfo=UTC)


def move_to_present(activities: Iterable[Activity], now: datetime) -> list[Activity]:
    """Move each person's history by the most whole days that put no event into the future.

    Whole days keep the times of day, and so the streaks.

    Args:
        activities: Everybody's activities.
        now: The present instant.

    Returns:
        The moved activities, oldest first.
    """
    people: defaultdict[UUID | str, list[Activity]] = defaultdict(list)
    for activity in activities:
        people[activity.user_id].append(activity)
    moved = (
        replace(activity, activity_at=instant(activity) + (now - max(map(instant, history))) // DAY * DAY)
        for history in people.values()
        for activity in history
    )
    return sorted(moved, key=instant)


def split_by_age(
    activities: Iterable[Activity], now: datetime, age: timedelta = LIVE_AGE
) -> tuple[list[Activity], list[Activity]]:
    """Part what must be imported from what can be played live.

    Args:
        activities: The activities.
        now: The present instant.
        age: How old the oldest may be that are played live, at most six days.

    Returns:
        Those older than that, and the others, both in the order given.
    """
    old, recent = list[Activity](), list[Activity]()
    for activity in activities:
        (old if instant(activity) < now - age else recent).append(activity)
    return old, recent
