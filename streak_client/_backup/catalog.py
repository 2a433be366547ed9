"""Which tables belong to streaks, in this database, and how they hang together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from graphlib import TopologicalSorter
from typing import TYPE_CHECKING

from streak_client._backup.archive import Sequence
from streak_client.errors import ConfigurationError

if TYPE_CHECKING:
    from streak_client._database import Connection

USERS = "auth.users"
PROFILES = "public.user_profiles"
OPT_OUT = "leaderboard_opt_out"
_PROFILE_COLUMNS = ("timezone", OPT_OUT)

# By name: a platform has tables of its own that are called alike, such as streak_badges. Those are none of ours.
TABLES = (
    "private.streak_repair_users",
    "private.streak_timezones",
    "public.streak_days",
    "public.streak_history",
    "public.streak_history_archive",
    "public.streak_repairs",
    PROFILES,
    "public.user_streaks",
)
# Profiles are the platform's, and the zones are there after the migrations.
_MERGED = (PROFILES, "private.streak_timezones")
_TABLES = """
select c.oid, n.nspname || '.' || c.relname as name
from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'p') and n.nspname || '.' || c.relname = any ($1::text[])
order by 2
"""
_COLUMNS = """
select a.attname, pg_catalog.pg_get_serial_sequence($2::text, a.attname) as sequence,
  a.attnotnull and not a.atthasdef and a.attidentity = '' as needed,
  exists (
    select from pg_catalog.pg_index i where i.indrelid = a.attrelid and i.indisprimary and a.attnum = any (i.indkey)
  ) as key
from pg_catalog.pg_attribute a
where a.attrelid = $1 and a.attnum > 0 and not a.attisdropped and a.attgenerated = ''
order by a.attnum
"""
_FOREIGN_KEYS = """
select f.conrelid, f.confrelid, f.confrelid = 'auth.users'::regclass as users, a.attname
from pg_catalog.pg_constraint f
join pg_catalog.pg_attribute a on a.attrelid = f.conrelid and a.attnum = f.conkey[1]
where f.contype = 'f' and f.conrelid = any ($1::oid[]) and cardinality(f.conkey) = 1
"""


@dataclass(frozen=True, slots=True)
class CatalogTable:
    """One table.

    Attributes:
        name: With its schema.
        columns: What a backup holds of it.
        key: Its primary key, or what names the user in a profile.
        insertable: Whether a row with these columns alone can be made.
        merged: Whether a restore adds to its rows rather than filling it.
        sequences: Columns that draw from a sequence of the table's own, with that sequence's name.
        users: Columns that refer to ``auth.users``.
    """

    name: str
    columns: tuple[str, ...]
    key: tuple[str, ...]
    insertable: bool
    merged: bool
    sequences: tuple[tuple[str, str], ...]
    users: tuple[str, ...]


def quoted(name: str) -> str:
    """Quote an identifier, or one with its schema.

    Args:
        name: Such as ``public.user_streaks``.

    Returns:
        The same for SQL.
    """
    return ".".join('"' + part.replace('"', '""') + '"' for part in name.split("."))


def column_list(columns: Iterable[str]) -> str:
    """Quote columns.

    Args:
        columns: Their names.

    Returns:
        The list for SQL, without parentheses.
    """
    return ", ".join('"' + column.replace('"', '""') + '"' for column in columns)


async def catalog(connection: Connection) -> list[CatalogTable]:
    """List the tables of streaks.

    Args:
        connection: The database.

    Returns:
        The tables, those that others refer to first.

    Raises:
        ConfigurationError: The migrations have not been applied.
    """
    found = {row["oid"]: row["name"] for row in await connection.fetch(_TABLES, TABLES)}
    if "public.user_streaks" not in found.values():
        raise ConfigurationError(
            "This database has no streaks: run supabase db push --remote with the migrations first."
        )
    keys = await connection.fetch(_FOREIGN_KEYS, list(found))
    order: TopologicalSorter[int] = TopologicalSorter(dict.fromkeys(found, ()))
    for key in keys:
        if key["confrelid"] in found and key["confrelid"] != key["conrelid"]:
            order.add(key["conrelid"], key["confrelid"])
    users = {oid: tuple(key["attname"] for key in keys if key["users"] and key["conrelid"] == oid) for oid in found}
    return [await _table(connection, oid, found[oid], users[oid]) for oid in order.static_order()]


async def _table(connection: Connection, oid: int, name: str, users: tuple[str, ...]) -> CatalogTable:
    rows = await connection.fetch(_COLUMNS, oid, quoted(name))
    columns = [row["attname"] for row in rows]
    key = [row["attname"] for row in rows if row["key"]]
    if name == PROFILES:
        # The platform's own columns are the platform's to keep.
        key = ["user_id" if "user_id" in columns else "id"]
        columns = [column for column in columns if column in (*key, *_PROFILE_COLUMNS)]
    return CatalogTable(
        name=name,
        columns=tuple(columns),
        key=tuple(key),
        insertable=all(row["attname"] in columns for row in rows if row["needed"]),
        merged=name in _MERGED,
        sequences=tuple((row["attname"], row["sequence"]) for row in rows if row["sequence"]),
        users=users,
    )


async def sequences_of(connection: Connection, tables: Iterable[CatalogTable]) -> tuple[Sequence, ...]:
    """Read where the sequences stand.

    Args:
        connection: The database.
        tables: The tables.

    Returns:
        One each.
    """
    found = []
    for table in tables:
        for column, sequence in table.sequences:
            last = await connection.fetchval("select pg_catalog.pg_sequence_last_value($1::text::regclass)", sequence)
            found.append(Sequence(table=table.name, column=column, last_value=last or 0))
    return tuple(found)


async def applied_migrations(connection: Connection) -> list[str] | None:
    """Read which migrations the CLI has applied.

    Args:
        connection: The database.

    Returns:
        Their versions; None where nobody kept account.
    """
    if await connection.fetchval("select to_regclass('supabase_migrations.schema_migrations')") is None:
        return None
    rows = await connection.fetch("select version from supabase_migrations.schema_migrations order by 1")
    return [row["version"] for row in rows]
