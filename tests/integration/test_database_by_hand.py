"""Rows, arrays and schemas as people really have them: changed by hand, odd, or shared with the platform's own."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID, uuid4

import asyncpg
import pytest

from local_supabase.stack import StackInfo
from tests.support.database import migration_scripts
from tests.support.migrated import Connection, database, module_database, supabase_scripts
from tests.support.noon import DAY, NOON, db
from tests.support.original import original_scripts

__all__ = ["db", "module_database"]
pytestmark = pytest.mark.asyncio(loop_scope="module")

UPDATE = "select * from public.update_user_streak_atomic($1, 'UTC', $2, $3)"
VERSIONS = "select array_agg(version order by version) from public.streak_history where user_id = $1"


async def add_user(db: Connection, *ago: int) -> UUID:
    """Sign up a user, active so many days ago."""
    user_id = uuid4()
    await db.execute("insert into auth.users (id) values ($1)", user_id)
    for n in sorted(ago, reverse=True):
        await db.execute(UPDATE, user_id, f"{n} days ago", NOON - n * DAY)
    return user_id


async def test_a_row_made_anew_by_hand_goes_on_counting(db: Connection) -> None:
    """A row deleted and inserted again by hand takes the next version, and the next day counts."""
    user_id = await add_user(db, 2, 1)
    await db.execute("delete from public.user_streaks where user_id = $1", user_id)
    await db.execute(
        "insert into public.user_streaks (user_id, current_streak, longest_streak, last_active_date) "
        "values ($1, 2, 2, $2)",
        user_id,
        (NOON - DAY).date(),
    )
    answer = await db.fetchrow(UPDATE, user_id, "today", NOON)
    assert answer is not None
    assert (answer["change_type"], answer["current_streak"], answer["version"]) == ("STREAK_INCREMENT", 3, 4)
    assert await db.fetchval(VERSIONS, user_id) == [1, 2, 3, 4]


async def test_a_row_inserted_with_defaults_agrees_with_its_ledger(db: Connection) -> None:
    """Counters that do not fit the last day are counted anew, so the next day is day 2."""
    user_id = await add_user(db)
    await db.execute(
        "insert into public.user_streaks (user_id, last_active_date) values ($1, $2)", user_id, (NOON - DAY).date()
    )
    assert await db.fetchval("select run_length from public.user_streaks where user_id = $1", user_id) == 1
    answer = await db.fetchrow(UPDATE, user_id, "today", NOON)
    assert answer is not None
    assert answer["current_streak"] == 2


async def test_a_change_by_hand_that_counts_the_version_itself_is_in_the_history(db: Connection) -> None:
    """The original's optimistic lock, used by hand with the service key, leaves no version unexplained."""
    user_id = await add_user(db, 0)
    await db.execute("set local role service_role")
    await db.execute(
        "update public.user_streaks set version = version + 1, longest_streak = 9 where user_id = $1", user_id
    )
    await db.execute("reset role")
    assert await db.fetchval(VERSIONS, user_id) == [1, 2]


async def test_a_zone_that_is_none_never_gets_into_a_row(db: Connection) -> None:
    """A junk zone written by hand is not stored, so neither the user's reads nor the leaderboard break."""
    user_id = await add_user(db, 0)
    await db.execute("update public.user_streaks set timezone = 'Mars/Base' where user_id = $1", user_id)
    assert await db.fetchval("select timezone from public.get_user_streak($1)", user_id) == "UTC"
    assert await db.fetch("select * from public.get_streak_leaderboard()")


@pytest.mark.parametrize(
    "arguments",
    ["array[array[$1::uuid]]", "array[$1::uuid], null, null, array['a', 'b']", "array[$1::uuid], null, null, '{{a}}'"],
    ids=["nested users", "too many request ids", "nested request ids"],
)
async def test_odd_arrays_are_refused(db: Connection, arguments: str) -> None:
    """A batch whose arrays do not line up is refused instead of losing an element or a request id."""
    user_id = await add_user(db)
    with pytest.raises(asyncpg.InvalidParameterValueError) as caught:
        await db.fetch(f"select * from public.update_user_streaks_batch({arguments})", user_id)  # noqa: S608
    assert caught.value.detail == "ARRAYS_DIFFER"


async def test_an_array_that_does_not_start_at_one_loses_nobody(db: Connection) -> None:
    """Elements are counted by their order, whatever PostgreSQL's bounds say."""
    first, second = await add_user(db), await add_user(db)
    rows = await db.fetch(
        "select * from public.update_user_streaks_batch(('[0:1]={' || $1::text || ',' || $2::text || '}')::uuid[])",
        str(first),
        str(second),
    )
    assert [(row["index"], row["user_id"], row["success"]) for row in rows] == [(0, first, True), (1, second, True)]


