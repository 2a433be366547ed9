"""The SQL of days and instants against a brute force, in every zone that both sides know.

The brute force knows no rule: it finds the instants at which a zone's clocks change, and looks at what they show.
"""

from __future__ import annotations

import bisect
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache
from importlib.resources import files
from io import BytesIO
from typing import TypeAlias
from zoneinfo import ZoneInfo, available_timezones

import asyncpg
import pytest
import pytest_asyncio

from tests.support.migrated import module_database

__all__ = ["module_database"]
pytestmark = pytest.mark.asyncio(loop_scope="module")
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

DAY, SECOND = timedelta(days=1), timedelta(seconds=1)
LOOK = 4 * DAY
FIRST, LAST = datetime(1979, 12, 1, tzinfo=UTC), datetime(2038, 1, 1, tzinfo=UTC)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def connection(module_database: str) -> AsyncIterator[Connection]:
    """A connection as the owner."""
    connection = await asyncpg.connect(module_database)
    yield connection
    await connection.close()


@dataclass
class Clocks:
    """What a zone's clocks do: stretches of time without a change, each to where the next begins."""

    begins: list[datetime]
    offsets: list[timedelta]

    def first_instant(self, day: date) -> datetime:
        """The first instant at which the clocks show the day or a later one."""
        edge = datetime(day.year, day.month, day.day, tzinfo=UTC)
        start = max(bisect.bisect(self.begins, edge - 2 * DAY) - 1, 0)
        for n in range(start, len(self.begins)):
            midnight = max(edge - self.offsets[n], self.begins[n])
            if n + 1 == len(self.begins) or midnight < self.begins[n + 1]:
                return midnight
        raise AssertionError(day)

    def expiry(self, last: date) -> datetime:
        """The first instant of the second day after the last one; a day that never was begins with the next."""
        starts = sorted({self.first_instant(last + n * DAY) for n in range(1, 5)})
        return starts[1]


@cache
def zone_data(zone: str) -> bytes:
    """A zone's compiled rules: of the package tzdata, whatever the machine has."""
    return files("tzdata").joinpath("zoneinfo", *zone.split("/")).read_bytes()


def clocks(zone: str) -> Clocks:
    """The clocks of a zone."""
    return clocks_by(zone_data(zone))  # many names share their rules


