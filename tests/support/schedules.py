"""What the state machine draws: seasons in which calendars misbehave, zones, moments and lags."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from hypothesis import strategies as st

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
TICK = timedelta(microseconds=1)
WRONG_ZONES = ["FOO+5", "UTC+3", "PST", "Mars/Olympus", "", "X" * 80]


@dataclass(frozen=True)
class Season:
    """Where and when a schedule plays: a first instant, the zones of its travellers, and what is odd about them."""

    start: datetime
    zones: tuple[str, ...]


def season(start: str, *zones: str) -> Season:
    """A season from a date, with UTC among its zones."""
    return Season(datetime.fromisoformat(start).replace(tzinfo=UTC), (*zones, "UTC"))


SEASONS = [
    season("2026-07-01", "America/Los_Angeles", "Pacific/Auckland", "Europe/London"),
    season("2026-06-30", "Pacific/Pago_Pago", "Pacific/Kiritimati", "Asia/Kolkata"),
    season("2026-03-06", "America/New_York", "Europe/Berlin", "america/havana"),
    season("2026-10-30", "America/Havana", "America/New_York", "Asia/Tokyo"),
    season("2026-09-04", "America/Santiago", "Pacific/Auckland", "Europe/Madrid"),
    season("2026-04-22", "Africa/Cairo", "Asia/Kathmandu", "America/Chicago"),
    season("2026-04-02", "Australia/Lord_Howe", "America/Denver", "Europe/Paris"),
    season("2011-12-27", "Pacific/Apia", "Pacific/Pago_Pago", "Pacific/Auckland"),
    season("2010-11-05", "America/St_Johns", "Europe/London", "Australia/Sydney"),
    season("2028-02-26", "Europe/Berlin", "Asia/Singapore", "America/Los_Angeles"),
    season("2026-12-28", "Pacific/Honolulu", "Pacific/Kiritimati", "Europe/London"),
]

seasons = st.sampled_from(SEASONS)

# How far the clock moves: a moment, half a day with its edge, about a day in many forms, days that break a streak.
WAITS = [
    TICK,
    MINUTE,
    3 * HOUR,
    12 * HOUR,
    12 * HOUR + TICK,
    13 * HOUR,
    19 * HOUR,
    23 * HOUR,
    DAY,
    25 * HOUR,
    30 * HOUR,
]
waits = st.sampled_from([*WAITS, *WAITS, 40 * HOUR, 2 * DAY, 3 * DAY, 8 * DAY])

# How long before its arrival an activity happened: now, offline for hours or days, at the edges of what is allowed.
LAGS = [timedelta(0), timedelta(0), timedelta(0), MINUTE, HOUR, 12 * HOUR, 12 * HOUR + TICK, 20 * HOUR, DAY, 26 * HOUR]
lags = st.one_of(
    st.sampled_from([*LAGS, 2 * DAY, 3 * DAY, 5 * DAY, 7 * DAY, -5 * MINUTE]),
    st.integers(0, 7 * 24 * 60).map(lambda minutes: timedelta(minutes=minutes)),
)
stale_lags = st.sampled_from([7 * DAY + TICK, 30 * DAY, -5 * MINUTE - TICK, -DAY])
old_lags = st.one_of(st.sampled_from([timedelta(0), HOUR, DAY, 36 * HOUR]), st.integers(0, 480).map(lambda n: n * HOUR))


def zones_of(where: Season) -> st.SearchStrategy[str | None]:
    """A zone as a caller sends it: mostly one of the season's, sometimes none or none that is one."""
    return st.sampled_from([*where.zones, *where.zones, *where.zones, None, *WRONG_ZONES[: 1 + len(where.zones) // 2]])
