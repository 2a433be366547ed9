"""Days and zones for the reference model of the streak rules, from zoneinfo alone."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones

DAY = timedelta(days=1)
NO_SHIFT = timedelta(0)
ZONES = {name.lower(): name for name in available_timezones() - {"Factory", "localtime", "posixrules"}}


def zone_name(name: str | None) -> str | None:
    """The IANA zone that a name means, as the list spells it; None for 'FOO+5' and other no zones (rule 6)."""
    return None if name is None else ZONES.get(name.lower())


def local_day(at: datetime, zone: str, day_start: timedelta = NO_SHIFT) -> date:
    """The calendar day of an instant: into the zone first, then back by ``day_start`` (rule 1)."""
    return (at.astimezone(ZoneInfo(zone)).replace(tzinfo=None) - day_start).date()


@lru_cache(maxsize=100_000)
def first_instant(day: date, zone: str, day_start: timedelta = NO_SHIFT) -> datetime:
    """The first instant at which the local day is ``day`` or later (rules 1 and 7).

    Local time only ever moves on by jumps or stands still across a day's edge, so halving finds the edge; the one
    exception, clocks put back from just after midnight to the evening before, is caught by asking for the first
    (fold 0) occurrence of the start of the day.
    """
    edge = datetime.combine(day, time(), UTC)
    before, after = edge - 2 * DAY, edge + 2 * DAY + day_start
    while after - before > timedelta(seconds=1):
        middle = before + timedelta(seconds=(after - before) // timedelta(seconds=2))
        if local_day(middle, zone, day_start) >= day:
            after = middle
        else:
            before = middle
    wall = datetime.combine(day, time(), ZoneInfo(zone)) + day_start
    first = wall.astimezone(UTC)
    return min(first, after) if local_day(first, zone, day_start) >= day else after


def exists(day: date, zone: str, day_start: timedelta = NO_SHIFT) -> bool:
    """Whether the zone had that day (Apia never had 2011-12-30)."""
    return local_day(first_instant(day, zone, day_start), zone, day_start) == day


def expiry(last: date, zone: str, day_start: timedelta = NO_SHIFT) -> datetime:
    """The first instant of the second existing local day after ``last`` (rule 7)."""
    day, seen = last, 0
    while seen < 2:
        day += DAY
        seen += exists(day, zone, day_start)
    return first_instant(day, zone, day_start)