@cache
def clocks_by(data: bytes) -> Clocks:
    """The changes of clocks, found by looking every few days and halving where the offset has changed."""
    info = ZoneInfo.from_file(BytesIO(data))
    found = Clocks([FIRST], [offset(FIRST, info)])
    at = FIRST
    while at < LAST:
        after = at + LOOK
        if offset(after, info) != found.offsets[-1]:
            before = at
            while after - before > SECOND:
                middle = before + timedelta(seconds=(after - before) // SECOND // 2)
                before, after = (middle, after) if offset(middle, info) == found.offsets[-1] else (before, middle)
            found.begins.append(after)
            found.offsets.append(offset(after, info))
        at += LOOK
    return found


def offset(at: datetime, info: ZoneInfo) -> timedelta:
    """What a zone's clocks show minus UTC."""
    found = at.astimezone(info).utcoffset()
    assert found is not None
    return found


def days_of(zone: str) -> Iterator[date]:
    """Every day within two days of a change of the zone's clocks, from 1980 to 2037, and two without one."""
    near = {(at + n * DAY).date() for at in clocks(zone).begins[1:] for n in range(-2, 3)}
    yield from sorted(day for day in near | {date(2026, 6, 15), date(2026, 12, 15)} if 1980 <= day.year <= 2037)


def shown(zone: str, day: date) -> list[int]:
    """The offsets around a day, in seconds, as Python knows them."""
    known, start = clocks(zone), datetime(day.year, day.month, day.day, tzinfo=UTC)
    return [
        known.offsets[bisect.bisect(known.begins, start + hours * timedelta(hours=1)) - 1] // SECOND
        for hours in range(-24, 97, 6)
    ]


QUERY = """
select private.local_day_starts_at(day, zone), private.streak_expires_at(day, zone),
  array(
    select extract(epoch from (t.at at time zone zone) - (t.at at time zone 'UTC'))::integer
    from (select (day::timestamp at time zone 'UTC') + h * interval '1 hour' as at
          from generate_series(-24, 96, 6) h) t
  )
from unnest($1::text[], $2::date[]) with ordinality a (zone, day, n) order by n
"""


async def test_every_zone_around_every_change_of_clocks(connection: Connection, request: pytest.FixtureRequest) -> None:
    """A day's first instant and a streak's expiry are where the clocks say, in all zones, from 1980 to 2037."""
    known = {row["name"] for row in await connection.fetch("select name from private.streak_timezones")}
    both = sorted(known & available_timezones())
    assert len(both) > 550
    if not request.config.getoption("--long"):
        both = sorted({zone_data(zone): zone for zone in both}.values())  # one name for each set of rules
    checked, wrong, other_data = 0, [], set()
    for start in range(0, len(both), 60):
        asked = [(zone, day) for zone in both[start : start + 60] for day in days_of(zone)]
        rows = await connection.fetch(QUERY, [zone for zone, _ in asked], [day for _, day in asked])
        for (zone, day), (starts, expires, offsets) in zip(asked, rows, strict=True):
            if offsets != shown(zone, day):
                other_data.add(zone)  # the server's zone data and Python's may be of different years
                continue
            checked += 1
            expected = clocks(zone).first_instant(day), clocks(zone).expiry(day)
            if (starts, expires) != expected:
                wrong.append((zone, day, starts, expires, *expected))
    assert wrong == []
    assert len(other_data) < 0.05 * len(both), other_data
    assert checked > 150 * len(both)


@pytest.mark.parametrize(
    ("at", "zone", "day_start", "day"),
    [
        ("2026-03-08T08:30Z", "America/New_York", "4 hours", "2026-03-08"),
        ("2026-11-01T08:30Z", "America/New_York", "4 hours", "2026-10-31"),
        ("2026-11-22T10:30Z", "Pacific/Pago_Pago", "0", "2026-11-21"),
        ("2026-11-22T10:30Z", "UTC", "0", "2026-11-22"),
        ("2026-11-22T10:30Z", "Pacific/Kiritimati", "0", "2026-11-23"),
        ("2028-02-29T23:30Z", "UTC", "0", "2028-02-29"),
        ("2026-12-31T23:30Z", "Asia/Kolkata", "0", "2027-01-01"),
        ("2026-10-03T15:45Z", "Australia/Lord_Howe", "0", "2026-10-04"),
    ],
)
async def test_day_of_an_instant(connection: Connection, at: str, zone: str, day_start: str, day: str) -> None:
    """The start of the day is subtracted after the conversion into the zone: the day that people there would name."""
    query = "select private.local_day($1::text::timestamptz, $2, $3::text::interval)::text"
    assert await connection.fetchval(query, at, zone, day_start) == day


@pytest.mark.parametrize(
    ("day", "zone", "starts"),
    [
        ("2026-09-06", "America/Santiago", "2026-09-06T04:00Z"),  # midnight does not exist: 01:00 local
        ("2026-04-24", "Africa/Cairo", "2026-04-23T22:00Z"),  # the same
        ("2026-11-01", "America/Havana", "2026-11-01T04:00Z"),  # midnight comes twice: the first
        ("2011-12-31", "Pacific/Apia", "2011-12-30T10:00Z"),
        ("2011-12-30", "Pacific/Apia", "2011-12-30T10:00Z"),  # a day that never was: the next one's start
    ],
)
async def test_first_instant_of_a_day(connection: Connection, day: str, zone: str, starts: str) -> None:
    """A day starts at its first instant, whether its midnight is missing or comes twice."""
    query = "select private.local_day_starts_at($1::text::date, $2) = $3::text::timestamptz"
    assert await connection.fetchval(query, day, zone, starts)


@pytest.mark.parametrize(
    ("last", "zone", "expires"),
    [
        ("2026-09-04", "America/Santiago", "2026-09-06T04:00Z"),
        ("2026-04-22", "Africa/Cairo", "2026-04-23T22:00Z"),
        ("2026-10-30", "America/Havana", "2026-11-01T04:00Z"),
        ("2011-12-29", "Pacific/Apia", "2011-12-31T10:00Z"),  # the 30th never was: two days later is the 1st
        ("2011-12-28", "Pacific/Apia", "2011-12-30T10:00Z"),
        ("2026-03-07", "America/New_York", "2026-03-09T04:00Z"),  # a day of 23 hours on the way
        ("2026-10-31", "America/New_York", "2026-11-02T05:00Z"),  # a day of 25
        ("2026-10-03", "Australia/Lord_Howe", "2026-10-04T13:00Z"),  # a day of 23.5
        ("2028-02-28", "UTC", "2028-03-01T00:00Z"),
    ],
)
async def test_expiry(connection: Connection, last: str, zone: str, expires: str) -> None:
    """A streak lapses at the first instant of the second existing day after its last."""
    query = "select private.streak_expires_at($1::text::date, $2) = $3::text::timestamptz"
    assert await connection.fetchval(query, last, zone, expires)


async def test_zones_that_are_none(connection: Connection) -> None:
    """Only names of the server's list are zones, in any case: no offset, abbreviation with digits, or file."""
    query = "select n, private.known_timezone(n) from unnest($1::text[]) n"
    names = ["FOO+5", "UTC+3", "<A>5", "Mars/Phobos", "", "posix/UTC", "localtime", "europe/BERLIN", "utc"]
    found = {name: known for name, known in await connection.fetch(query, names) if known}
    assert found == {"europe/BERLIN": "Europe/Berlin", "utc": "UTC"}
