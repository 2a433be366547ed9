"""`docs/growth/partition.sql`, and the keys that partitions and shards need."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import asyncpg
import pytest

from tests.support.crowd import assert_sound, call, crowd, update
from tests.support.database import execute
from tests.support.machine_runs import run_schedules
from tests.support.migrated import until_waiting
from tests.support.schema import schema_of
from tests.support.streak_machine import StreakMachine

PARTITION = Path(__file__).parents[2] / "docs" / "growth" / "partition.sql"
STEPS_A_SCHEDULE = 25
# What the text of a schema says of plain tables alone: that they are, their columns and grants.
PLAIN_TABLE = re.compile(r"table public\.|public\.(streak_days|streak_history)(\.\w+ (?!comment)| grant )")

SHOWN_AS_USER = """
select (select count(*) from public.streak_days) as days, (select count(*) from public.streak_history) as changes,
  (select count(distinct user_id) from public.streak_days) as users
"""
RIGHTS = """
select c.relname, array_agg(format('%s %s', a.privilege_type, a.grantee::regrole)) as rights
from pg_class c, aclexplode(c.relacl) a
where c.oid in ('public.streak_days'::regclass, 'public.streak_history'::regclass) group by 1
"""
# Tables with a user's rows, and the keys among them that do not hold the user.
KEYS = """
select format('%s %s', c.conrelid::regclass, pg_get_constraintdef(c.oid))
from pg_constraint c
join pg_attribute a on a.attrelid = c.conrelid and a.attname = 'user_id' and not a.attisdropped
where c.connamespace in ('public'::regnamespace, 'private'::regnamespace) and c.contype in ('p', 'u', 'f')
  and not a.attnum = any (c.conkey)
union all
select format('%s %s', i.indrelid::regclass, pg_get_indexdef(i.indexrelid))
from pg_index i
join pg_class t on t.oid = i.indrelid and t.relkind = 'r'
  and t.relnamespace in ('public'::regnamespace, 'private'::regnamespace)
join pg_attribute a on a.attrelid = i.indrelid and a.attname = 'user_id' and not a.attisdropped
where i.indisunique and not a.attnum = any (i.indkey::int2[])
  and not exists (select from pg_constraint c where c.conindid = i.indexrelid and c.contype in ('p', 'u'))
