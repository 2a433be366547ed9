"""Loads the tables of the database benchmark: ours, and those of the original beside them.

Nothing is checked row by row: triggers are off, indexes and constraints are made when the rows are in.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeAlias

import asyncpg
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tests.support.database import STUB, execute, migration_scripts, on_server
from tests.support.original import ORIGINAL

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

NOON = datetime(2026, 7, 15, 12, 1, tzinfo=UTC)
"""The benchmark's present. No local day begins within minutes of it, and clocks change nowhere near."""

_CHUNK = 20_000
_PREPARE = Path(__file__).with_name("database_load.sql")

_HISTORY = """
  b.id, greatest(b.run - g.n - 1, 0), greatest(b.run - g.n, 1), b.run + b.u % 7, b.run + b.u % 7, b.last - g.n,
  b.last - g.n - 1, 'STREAK_INCREMENT', b.zone, {days} - d - 1, {days} - d,
  'b9a2b5e6-6cc6-4b28-8f42-' || (100000000000 + b.u::bigint * 1000 + d), b.at - g.n * interval '1 day'
"""
# The oldest days of a streak longer than the ledger are left out; a gap lies before a shorter one.
_DAYS = """
from bench.users b cross join generate_series({days} - 1, 0, -1) d
cross join lateral (select d + (d >= b.run)::integer as n) g
where b.u >= $1 and b.u < $2
"""
_HISTORY_COLUMNS = """
  user_id, old_current_streak, new_current_streak, old_longest_streak, new_longest_streak, activity_date,
  last_active_date, change_type, timezone, version_before, version_after, request_id, created_at
"""

USERS = """
insert into auth.users (id, email)
select b.id, b.u || '@example.com' from bench.users b where b.u >= $1 and b.u < $2"""
OURS = {
    "public.streak_history": f"""
insert into public.streak_history (
  {_HISTORY_COLUMNS}, duration_ms, version, activity_at, new_last_active_date, expires_at
)
select {_HISTORY}, 0, {{days}} - d, b.at - g.n * interval '1 day', b.last - g.n, b.at - (g.n - 1) * interval '1 day'
{_DAYS}""",
    "public.streak_days": f"""
insert into public.streak_days (user_id, day, kind, activity_at, timezone)
select b.id, b.last - g.n, 'active', b.at - g.n * interval '1 day', b.zone
{_DAYS}""",
    "public.user_streaks": """
insert into public.user_streaks (user_id, current_streak, longest_streak, last_active_date, timezone, version,
  created_at, updated_at, run_length, expires_at, last_activity_at, last_activity_timezone)
select b.id, b.run, b.run + b.u % 7, b.last, b.zone, {days}, b.at - interval '30 days', b.at, b.run,
  private.streak_expires_at(b.last, b.zone), b.at, b.zone
from bench.users b where b.u >= $1 and b.u < $2""",
    "public.user_profiles": """
insert into public.user_profiles (user_id, timezone, leaderboard_opt_out)
select b.id, b.zone, b.u % 100 = 5 from bench.users b where b.u >= $1 and b.u < $2""",
}
THEIRS = {
    "original.streak_history": f"""
insert into original.streak_history ({_HISTORY_COLUMNS})
select {_HISTORY}
{_DAYS}""",
    "original.user_streaks": """
insert into original.user_streaks (user_id, current_streak, longest_streak, last_active_date, timezone, version,
  created_at, updated_at)
select b.id, b.run, b.run + b.u % 7, b.last, b.zone, {days}, b.at - interval '30 days', b.at
from bench.users b where b.u >= $1 and b.u < $2""",
}

# Our indexes as far as the original has the columns: its last_active_date changes with each new day, as our expires_at.
_THEIR_INDEXES = """
drop index original.idx_user_streaks_user_id, original.idx_user_streaks_current, original.idx_user_streaks_longest,
  original.idx_streaks_leaderboard;
create index on original.user_streaks (last_active_date, current_streak desc, user_id) where current_streak > 0;
create index on original.user_streaks (longest_streak desc, user_id);
create unique index on original.streak_history (user_id, version_after);
create unique index on original.streak_history (user_id, request_id) where request_id is not null;
"""

_OBJECTS = """
select c.conrelid::regclass::text as "table", c.contype::text as kind, quote_ident(c.conname) as name,
  format('alter table %s add constraint %I %s', c.conrelid::regclass, c.conname, pg_get_constraintdef(c.oid))
    as definition
from pg_constraint c where c.conrelid = any ($1::text[]::regclass[]) and c.contype in ('p', 'u', 'f')
union all
select i.indrelid::regclass::text, 'i', i.indexrelid::regclass::text, pg_get_indexdef(i.indexrelid)
from pg_index i where i.indrelid = any ($1::text[]::regclass[])
  and not exists (select from pg_constraint c where c.conindid = i.indexrelid and c.contype in ('p', 'u'))
"""


@dataclass(frozen=True)
class DataSet:
    """What to load.

    Attributes:
        users: How many users, a multiple of 10.
        days: Rows of ledger and history for each.
        original: Whether to load the original's tables, too.
    """

    users: int
    days: int
    original: bool = True

    @property
    def tables(self) -> dict[str, str]:
        """The statement that fills each table, the longest first."""
        tables = OURS | (THEIRS if self.original else {})
        ordered = sorted(tables, key=lambda name: ("history" not in name, "days" not in name))
        return {name: tables[name].replace("{days}", str(self.days)) for name in ordered}

    @property
    def marks(self) -> dict[str, int]:
        """What is written into a loaded database, to know it again."""
        return {"users": self.users, "days": self.days, "recipe": _recipe()}


