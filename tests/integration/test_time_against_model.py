"""The SQL functions for days and instants against zoneinfo, in every zone of the server's list."""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import asyncpg
import pytest

from tests.model_time import ZONES, expiry, first_instant, local_day

DAY = timedelta(days=1)
FIRST_YEAR, LAST_YEAR = 2005, 2037


def transition_days(zone: str) -> list[date]:
    """The days on which the zone's clocks change, with two before and after each, and some quiet days."""
    noons = [datetime(FIRST_YEAR, 1, 1, 12, tzinfo=UTC) + n * DAY for n in range((LAST_YEAR - FIRST_YEAR) * 366)]
    offsets = [noon.astimezone(ZoneInfo(zone)).utcoffset() for noon in noons]
    changes = [noon.date() for n, noon in enumerate(noons[1:], 1) if offsets[n] != offsets[n - 1]]
    quiet = random.Random(zone).sample([noon.date() for noon in noons], 5)
    return sorted({day + n * DAY for day in changes for n in range(-3, 3)} | set(quiet))


def shard(zones: list[str], *, every: int = 8) -> list[str]:
    """The zones whose rules are unlike any other's come always; the rest is thinned out."""
    odd = {"Pacific/Apia", "America/Havana", "America/Santiago", "Africa/Cairo", "America/St_Johns", "Asia/Gaza"}
    odd |= {"Australia/Lord_Howe", "Antarctica/Troll", "Asia/Beirut", "America/Asuncion", "Africa/Casablanca"}
    return sorted(odd | set(zones[::every]))


@pytest.fixture
def zones(request: pytest.FixtureRequest) -> list[str]:
    """Every zone with --long, a spread of them without."""
    known = sorted(ZONES.values())
    return known if request.config.getoption("--long", default=False) else shard(known)


def same_rules(zone: str, day: date, walls: list[datetime]) -> bool:
    """Whether server and zoneinfo know the same rules: their data may be of different years."""
    start = datetime(day.year, day.month, day.day, tzinfo=UTC) - DAY
    mine = [(start + n * DAY / 2).astimezone(ZoneInfo(zone)).replace(tzinfo=None) for n in range(len(walls))]
    return mine == walls


async def test_days_start_and_streaks_expire_where_the_model_says(own_database: str, zones: list[str]) -> None:
    """A day's first instant, a streak's expiry and an instant's day agree around every change of clocks."""
    query = """
        select day, private.local_day_starts_at(day, $2), private.streak_expires_at(day, $2),
          private.local_day(private.local_day_starts_at(day, $2) - interval '1 second', $2),
          array(select (day::timestamp at time zone 'UTC' + n * interval '12 hours') at time zone $2
            from generate_series(-2, 10) n)
        from unnest($1::date[]) as day
    """
    connection = await asyncpg.connect(own_database)
    compared, wrong, others = 0, [], set()
    for zone in zones:
        for day, starts, expires, before, walls in await connection.fetch(query, transition_days(zone), zone):
            if not same_rules(zone, day, walls):
                others.add(zone)
                continue
            compared += 1
            expected = (first_instant(day, zone), expiry(day, zone))
            if (starts, expires) != expected or before != local_day(starts - timedelta(seconds=1), zone):
                wrong.append((zone, day, starts, expires, *expected))
    await connection.close()
    assert not wrong
    assert compared > 50 * len(zones)
    assert len(others) < len(zones) / 10