order by 1
"""


async def with_people(url: str, people: int, days: int) -> list[UUID]:
    """Sign up people, and count days for them, the oldest first."""
    connection = await asyncpg.connect(url)
    try:
        ids = [uuid4() for _ in range(people)]
        await connection.execute("insert into auth.users (id) select unnest($1::uuid[])", ids)
        for ago in reversed(range(days)):
            await connection.execute(
                "select public.update_user_streaks_batch($1::uuid[],"
                " array_fill(now() - $2::integer * interval '1 day', array[cardinality($1::uuid[])]))",
                ids,
                ago,
            )
        return ids
    finally:
        await connection.close()


async def rights(url: str) -> dict[str, set[str]]:
    """Who may do what with the two tables."""
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch(RIGHTS)
        return {row["relname"]: set(row["rights"]) for row in rows}
    finally:
        await connection.close()


async def partition(url: str) -> None:
    """Apply the script."""
    await execute(url, PARTITION.read_text(encoding="utf-8"))


async def test_partitions_keep_rows_rights_and_rules(own_database: str) -> None:
    """The script moves every row, keeps policies, grants, triggers, keys and comments, and calls at once stay right."""
    ids = await with_people(own_database, people=60, days=3)
    before, granted = await schema_of(own_database), await rights(own_database)
    await partition(own_database)
    after = await schema_of(own_database)
    assert await rights(own_database) == granted
    kept = {line.replace(" ON ONLY ", " ON ") for line in after}
    lost = [line for line in before if line not in kept and not PLAIN_TABLE.match(line)]
    assert [line for line in lost if "streak_history_pkey" not in line] == []
    assert "public.streak_history constraint streak_history_pkey PRIMARY KEY (id, user_id)" in after

    connection = await asyncpg.connect(own_database)
    try:
        filled = "select count(distinct tableoid) from public.streak_days"
        assert await connection.fetchval("select count(*) from public.streak_days") == 3 * len(ids)
        assert await connection.fetchval(filled) > 8  # ids are random: now and then a partition of 16 gets none
        async with crowd(own_database, 20) as many:
            answers = await many.call([update(ids[n % 2]) for n in range(19)] + [update(ids[5])])
            assert all(isinstance(answer, list) for answer in answers)
        await assert_sound(connection, ids)
        with pytest.raises(asyncpg.PostgresError):
            await connection.execute("update public.streak_history set reason = 'rewritten'")
        async with connection.transaction():
            await connection.execute("select set_config('request.jwt.claims', $1, true)", f'{{"sub": "{ids[0]}"}}')
            await connection.execute("set local role authenticated")
            assert tuple(await connection.fetchrow(SHOWN_AS_USER) or ()) == (3, 3, 1)
        await connection.execute("delete from auth.users where id = $1", ids[0])
        assert await connection.fetchval("select count(*) from public.streak_days") == 3 * len(ids) - 3
    finally:
        await connection.close()


# Each with the lock of a row that holds it up when it has come to some of the tables.
HELD_UP = {
    "update": "auth.users where id",
    "import": "public.user_streaks where user_id",
    "delete": "public.user_streaks where user_id",
}


@pytest.mark.parametrize("name", HELD_UP)
async def test_partitioning_gives_way_to_calls(own_database: str, name: str) -> None:
    """A call that began before the script ends as ever, and the script goes on: no deadlock ends either."""
    user_id, *_ = await with_people(own_database, people=3, days=0 if name == "update" else 2)
    late = datetime.now(UTC) - timedelta(days=3)
    work = {
        "update": update(user_id, late),
        "import": call("import", [user_id], [late]),
        "delete": call("delete", user_id),
    }
    async with crowd(own_database, 3) as people:
        holder, caller, observer = people.members
        held = holder.transaction()
        await held.start()
        await holder.execute(f"select from {HELD_UP[name]} = $1 for update", user_id)
        calling = asyncio.create_task(caller.fetch(work[name]))
        await until_waiting(observer, 1)
        partitioning = asyncio.create_task(partition(own_database))
        await until_waiting(observer, 2)
        await held.rollback()
        await asyncio.gather(calling, partitioning)
    connection = await asyncpg.connect(own_database)
    kind = await connection.fetchval("select relkind from pg_class where oid = 'public.streak_history'::regclass")
    await connection.close()
    assert kind == b"p"


async def test_partitioning_twice_is_refused(own_database: str) -> None:
    """A second run says that the tables are partitioned, and changes nothing."""
    await partition(own_database)
    before = await schema_of(own_database)
    with pytest.raises(asyncpg.RaiseError, match="partitioned already"):
        await partition(own_database)
    assert await schema_of(own_database) == before


@pytest.fixture
async def partitioned_database(clockwork_database: str) -> str:
    """A partitioned database with a clock that turns."""
    await partition(clockwork_database)
    return clockwork_database


def test_rules_hold_on_partitions(partitioned_database: str) -> None:
    """Under random schedules the functions answer and store on partitions what the model says, as they do without."""
    StreakMachine.taken.clear()
    run_schedules(StreakMachine, partitioned_database, 8, derandomize=True, steps=STEPS_A_SCHEDULE)
    assert StreakMachine.taken["step"] > 2 * STEPS_A_SCHEDULE


async def test_keys_that_shards_need(own_database: str) -> None:
    """Every key of a table with users' rows holds user_id, but for those that docs/growth.md says what to do about."""
    connection = await asyncpg.connect(own_database)
    try:
        without = [line for (line,) in await connection.fetch(KEYS)]
    finally:
        await connection.close()
    assert without == [
        "private.streak_repair_users FOREIGN KEY (repair_id) REFERENCES streak_repairs(id) ON DELETE CASCADE",
        "streak_history PRIMARY KEY (id)",
        "user_streaks PRIMARY KEY (id)",
    ]