def _recipe() -> int:
    """A number for everything that a loaded database is made from: another one means that it must be loaded anew."""
    made_of = hashlib.sha256()
    for text in (
        *migration_scripts(),
        *OURS.values(),
        *THEIRS.values(),
        original_sql(),
        _THEIR_INDEXES,
        _PREPARE.read_text(),
    ):
        made_of.update(text.encode() + b"\0")
    return int.from_bytes(made_of.digest()[:7])


def original_sql() -> str:
    """The original's schema as the test fixture has it, in a schema of its own."""
    return ORIGINAL.read_text(encoding="utf-8").replace("public.", "original.")


def original_update(shift: str) -> str:
    """The original's update function with a clock that is off by an interval.

    Args:
        shift: The interval as an SQL literal.
    """
    found = re.search(r"create function original\.update_user_streak_atomic.*?\n\$\$;\n", original_sql(), re.DOTALL)
    assert found is not None
    clock = f"(pg_catalog.now() + {shift})"
    return found[0].replace("create function", "create or replace function").replace("now()", clock)


async def is_loaded(server_url: str, name: str, data: DataSet) -> bool:
    """Whether a kept database holds just this data set."""
    try:
        connection = await asyncpg.connect(on_server(server_url, name))
    except asyncpg.InvalidCatalogNameError:
        return False
    try:
        state = {row["name"]: row["value"] for row in await connection.fetch("select name, value from bench.state")}
    except asyncpg.UndefinedTableError:
        return False
    finally:
        await connection.close()
    return all(state.get(name) == value for name, value in data.marks.items())


async def load(server_url: str, name: str, data: DataSet, console: Console) -> float:
    """Makes the database anew and fills it; returns the seconds it took.

    Args:
        server_url: Of any database of the server, in the settings for loading.
        name: Of the database.
        data: What to load.
        console: Where the progress is shown.
    """
    began = time.perf_counter()
    await execute(
        server_url, f"drop database if exists {name} with (force)", f"create database {name} template template0"
    )
    url = on_server(server_url, name)
    prepare = (
        _PREPARE.read_text(encoding="utf-8")
        .replace("{now}", f"{NOON:%Y-%m-%d %H:%M}Z")
        .replace("{users}", str(data.users))
    )
    await execute(url, STUB.read_text(encoding="utf-8"), *migration_scripts())
    if data.original:
        await execute(url, "create schema original", original_sql(), _THEIR_INDEXES)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        await _Load(url, data, progress).run(prepare)
    await execute(url, "drop table bench.users", "checkpoint")
    await _mark(url, data.marks | {"day": 0, "their_day": 0})
    return time.perf_counter() - began


async def _mark(url: str, marks: dict[str, int]) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.executemany("insert into bench.state (name, value) values ($1, $2)", list(marks.items()))
    finally:
        await connection.close()


@dataclass
class _Load:
    url: str
    data: DataSet
    progress: Progress

    async def run(self, prepare: str) -> None:
        task = self.progress.add_task("users", total=1)
        await execute(self.url, "set session_replication_role = replica", prepare)
        await self._fill("auth.users", USERS, [])
        self.progress.advance(task)
        objects = await self._strip()
        own = {
            name: [o["definition"] for o in objects if o["table"] == name and o["kind"] != "f"]
            for name in self.data.tables
        }
        tables = self.data.tables.items()
        await self._two_at_a_time(lambda name=name, sql=sql: self._fill(name, sql, own[name]) for name, sql in tables)  # type: ignore[misc]
        keys = [(f"foreign key {o['name']} of {o['table']}", o["definition"]) for o in objects if o["kind"] == "f"]
        keys += [(f"vacuum {name}", f"vacuum (analyze) {name}") for name in ("auth.users", *self.data.tables)]
        await self._two_at_a_time(lambda what=what, sql=sql: self._step(what, sql) for what, sql in keys)  # type: ignore[misc]

    async def _strip(self) -> list[asyncpg.Record]:
        """Takes indexes and constraints off and returns what they were; foreign keys go first, as they need others."""
        connection = await asyncpg.connect(self.url, server_settings={"search_path": ""})  # names with schemas
        try:
            objects = await connection.fetch(_OBJECTS, list(self.data.tables))
            for o in sorted(objects, key=lambda o: "fiup".index(o["kind"])):
                drop = (
                    f"drop index {o['name']}"
                    if o["kind"] == "i"
                    else f"alter table {o['table']} drop constraint {o['name']}"
                )
                await connection.execute(drop)
        finally:
            await connection.close()
        return objects

    async def _fill(self, name: str, insert: str, definitions: list[str]) -> None:
        task = self.progress.add_task(name, total=self.data.users)
        connection = await asyncpg.connect(self.url)
        try:
            async with connection.transaction():
                await connection.execute("set local session_replication_role = replica")
                await connection.execute(f"truncate {name} cascade")
                for start in range(0, self.data.users, _CHUNK):
                    end = min(start + _CHUNK, self.data.users)
                    await connection.execute(insert, start, end)
                    self.progress.advance(task, end - start)
                for number, definition in enumerate(definitions, 1):
                    self.progress.update(task, description=f"{name}: index {number} of {len(definitions)}")
                    await connection.execute(definition)
        finally:
            await connection.close()
        self.progress.update(task, description=name)

    async def _step(self, what: str, sql: str) -> None:
        task = self.progress.add_task(what, total=1)
        await execute(self.url, sql)
        self.progress.advance(task)

    async def _two_at_a_time(self, jobs: Iterable[Callable[[], Awaitable[None]]]) -> None:
        room = asyncio.Semaphore(2)

        async def one(job: Callable[[], Awaitable[None]]) -> None:
            async with room:
                await job()

        async with asyncio.TaskGroup() as group:
            for job in jobs:
                group.create_task(one(job))
