"""The migrations on a database that holds the original schema with rows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from uuid import UUID

import asyncpg
import pytest

from local_supabase.stack import StackInfo
from tests.support import field
from tests.support.database import TEST_CLOCK, execute, migration_scripts
from tests.support.field import DAY, TODAY, Connection
from tests.support.migrated import database
from tests.support.original import original_scripts
from tests.support.schema import SNAPSHOT, schema_of
from tests.support.supabase_cli import supabase

NOON = datetime(TODAY.year, TODAY.month, TODAY.day, 12, tzinfo=UTC)
LOST = """
select coalesce(to_jsonb(x) ->> 'user_id', to_jsonb(x) ->> 'id')::uuid as key
from (select {columns} from kept.{table} except select {columns} from public.{table}) x
"""
LEDGER = "select array_agg(day order by day) from public.streak_days where user_id = $1"


async def fill(url: str, constraint: str) -> None:
    """Make the original's database what the field has."""
    connection = await asyncpg.connect(url)
    await connection.execute(field.AROUND + constraint)
    await field.fill(connection)
    await connection.execute("create schema kept")
    for table in ("user_streaks", "streak_history", "user_profiles"):
        await connection.execute(f"create table kept.{table} as table public.{table}")
    await connection.close()


@pytest.fixture(scope="module", params=["beside", "instead"])
def upgraded(
    request: pytest.FixtureRequest, stack: StackInfo, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """The URL of an upgraded database; its old rows are in the schema `kept`. It is noon UTC."""
    home = tmp_path_factory.mktemp("upgrade")
    with database(stack.database_url, *original_scripts()) as url:
        asyncio.run(fill(url, field.BESIDE if request.param == "beside" else field.INSTEAD))
        pushed = supabase("db", "push", "--yes", "--remote", url=url, home=home)
        assert pushed.returncode == 0, pushed.stderr
        again = supabase("db", "push", "--yes", "--remote", url=url, home=home)
        assert "up to date" in again.stdout
        asyncio.run(execute(url, TEST_CLOCK))
        yield url


@pytest.fixture
async def connection(upgraded: str) -> AsyncIterator[Connection]:
    """A connection on which it is noon, and whose writes are undone."""
    connection = await asyncpg.connect(upgraded, server_settings={"streaks.test_now": NOON.isoformat()})
    transaction = connection.transaction()
    await transaction.start()
    yield connection
    await transaction.rollback()
    await connection.close()


async def act(connection: Connection, user_id: UUID, request_id: str | None = None) -> dict[str, object]:
    """Count an activity at noon."""
    row = await connection.fetchrow(
        "select * from public.update_user_streak_atomic(p_user_id => $1, p_request_id => $2)", user_id, request_id
    )
    assert row is not None
    return dict(row)


async def test_nothing_is_lost(connection: Connection) -> None:
    """Every history row, profile and streak row is still there, with the values it had."""
    for table in ("streak_history", "user_profiles", "user_streaks"):
        lost = await connection.fetch(LOST.format(table=table, columns=await columns_kept(connection, table)))
        assert {row["key"] for row in lost} <= ({field.WENT_WEST} if table == "user_streaks" else set()), table


async def columns_kept(connection: Connection, table: str) -> str:
    """The columns of a table of old whose values must not change: a junk zone may, and the time of the last change."""
    names = await connection.fetch(
        "select attname from pg_attribute where attrelid = $1::regclass and attnum > 0", f"kept.{table}"
    )
    movable = {"updated_at", "timezone"} if table == "user_streaks" else set()
    return ", ".join(name for (name,) in names if name not in movable)


@pytest.mark.parametrize(
    ("user_id", "days"),
    [
        (field.REGULAR, range(3, 0, -1)),
        (field.ARCHIVED, range(39, -1, -1)),
        (field.JUNK_ZONE, range(2, 0, -1)),
        (field.LOWER_ZONE, range(1, 0, -1)),
        (field.WENT_WEST, range(4, 0, -1)),
        (field.ZEROED, range(30, 29, -1)),
    ],
)
async def test_ledger_holds_the_current_run(connection: Connection, user_id: UUID, days: range) -> None:
    """The ledger has the days that the history names, and those of the run that only the counters know."""
    assert await connection.fetchval(LEDGER, user_id) == [TODAY - ago * DAY for ago in days]


async def test_instants_come_from_the_history(connection: Connection) -> None:
    """A day's activity happened when its history row was written, unless that was on another day."""
    query = "select activity_at from public.streak_days where user_id = $1 order by day desc limit 2"
    instants = [[at for (at,) in await connection.fetch(query, user)] for user in (field.REGULAR, field.ARCHIVED)]
    assert instants == [[field.instant(TODAY - DAY), field.instant(TODAY - 2 * DAY)], [field.instant(TODAY), None]]


@pytest.mark.parametrize(
    ("user_id", "change", "current", "longest"),
    [
        (field.REGULAR, "STREAK_INCREMENT", 4, 7),
        (field.ARCHIVED, "STREAK_MAINTAINED", 40, 60),
        (field.DEAD, "STREAK_RESET", 1, 500),
        (field.JUNK_ZONE, "STREAK_INCREMENT", 3, 3),
        (field.LOWER_ZONE, "STREAK_INCREMENT", 2, 2),
        (field.WENT_WEST, "STREAK_INCREMENT", 5, 5),
        (field.ZEROED, "STREAK_RESET", 1, 9),
        (field.NO_STREAK, "FIRST_ACTIVITY", 1, 1),
        (field.HIDDEN, "STREAK_MAINTAINED", 1, 1),
    ],
)
async def test_next_activity(connection: Connection, user_id: UUID, change: str, current: int, longest: int) -> None:
    """The next activity goes on from the old counters as the rules say, and so does the one on the day after."""
    answer = await act(connection, user_id)
    assert (answer["change_type"], answer["current_streak"], answer["longest_streak"]) == (change, current, longest)
    await connection.execute("select set_config('streaks.test_now', $1, true)", (NOON + DAY).isoformat())
    after = await act(connection, user_id)
    assert (after["change_type"], after["current_streak"]) == ("STREAK_INCREMENT", current + 1)
    assert after["longest_streak"] == max(longest, current + 1)


async def test_rebuild_finds_nothing_wrong(connection: Connection) -> None:
    """Counted anew from its ledger, every upgraded row is as it is: the older longest is kept in longest_base."""
    rows = await connection.fetch(
        "select s.user_id, s.longest_base, k.longest_streak, r.change_type, r.longest_streak as after"
        " from public.user_streaks s join kept.user_streaks k using (user_id)"
        " cross join lateral public.rebuild_user_streak(s.user_id) r"
    )
    assert len(rows) == 8
    for row in rows:
        assert row["longest_base"] == row["longest_streak"] == row["after"], row["user_id"]
        assert row["change_type"] == "STREAK_MAINTAINED", row["user_id"]


async def test_what_the_upgrade_changed_is_in_the_history(connection: Connection) -> None:
    """A row that the ledger mends gets a new version and a history row with a reason; no other row gets either."""
    new = await connection.fetch(
        "select user_id, change_type, version_before, version_after, new_current_streak, reason"
        " from public.streak_history where version is not null"
    )
    assert [tuple(row)[:5] for row in new] == [(field.WENT_WEST, "STREAK_REBUILT", 5, 6, 4)]
    assert new[0]["reason"]
    versions = await connection.fetch(
        "select user_id from public.user_streaks s join kept.user_streaks k using (user_id)"
        " where s.version <> k.version"
    )
    assert [row["user_id"] for row in versions] == [field.WENT_WEST]


async def test_dead_streak_is_read_as_dead(connection: Connection) -> None:
    """A streak of 500 days that ended in 2020 is read as 0 and leads only the leaderboard of the longest."""
    assert await connection.fetchval("select current_streak from public.get_user_streak($1)", field.DEAD) == 0
    boards = {
        order: [
            row["user_id"] for row in await connection.fetch("select * from get_streak_leaderboard(100, 0, $1)", order)
        ]
        for order in ("current_streak", "longest_streak")
    }
    assert boards["longest_streak"][0] == field.DEAD
    assert field.DEAD not in boards["current_streak"]
    assert boards["current_streak"][0] == field.ARCHIVED


async def test_zones_are_the_servers(connection: Connection) -> None:
    """A zone that is none became UTC, and one in another spelling the server's."""
    zones = await connection.fetch("select user_id, timezone from public.user_streaks")
    found = {row["user_id"]: row["timezone"] for row in zones}
    assert (found[field.JUNK_ZONE], found[field.LOWER_ZONE]) == ("UTC", "America/New_York")
    assert (await act(connection, field.NO_STREAK))["timezone"] == "Asia/Kolkata"


async def test_request_ids_of_old_do_not_answer(connection: Connection) -> None:
    """A request id that repeats in the old history is new once, and from then on gets its first answer."""
    first = await act(connection, field.REGULAR, request_id="req")
    assert (first["change_type"], first["replayed"]) == ("STREAK_INCREMENT", False)
    again = await act(connection, field.REGULAR, request_id="req")
    assert again == {**first, "replayed": True}


async def test_leavings_are_gone(upgraded: str, connection: Connection) -> None:
    """Old signatures, policies and duplicate indexes are gone; what is the platform's own stays as it was."""
    lines = await schema_of(upgraded)
    ours = [line for line in SNAPSHOT.read_text(encoding="utf-8").splitlines() if "user_profiles" not in line]
    own = ("user_streaks_user_id_key", "unique_user_streak", "create index idx_user_streaks_again", "source")
    missing = {line for line in ours if line not in lines and not any(word in line for word in own)}
    assert missing == set()
    extra = {line for line in lines if line not in ours and "user_profiles" not in line}
    assert {line for line in extra if not any(word.lower() in line.lower() for word in own)} == set()
    keys = await connection.fetch(
        "select 1 from pg_index where indrelid = 'public.user_streaks'::regclass and indisunique and not indisprimary"
    )
    assert len(keys) == 1
    policies = await connection.fetch("select policyname from pg_policies where tablename = 'user_profiles'")
    assert [row["policyname"] for row in policies] == ["Public profiles"]
    assert await connection.fetchval("select has_table_privilege('anon', 'public.user_profiles', 'select')")


async def test_opting_out_works_with_a_profile_keyed_by_id(connection: Connection) -> None:
    """A user of an upgraded platform can leave the leaderboard, though the profile's key is called `id`."""
    await connection.execute("update public.user_profiles set leaderboard_opt_out = true where id = $1", field.ARCHIVED)
    rows = await connection.fetch("select user_id from public.get_streak_leaderboard()")
    assert field.ARCHIVED not in {row["user_id"] for row in rows}
    assert field.HIDDEN in {row["user_id"] for row in rows}


MANY = """
insert into auth.users (id) select md5(n::text)::uuid from generate_series(1, 50000) n;
insert into public.user_streaks (user_id, current_streak, longest_streak, last_active_date)
select id, 1 + row_number() over (order by id) % 5, 30, current_date - 1 from auth.users;
insert into public.streak_history (user_id, old_current_streak, new_current_streak, old_longest_streak,
  new_longest_streak, activity_date, change_type, timezone, version_before, version_after)
select user_id, n, n + 1, 30, 30, current_date - 5 + n, 'STREAK_INCREMENT', 'UTC', n, n + 1
from public.user_streaks cross join generate_series(greatest(5 - current_streak, 0), 4) n;
"""


@pytest.mark.parametrize("users", [10_000, pytest.param(50_000, marks=pytest.mark.long)])
def test_many_rows_upgrade(stack: StackInfo, users: int) -> None:
    """Many users upgrade in one push, each with the run that the counters say."""
    with database(stack.database_url, *original_scripts(), MANY.replace("50000", str(users))) as url:
        begun = time.monotonic()
        asyncio.run(execute(url, *migration_scripts()))
        print(f"{users:,} users upgraded in {time.monotonic() - begun:.1f} s")  # noqa: T201 - a figure to report
        wrong, days, history = asyncio.run(
            numbers(
                url,
                "select count(*) from public.user_streaks s where s.run_length <> s.current_streak or s.version <> 1 or"
                " s.run_length <> (select count(*) from public.streak_days d where d.user_id = s.user_id)",
                "select count(*) from public.streak_days",
                "select count(*) from public.streak_history where version is not null",
            )
        )
    assert (wrong, days, history) == (0, 3 * users, 0)


async def numbers(url: str, *queries: str) -> list[int]:
    """The answers to questions for one number each."""
    connection = await asyncpg.connect(url)
    try:
        return [await connection.fetchval(query) for query in queries]
    finally:
        await connection.close()
