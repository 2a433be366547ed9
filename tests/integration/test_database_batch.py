"""A batch against the same calls one by one: the same answers, and the same rows (README, How it stays right)."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeAlias
from uuid import UUID

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from local_supabase.stack import StackInfo
from tests.model import Activity
from tests.support.database import TEST_CLOCK, create_database, database_name, drop_database, execute
from tests.support.schedules import HOUR, SEASONS, Season, lags, seasons, stale_lags, waits, zones_of

Elements: TypeAlias = list[Activity]
Outcome: TypeAlias = tuple[list[tuple[Any, ...]], list[str]]

USERS = [UUID(int=n + 1) for n in range(300)]
A_FEW = USERS[:6]
STRANGER = UUID(int=999)

# What a caller of single calls sees, with an error as the batch reports it.
ONE_BY_ONE = """
create function public.one_by_one(p_ids uuid[], p_ats timestamptz[], p_zones text[], p_requests text[])
returns table (
  index integer, user_id uuid, error text,
  success boolean, current_streak integer, longest_streak integer, last_active_date date, change_type text,
  message text, timezone text, version integer, expires_at timestamptz, replayed boolean
)
language plpgsql as $$
begin
  for n in 1..cardinality(p_ids) loop
    index := n - 1;
    user_id := p_ids[n];
    error := null;
    begin
      select u.* into success, current_streak, longest_streak, last_active_date, change_type, message, timezone,
        version, expires_at, replayed
      from public.update_user_streak_atomic(p_ids[n], p_zones[n], p_requests[n], p_ats[n]) u;
    exception when others then
      get stacked diagnostics error = pg_exception_detail;
      success := false; current_streak := null; longest_streak := null; last_active_date := null; change_type := null;
      message := null; timezone := null; version := null; expires_at := null; replayed := null;
    end;
    return next;
  end loop;
