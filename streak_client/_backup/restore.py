"""Puts an archive's rows into a database: all of them in one transaction, or none."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from streak_client._backup.archive import Manifest, Reader, Table
from streak_client._backup.catalog import (
    OPT_OUT,
    TABLES,
    USERS,
    CatalogTable,
    applied_migrations,
    catalog,
    column_list,
    quoted,
)
from streak_client._backup.dump import SETTINGS
from streak_client._database import connected
from streak_client.errors import ConfigurationError, InvalidInputError, UserNotFoundError

if TYPE_CHECKING:
    from streak_client._database import Connection

LOCK_SECONDS = 60
_TRIGGERS = """
select t.tgname from pg_catalog.pg_trigger t
where t.tgrelid = $1::text::regclass and not t.tgisinternal and t.tgenabled = 'O' order by 1
"""

_REFERRING = """
select distinct n.nspname || '.' || c.relname as name
from pg_catalog.pg_constraint f
join pg_catalog.pg_class c on c.oid = f.conrelid join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where f.contype = 'f' and f.conparentid = 0 and f.confrelid = any ($1::text[]::regclass[])
  and n.nspname || '.' || c.relname <> all ($2::text[])
order by 1
"""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a restore may do.

    Attributes:
        create_users: Make users whom the target lacks, with an id and nothing else.
        replace: Delete the streaks that the target has.
        dry_run: Take everything back at the end.
    """

    create_users: bool = False
    replace: bool = False
    dry_run: bool = False


async def restore(url: str, path: Path, plan: Plan, say: Callable[[Table], None] | None = None) -> Manifest:
    """Restore a backup.

    Args:
        url: The database, migrated; as the owner of the tables.
        path: The archive.
        plan: What may be done.
        say: Told of each table that is done.

    Returns:
        What was restored.

    Raises:
        StreakError: The archive is damaged, or the database is not ready for it; nothing was changed.
    """
    reader = Reader(path)
    try:
        reader.verify()
        async with connected(url) as connection:
            transaction = connection.transaction()
            await transaction.start()
            try:
                await _Restore(connection, reader, plan, say or (lambda _: None)).run()
            except BaseException:
                await transaction.rollback()
                raise
            if plan.dry_run:
                await transaction.rollback()
                return reader.manifest
            await transaction.commit()
            # The planner knows nothing of the new rows until somebody looks.
            for table in reader.manifest.tables:
                if table.name != USERS:
                    await connection.execute(f"analyze {quoted(table.name)}")
        return reader.manifest
    finally:
        reader.close()