@pytest.mark.parametrize(
    ("call", "detail"),
    [
        ("get_streak_calendar($1, '-infinity', 'infinity')", "RANGE_INVALID"),
        ("recover_user_streak($1, '-infinity', current_date, 'why')", "RANGE_INVALID"),
        ("get_streak_leaderboard(100, 2147483647) where $1::uuid is not null", "OFFSET_INVALID"),
    ],
)
async def test_numbers_and_dates_without_end_are_bad_input(db: Connection, call: str, detail: str) -> None:
    """What no calendar or counter holds gets an error that names the field."""
    user_id = await add_user(db, 1)
    with pytest.raises(asyncpg.InvalidParameterValueError) as caught:
        await db.fetch(f"select * from public.{call}", user_id)  # noqa: S608
    assert caught.value.detail == detail


async def test_a_repair_is_replayed_after_its_row_is_gone(db: Connection) -> None:
    """A request that wrote gets its first answer again, whatever became of the row."""
    user_id = await add_user(db, 3, 1)
    recover = "select * from public.recover_user_streak($1, $2, $2, 'outage', 'repair')"
    first = await db.fetchrow(recover, user_id, (NOON - 2 * DAY).date())
    await db.execute("delete from public.user_streaks where user_id = $1", user_id)
    again = await db.fetchrow(recover, user_id, (NOON - 2 * DAY).date())
    assert first is not None
    assert again is not None
    assert (again["change_type"], again["version"], again["replayed"]) == ("STREAK_RECOVERED", first["version"], True)


async def test_an_import_after_a_deletion_has_no_day_before(db: Connection) -> None:
    """The history of a row that an import makes anew names no last day before it."""
    user_id = await add_user(db, 1)
    await db.execute("delete from public.user_streaks where user_id = $1", user_id)
    await db.execute(
        "select * from public.import_user_activity(array[$1::uuid], array[$2::timestamptz])", user_id, NOON
    )
    last = (
        "select version_before, last_active_date from public.streak_history where user_id = $1 order by id desc limit 1"
    )
    assert tuple(await db.fetchrow(last, user_id) or ()) == (1, None)


async def test_a_token_without_a_subject_learns_no_profile(db: Connection) -> None:
    """The zone of a profile is the user's own: a stranger without a `sub` hears of UTC."""
    user_id = await add_user(db)
    await db.execute("insert into public.user_profiles (user_id, timezone) values ($1, 'Asia/Tokyo')", user_id)
    read = "select timezone from public.get_user_streak($1)"
    assert await db.fetchval(read, user_id) == "Asia/Tokyo"
    await db.execute("set local role authenticated")
    assert await db.fetchval(read, user_id) == "UTC"


SHARED = """
create schema private;
create function private.is_member(uuid) returns boolean language sql as 'select true';
grant usage on schema private to authenticated;
grant execute on function private.is_member(uuid) to authenticated;
create table public.user_profiles ({key} uuid primary key references auth.users (id), timezone text);
grant all on public.user_profiles to authenticated;
"""


@pytest.fixture(params=["id", "user_id"])
def shared_database(request: pytest.FixtureRequest, stack: StackInfo) -> Iterator[str]:
    """A migrated database whose platform had a schema `private` and profiles before."""
    scripts = [*supabase_scripts(), SHARED.format(key=request.param), *migration_scripts()]
    with database(stack.database_url, *scripts) as url:
        yield url


async def test_what_the_platform_had_keeps_its_rights(shared_database: str) -> None:
    """A project's own functions in `private`, and its own profiles without policies, stay as they were."""
    connection = await asyncpg.connect(shared_database)
    query = """
        select has_function_privilege('authenticated', 'private.is_member(uuid)', 'execute'),
          has_table_privilege('authenticated', 'public.user_profiles', 'insert'),
          (select relrowsecurity from pg_class where oid = 'public.user_profiles'::regclass)
    """
    assert tuple(await connection.fetchrow(query) or ()) == (True, True, False)
    await connection.close()


@pytest.fixture
def original_database(stack: StackInfo) -> Iterator[str]:
    """A database with the original schema."""
    with database(stack.database_url, *original_scripts()) as url:
        yield url


async def test_a_counter_that_no_calendar_holds_does_not_stop_the_upgrade(original_database: str) -> None:
    """A junk counter of the original is kept as the longest, and the upgrade goes through."""
    user_id = uuid4()
    connection = await asyncpg.connect(original_database)
    await connection.execute("insert into auth.users (id) values ($1)", user_id)
    await connection.execute(
        "insert into public.user_streaks (user_id, current_streak, longest_streak, last_active_date) "
        "values ($1, 3000000, 3000000, '2026-05-20')",
        user_id,
    )
    for script in migration_scripts():
        await connection.execute(script)
    row = await connection.fetchrow("select * from public.user_streaks where user_id = $1", user_id)
    await connection.close()
    assert row is not None
    assert (row["longest_base"], row["longest_streak"], row["run_length"] < 30_000) == (3000000, 3000000, True)