end
$$
"""
KINDS = [
    "FIRST_ACTIVITY",
    "STREAK_INCREMENT",
    "STREAK_MAINTAINED",
    "STREAK_RESET",
    "STREAK_RECOVERED",
    "replay",
    "USER_ID_REQUIRED",
    "USER_NOT_FOUND",
    "REQUEST_ID_TOO_LONG",
    "ACTIVITY_IN_FUTURE",
    "ACTIVITY_TOO_OLD",
]
BATCH = "public.update_user_streaks_batch"
ROWS = """
select t.stored::text from (
  select 1 as part, s.user_id, 0 as at, to_jsonb(s) - 'id' as stored from public.user_streaks s
  union all
  select 2, d.user_id, d.day - date '2000-01-01', to_jsonb(d) from public.streak_days d
  union all
  select 3, h.user_id, h.version, to_jsonb(h) - 'id' - 'duration_ms' from public.streak_history h
) t order by t.part, t.user_id, t.at
"""


class Twice:
    """A database in which the same activities can happen in two ways, from the same start."""

    def __init__(self, url: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._connection = self._loop.run_until_complete(asyncpg.connect(url))
        self.run("set synchronous_commit = off")

    def close(self) -> None:
        """Close the connection."""
        self._loop.run_until_complete(self._connection.close())
        self._loop.close()

    def run(self, query: str, *arguments: object) -> list[asyncpg.Record]:
        """Run one statement and return its rows."""
        rows: list[asyncpg.Record] = self._loop.run_until_complete(self._connection.fetch(query, *arguments))
        return rows

    def at(self, now: datetime) -> None:
        """Turn the clock."""
        self.run("select set_config('streaks.test_now', $1, true)", now.isoformat())

    def call(self, function: str, ones: Sequence[Activity]) -> list[tuple[Any, ...]]:
        """The answers of a function that takes arrays."""
        arrays = zip(*((one.user_id, one.at, one.zone, one.request_id) for one in ones), strict=True)
        query = f"select * from {function}($1, $2, $3, $4)"  # noqa: S608 - one of two names here
        return [tuple(row) for row in self.run(query, *map(list, arrays))]

    def tried(self, function: str, ones: Sequence[Activity]) -> Outcome:
        """The answers and the rows after them; then all is as before."""
        self.run("savepoint start")
        answers = self.call(function, ones)
        rows = [row["stored"] for row in self.run(ROWS)]
        self.run("rollback to savepoint start")
        return answers, rows


@pytest.fixture(scope="module")
def twice(stack: StackInfo, migrated_template: str) -> Iterator[Twice]:
    """A copy of the template with a clock that turns."""
    url = asyncio.run(create_database(stack.database_url, template=database_name(migrated_template)))
    asyncio.run(execute(url, TEST_CLOCK, ONE_BY_ONE))
    database = Twice(url)
    yield database
    database.close()
    asyncio.run(drop_database(stack.database_url, url))


@st.composite
def activities(draw: st.DrawFn, season: Season, now: datetime, *, most: int) -> Elements:
    """Calls of a few users: new days, repeats, replays, journeys, late ones and bad ones, some of them twice."""
    ones: Elements = []
    for _ in range(draw(st.integers(1, most))):
        user = draw(st.sampled_from([*A_FEW, *A_FEW, *A_FEW, *A_FEW, STRANGER, None]))
        lag = draw(st.one_of(st.just(timedelta(0)), st.just(timedelta(0)), lags, lags, stale_lags))
        request = draw(st.sampled_from([None, None, "", *(f"request {n}" for n in range(12)), "x" * 101]))
        at = None if lag == timedelta(0) and draw(st.booleans()) else now - lag
        one = Activity(user, at, draw(zones_of(season)), request)  # type: ignore[arg-type]
        ones.append(draw(st.sampled_from([one, one, one, ones[-1] if ones else one])))
    return ones


@st.composite
def schedules(draw: st.DrawFn) -> tuple[list[tuple[datetime, Elements]], Elements]:
    """What happened before, each with its moment; and a batch at the last of these."""
    season = draw(seasons)
    now, before = season.start, []
    for _ in range(draw(st.integers(0, 5))):
        before.append((now, draw(activities(season, now, most=8))))
        now += draw(st.one_of(waits, st.sampled_from([20 * HOUR, 24 * HOUR, 26 * HOUR])))
    return [*before, (now, [])], draw(activities(season, now, most=24))


def compare(database: Twice, before: list[tuple[datetime, Elements]], ones: Elements) -> Counter[str]:
    """The same batch both ways; returns how often each answer was given."""
    database.run("begin")
    try:
        database.run("insert into auth.users (id) select unnest($1::uuid[])", USERS)
        for now, earlier in before:
            database.at(now)
            if earlier:
                database.call("public.one_by_one", earlier)
        expected, got = (database.tried(function, ones) for function in ("public.one_by_one", BATCH))
    finally:
        database.run("rollback")
    for one, other in zip(got[0], expected[0], strict=True):
        assert one == other, f"\n batch: {one}\nsingle: {other}"
    assert got[1] == expected[1]
    return Counter(str(row[2] or ("replay" if row[12] else row[7])) for row in got[0])


def check(database: Twice, examples: int, *, derandomize: bool) -> Counter[str]:
    """Compare so many schedules; returns how often each answer was given."""
    taken: Counter[str] = Counter()

    @settings(
        max_examples=examples,
        derandomize=derandomize,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        print_blob=not derandomize,
    )
    @given(schedules())
    def same(schedule: tuple[list[tuple[datetime, Elements]], Elements]) -> None:
        taken.update(compare(database, *schedule))

    same()
    return taken


@pytest.mark.timeout(600)
def test_a_batch_is_its_calls(twice: Twice) -> None:
    """A batch gives what the same calls one by one give, errors and replays included, and leaves the same rows."""
    taken = check(twice, 80, derandomize=True)
    # Hypothesis draws on the constants of loaded modules, so what its schedules hold differs from run to run.
    for _ in range(5):
        if all(taken[kind] >= 5 for kind in KINDS):
            break
        taken += check(twice, 20, derandomize=False)
    rare = {kind: taken[kind] for kind in KINDS if taken[kind] < 5}
    assert not rare, dict(taken)


@pytest.mark.parametrize("lag", [timedelta(days=8), -timedelta(minutes=10)])
def test_a_bad_call_before_a_first_one_with_its_request_id(twice: Twice, lag: timedelta) -> None:
    """Of a new user's two calls with one request id, the first out of time, that one fails and the second counts."""
    now = SEASONS[0].start
    ones = [Activity(USERS[0], at, "UTC", "once") for at in (now - lag, now, now)]
    taken = compare(twice, [(now, [])], ones)
    assert (taken["FIRST_ACTIVITY"], taken["replay"], taken.total()) == (1, 1, 3)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(2))
def test_a_large_batch_is_its_calls(twice: Twice, seed: int) -> None:
    """The same for five hundred elements of a few hundred users, most of them with nothing special about them."""
    chance = random.Random(seed)
    season = SEASONS[chance.randrange(len(SEASONS))]
    before, now = [], season.start
    for day in range(3):
        before.append((now, [ordinary(chance, season, now, f"{day}", USERS[:250]) for _ in range(250)]))
        now += 23 * HOUR
    ones = [ordinary(chance, season, now, f"{chance.randrange(1, 5)}", USERS) for _ in range(500)]
    taken = compare(twice, [*before, (now, [])], ones)
    assert {"FIRST_ACTIVITY", "STREAK_INCREMENT", "STREAK_MAINTAINED", "replay"} <= set(taken), dict(taken)


def ordinary(chance: random.Random, season: Season, now: datetime, request: str, users: list[UUID]) -> Activity:
    """A call as most are: now or a little earlier, in the user's own zone, with a request id."""
    user = chance.choice(users)
    zone = season.zones[user.int % 2] if chance.random() < 0.95 else chance.choice(season.zones)
    at = now - chance.choice([0, 0, 0, 0, 1, 5, 30]) * HOUR
    return Activity(user, at, zone, f"{request} of {user.int}")


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_a_batch_is_its_calls_on_random_schedules(twice: Twice) -> None:
    """The same for schedules that no run has taken before."""
    check(twice, 20_000, derandomize=False)
