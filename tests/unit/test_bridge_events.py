from __future__ import annotations

from datetime import date

import pytest

from realtime_bridge.changes import StreakRow
from realtime_bridge.events import ABSENT, Told, derive
from realtime_bridge.messages import EventName
from tests.support.bridge_rows import row

MILESTONES = (7, 30)


def state(run: int, day: int, acted: int, version: int = 5, longest: int = 50) -> StreakRow:
    """A row with a run that ends on a day of March."""
    return row(
        version=version,
        run_length=run,
        longest_streak=longest,
        last_active_date=date(2026, 3, day),
        last_activity_at=float(acted),
    )


@pytest.mark.parametrize(
    ("before", "after", "shown", "event"),
    [
        (ABSENT, state(1, 3, 3, version=1), 1, EventName.STARTED),
        (None, state(1, 3, 3, version=1), 1, EventName.STARTED),
        (None, state(4, 3, 3), 4, EventName.UPDATED),
        (Told(state(2, 2, 2), 2), state(3, 3, 3), 3, EventName.INCREMENTED),
        (Told(state(6, 2, 2), 6), state(7, 3, 3), 7, EventName.MILESTONE),
        (Told(state(5, 2, 2), 5), state(8, 5, 5), 8, EventName.MILESTONE),
        (Told(state(7, 2, 2), 7), state(8, 3, 3), 8, EventName.INCREMENTED),
        (Told(state(5, 2, 2), 0), state(1, 9, 9), 1, EventName.RESET),
        (Told(state(1, 2, 2), 0), state(1, 9, 9), 1, EventName.RESET),
        (Told(state(2, 5, 5), 2), state(4, 5, 5), 4, EventName.RECOVERED),
        (Told(state(5, 2, 2), 0), state(6, 4, 2), 6, EventName.RECOVERED),
        (Told(state(5, 2, 2), 0), state(5, 2, 2), 5, EventName.RECOVERED),
        (Told(state(3, 2, 2), 3), state(9, 2, 2), 9, EventName.MILESTONE),
        (Told(state(3, 2, 2), 3), state(3, 2, 2), 0, EventName.LAPSED),
        (Told(state(3, 2, 2), 0), state(3, 2, 2), 0, EventName.UPDATED),
        (Told(state(3, 2, 2), 3), state(3, 2, 2), 3, EventName.UPDATED),
    ],
)
def test_each_change_has_its_event(before: Told | None, after: StreakRow, shown: int, event: EventName) -> None:
    """The event names what lies between the state that the listener knew and the new one."""
    assert derive(before, after, shown, MILESTONES) is event
