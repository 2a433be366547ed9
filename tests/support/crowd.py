"""Many connections that call at the same instant, and what must hold of the rows afterwards."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any
from uuid import UUID, uuid4

import asyncpg

from tests.support.migrated import Connection, until_waiting

LOCK, UNLOCK = "select pg_advisory_lock(4711)", "select pg_advisory_unlock(4711)"
# A call waits at the gate inside PostgreSQL, so that all of a crowd begin at one instant, whatever Python is doing.
GATED_CALL = """
create schema crowd;
create function crowd.call(p_query text) returns setof jsonb language plpgsql as $$
begin
  perform pg_advisory_lock_shared(4711);
  perform pg_advisory_unlock_shared(4711);
  return query execute format('select to_jsonb(r) from (%s) r', p_query);
end
$$;
create function crowd.remove(p_user_id uuid) returns void language sql as $$
  delete from auth.users where id = p_user_id
$$;
"""
CALLS = {
    "update": "select * from public.update_user_streak_atomic({}, {}, {}, {})",
    "batch": "select * from public.update_user_streaks_batch({}, {})",
    "sweep": "select * from public.expire_lapsed_streaks({})",
    "import": "select * from public.import_user_activity({}, {})",
    "recover": "select * from public.recover_user_streak({}, {}, {}, 'an outage')",
    "rebuild": "select * from public.rebuild_user_streak({})",
    "read": "select * from public.get_user_streak({})",
    "delete": "select crowd.remove({})",
    "explain": "select * from public.explain_user_streak({})",
    "undo": "select * from public.undo_user_activity({}, {}, 'a mistake')",
    "merge": "select * from public.merge_user_streaks({}, {}, 'one person')",
    "erase": "select * from public.erase_user_streak({})",
    "repair": "select * from public.continue_streak_repair({}, {})",
    "undo repair": "select * from public.undo_streak_repair({}, {})",
    "archive": "select * from public.archive_streak_history('30 days', {})",
}


def literal(value: object) -> str:
    """A value as SQL text; only for what tests make up themselves."""
    if value is None:
        return "null"
    if isinstance(value, (list, tuple)):
        return "array[" + ", ".join(literal(one) for one in value) + "]"
    if isinstance(value, bool | int):
        return str(value)
    kind = {UUID: "::uuid", datetime: "::timestamptz", date: "::date"}.get(type(value), "")
    return f"'{value}'{kind}"


def call(name: str, *arguments: object) -> str:
    """The text of a call."""
    return CALLS[name].format(*map(literal, arguments))


def update(user_id: UUID, at: datetime | None = None, request_id: str | None = None) -> str:
    """The text of a single update."""
    return call("update", user_id, None, request_id, at)


Outcome = list[dict[str, Any]] | asyncpg.PostgresError


@dataclass
class Crowd:
    """Connections to one database, and one more for the conductor."""

    members: list[Connection]
    conductor: Connection

    async def call(self, queries: Sequence[str], *, clocks: Sequence[datetime] = ()) -> list[Outcome]:
        """Run one query on each of the first connections at the same instant.

        Args:
            queries: At most as many as there are members.
            clocks: What the members' clocks say, in turn; the real time without.

        Returns:
            For each its rows, or the error of the database.
        """
        for n, member in enumerate(self.members[: len(queries)]):
            now = clocks[n % len(clocks)].isoformat() if clocks else ""
            await member.execute("select set_config('streaks.test_now', $1, false)", now)
        await self.conductor.execute(LOCK)
        calls = [
            asyncio.create_task(self._one(member, query)) for member, query in zip(self.members, queries, strict=False)
        ]
        await until_waiting(self.conductor, len(calls))
        await self.conductor.execute(UNLOCK)
        return await asyncio.gather(*calls)

    async def _one(self, member: Connection, query: str) -> Outcome:
        try:
            rows = await member.fetch("select call from crowd.call($1)", query)
        except asyncpg.PostgresError as error:
            return error
        return [json.loads(row["call"]) for row in rows]

    async def users(self, count: int) -> list[UUID]:
        """Sign up users."""
        ids = [uuid4() for _ in range(count)]
        await self.conductor.execute("insert into auth.users (id) select unnest($1::uuid[])", ids)
        return ids

    async def days(self, user_id: UUID) -> list[date]:
        """The ledger of a user."""
        rows = await self.conductor.fetch("select day from public.streak_days where user_id = $1 order by day", user_id)
        return [row["day"] for row in rows]


@asynccontextmanager
async def crowd(url: str, size: int) -> AsyncIterator[Crowd]:
    """Open a crowd's connections; PostgreSQL must find no deadlock while they are open."""
    conductor = await asyncpg.connect(url)
    await conductor.execute("drop schema if exists crowd cascade;" + GATED_CALL)
    members: list[Connection] = []
    try:
        for start in range(0, size, 20):
            members += await asyncio.gather(*(asyncpg.connect(url) for _ in range(min(20, size - start))))
        before = await deadlocks(conductor)
        yield Crowd(members, conductor)
        assert await deadlocks(conductor) == before
    finally:
        await asyncio.gather(*(member.close() for member in members))
        await conductor.close()


async def deadlocks(connection: Connection) -> int:
    """How many deadlocks PostgreSQL has ended in this database; its sessions report them when they go idle."""
    await connection.execute("select pg_stat_force_next_flush()")
    count = await connection.fetchval("select deadlocks from pg_stat_database where datname = current_database()")
    assert isinstance(count, int)
    return count


async def assert_sound(connection: Connection, user_ids: Iterable[UUID]) -> None:
    """No lost update: versions, history and ledger of each user tell one story."""
    rows = await connection.fetch(
        """
        select s.user_id, s.version, s.run_length, s.longest_streak,
          (select array_agg(h.version_after order by h.id)
           from public.streak_history h where h.user_id = s.user_id) as versions,
          (select bool_and(h.old_current_streak = h.previous) from (
             select h.old_current_streak, lag(h.new_current_streak, 1, 0) over (order by h.version) as previous
             from public.streak_history h where h.user_id = s.user_id) h) as chained,
          c.run_length as counted, c.last_day = s.last_active_date as last_agrees
        from public.user_streaks s left join private.count_runs($1) c on c.user_id = s.user_id
        where s.user_id = any ($1)
        """,
        list(user_ids),
    )
    for row in rows:
        assert row["versions"] == list(range(1, row["version"] + 1)), row["user_id"]
        assert (row["chained"], row["last_agrees"]) == (True, True), row["user_id"]
        assert row["run_length"] == row["counted"] <= row["longest_streak"], row["user_id"]
