"""Derived events: what happened between the last state that a listener was told and the new one."""

from typing import NamedTuple

from realtime_bridge.changes import StreakRow
from realtime_bridge.messages import EventName


class Told(NamedTuple):
    """A state as a listener knows it.

    Attributes:
        row: The row; None when the user has none.
        shown: The current streak that was shown (0 once it was told that the streak lapsed).
    """

    row: StreakRow | None
    shown: int


ABSENT = Told(None, 0)


def derive(before: Told | None, row: StreakRow, shown: int, milestones: tuple[int, ...]) -> EventName:
    """Name what happened to a streak.

    Args:
        before: What the listener was told last; None if it never heard of the user.
        row: The new row.
        shown: The current streak of the new row now.
        milestones: Lengths that deserve an event of their own.

    Returns:
        The event: a milestone wins over the increment that reached it.
    """
    if before is None:
        return EventName.STARTED if row.version == 1 and shown else EventName.UPDATED
    if before.row is None:
        return EventName.STARTED if shown else EventName.UPDATED
    event = _compare(before.row, before.shown, row, shown)
    if event in _GROWTH and any(before.row.run_length < mark <= shown for mark in milestones):
        return EventName.MILESTONE
    return event


_GROWTH = (EventName.INCREMENTED, EventName.RECOVERED)


def _compare(old: StreakRow, old_shown: int, new: StreakRow, shown: int) -> EventName:
    if shown == 0:
        return EventName.LAPSED if old_shown else EventName.UPDATED
    acted = _later(new.last_active_date, old.last_active_date) and _acted(old, new)
    if new.run_length > old.run_length:
        return EventName.INCREMENTED if acted else EventName.RECOVERED
    if acted:
        # An activity on a later day that did not lengthen the run began a new one.
        return EventName.RESET
    return EventName.UPDATED if old_shown else EventName.RECOVERED


def _acted(old: StreakRow, new: StreakRow) -> bool:
    # A repair moves the last day without an activity; rows of an upgraded database may not know the activity.
    return new.last_activity_at is None or new.last_activity_at != old.last_activity_at


def _later(new: object, old: object) -> bool:
    return old is None or (new is not None and new > old)  # type: ignore[operator]