class _Restore:
    def __init__(self, connection: Connection, reader: Reader, plan: Plan, say: Callable[[Table], None]) -> None:
        self._connection = connection
        self._reader = reader
        self._manifest = reader.manifest
        self._plan = plan
        self._say = say

    async def run(self) -> None:
        await self._connection.execute(f"{SETTINGS} set local lock_timeout = '{LOCK_SECONDS}s'")
        await self._check_migrations()
        target = {table.name: table for table in await catalog(self._connection)}
        self._check_columns(target)
        filled = [table for table in target.values() if not table.merged]
        # Readers go on reading; writers wait, and then find their streaks.
        names = ", ".join(quoted(table.name) for table in filled)
        await self._connection.execute(f"lock table {names} in share row exclusive mode")
        await self._check_empty(filled)
        triggers = await self._triggers(filled)
        for name, trigger in triggers:
            await self._connection.execute(f"alter table {name} disable trigger {trigger}")
        await self._empty(filled)
        await self._users()
        for saved in self._manifest.tables:
            if saved.name == USERS or saved.name not in target:
                continue
            table = target[saved.name]
            await (self._merge(saved, table) if table.merged else self._fill(saved))
            self._say(saved)
        for name, trigger in triggers:
            await self._connection.execute(f"alter table {name} enable trigger {trigger}")
        await self._sequences(target)

    async def _check_migrations(self) -> None:
        applied = await applied_migrations(self._connection)
        missing = [] if applied is None else [each for each in self._manifest.migrations if each not in applied]
        if missing:
            raise ConfigurationError(
                f"The backup is of a database with the migrations {', '.join(missing)}, which this one lacks: run "
                "supabase db push --remote first."
            )

    def _check_columns(self, target: dict[str, CatalogTable]) -> None:
        for saved in self._manifest.tables:
            if saved.name == USERS:
                continue
            there = target[saved.name].columns if saved.name in target else ()
            unknown = [column for column in saved.columns if column not in there]
            if unknown and saved.rows:
                what = ", ".join(f"{saved.name}.{column}" for column in unknown)
                raise ConfigurationError(f"This database lacks {what}: run supabase db push --remote first.")

    async def _check_empty(self, filled: list[CatalogTable]) -> None:
        names = [each.name for each in filled]
        if self._plan.replace:
            await self._check_referring(names)
        elif full := await self._with_rows(names):
            raise InvalidInputError(
                f"This database has rows in {', '.join(full)}; nothing was changed. --replace deletes them first: "
                "every streak that it holds now.",
                field="replace",
            )

    async def _check_referring(self, names: list[str]) -> None:
        rows = await self._connection.fetch(_REFERRING, [quoted(name) for name in names], TABLES)
        # Deleting what they refer to would delete or change their rows: the platform's, which no backup of ours holds.
        if full := await self._with_rows([row["name"] for row in rows]):
            raise InvalidInputError(
                f"Rows of {', '.join(full)} refer to streaks; nothing was changed. Save and empty these tables, or "
                "drop their foreign keys to streaks, before --replace.",
                field="replace",
            )

    async def _with_rows(self, names: list[str]) -> list[str]:
        query = "select exists (select from {})"
        return [each for each in names if await self._connection.fetchval(query.format(quoted(each)))]

    async def _triggers(self, filled: list[CatalogTable]) -> list[tuple[str, str]]:
        # What they would do to a row is in the row already, and its history beside it. Foreign keys stay checked.
        found = []
        for table in filled:
            rows = await self._connection.fetch(_TRIGGERS, quoted(table.name))
            found += [(quoted(table.name), column_list([row["tgname"]])) for row in rows]
        return found

    async def _empty(self, filled: list[CatalogTable]) -> None:
        if self._plan.replace:
            for table in reversed(filled):
                # No truncate: Realtime tells nobody of it.
                await self._connection.execute(f"delete from {quoted(table.name)}")  # noqa: S608 - quoted

    async def _users(self) -> None:
        (saved,) = [table for table in self._manifest.tables if table.name == USERS]
        staged = await self._stage(saved)
        missing = f"select s.id from {staged} s where not exists (select from {USERS} u where u.id = s.id)"  # noqa: S608
        count = await self._connection.fetchval(f"select count(*) from ({missing}) m")  # noqa: S608 - our own text
        if not count:
            return
        if not self._plan.create_users:
            raise UserNotFoundError(
                f"{count} of the backup's {saved.rows} users are not in auth.users; nothing was changed. Restore Auth "
                "first, or let --create-users make them: with their ids, without addresses and passwords.",
                field="create_users",
            )
        names = await self._connection.fetch(
            "select attname from pg_catalog.pg_attribute where attrelid = 'auth.users'::regclass and not attisdropped "
            "and attname = any (array['aud', 'role']) order by 1"
        )
        columns = column_list(["id", *(row["attname"] for row in names), "created_at"])
        values = ", ".join(["m.id", *("'authenticated'" for _ in names), "pg_catalog.now()"])
        await self._connection.execute(f"insert into {USERS} ({columns}) select {values} from ({missing}) m")  # noqa: S608

    async def _fill(self, saved: Table) -> None:
        if saved.rows:
            await self._load(saved, *saved.name.split("."))

    async def _merge(self, saved: Table, table: CatalogTable) -> None:
        staged = await self._stage(saved)
        columns, name = column_list(saved.columns), quoted(saved.name)
        same = " and ".join(f"t.{column_list([each])} = s.{column_list([each])}" for each in table.key)
        rest = [each for each in saved.columns if each not in table.key and each not in dict(table.sequences)]
        if rest:
            values = ", ".join(f"{column_list([each])} = {_merged(each)}" for each in rest)
            await self._connection.execute(f"update {name} t set {values} from {staged} s where {same}")  # noqa: S608
        if table.insertable:
            missing = f"select {columns} from {staged} s where not exists (select from {name} t where {same})"  # noqa: S608
            await self._connection.execute(f"insert into {name} ({columns}) overriding system value {missing}")

    async def _stage(self, saved: Table) -> str:
        name = f"restored_{saved.name.replace('.', '_')}"
        columns = column_list(saved.columns)
        await self._connection.execute(
            f'create temporary table "{name}" on commit drop as '  # noqa: S608 - quoted
            f"select {columns} from {quoted(saved.name)} with no data"
        )
        await self._load(saved, "pg_temp", name)
        return f'pg_temp."{name}"'

    async def _load(self, saved: Table, schema: str, name: str) -> None:
        async def chunks() -> AsyncIterator[bytes]:
            for chunk in self._reader.chunks(saved):
                yield chunk

        status = await self._connection.copy_to_table(
            name, schema_name=schema, source=chunks(), columns=list(saved.columns), format="csv", header=True
        )
        if int(status.split()[-1]) != saved.rows:
            raise self._reader.damaged(f"{saved.member} has other rows than its manifest says")

    async def _sequences(self, target: dict[str, CatalogTable]) -> None:
        if self._plan.dry_run:
            return  # a rollback takes no sequence back
        saved = {(each.table, each.column): each.last_value for each in self._manifest.sequences}
        for table in target.values():
            for column, sequence in table.sequences:
                highest = f"select pg_catalog.max({column_list([column])}) from {quoted(table.name)}"  # noqa: S608
                last = max(await self._connection.fetchval(highest) or 0, saved.get((table.name, column), 0))
                # Only ever forwards: were the commit to fail, the rows that were there would still be below it.
                await self._connection.execute(
                    "select pg_catalog.setval($1::text::regclass, $2::bigint) "
                    "where $2 > coalesce(pg_catalog.pg_sequence_last_value($1::text::regclass), 0)",
                    sequence,
                    last,
                )


def _merged(column: str) -> str:
    """What a row that is there gets: who opted out since the backup stays out of the leaderboard."""
    name = column_list([column])
    return f"case when t.{name} then true else s.{name} end" if column == OPT_OUT else f"s.{name}"
