"""Reads all rows of streaks in one snapshot into an archive."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from streak_client import _migrations
from streak_client._backup.archive import Manifest, Table, Writer, whole_file
from streak_client._backup.catalog import (
    USERS,
    CatalogTable,
    applied_migrations,
    catalog,
    column_list,
    quoted,
    sequences_of,
)
from streak_client._database import connected

if TYPE_CHECKING:
    from streak_client._database import Connection

# Rows that row level security hides would be missing without a word: fail instead, as pg_dump does. The rest makes
# text that every server reads alike, and keeps a large table from running into a role's time-out.
SETTINGS = """
set local row_security = off;
set local datestyle = 'ISO, YMD';
set local intervalstyle = 'postgres';
set local timezone = 'UTC';
set local extra_float_digits = 3;
set local statement_timeout = 0;
set local idle_in_transaction_session_timeout = 0;
set local search_path = '';
"""


async def back_up(url: str, path: Path, *, force: bool = False, say: Callable[[Table], None] | None = None) -> Manifest:
    """Write a backup of all streaks.

    Args:
        url: The database; a read replica will do.
        path: The file to make: mode 0600, whole or absent.
        force: Whether a file that is there is replaced.
        say: Told of each table that is done.

    Returns:
        What was written.

    Raises:
        StreakError: The database or the file cannot be used; no file was made, and one that was there stays.
    """
    async with connected(url) as connection:
        with whole_file(path, force=force) as file:
            writer = Writer(file)
            try:
                # Every row as of one moment, while others go on writing.
                async with connection.transaction(isolation="repeatable_read", readonly=True):
                    manifest = await _dump(connection, writer, say or (lambda _: None))
                writer.finish(manifest)
            except BaseException:
                writer.abandon()
                raise
    return manifest


async def _dump(connection: Connection, writer: Writer, say: Callable[[Table], None]) -> Manifest:
    await connection.execute(SETTINGS)
    found = await catalog(connection)
    tables = [await _copy(connection, writer, USERS, ("id",), _users(found))]
    for table in found:
        query = f"select {column_list(table.columns)} from {quoted(table.name)}"  # noqa: S608 - quoted
        tables.append(await _copy(connection, writer, table.name, table.columns, query))
        say(tables[-1])
    ours = {migration.version for migration in _migrations.bundled()}
    return Manifest(
        created_at=await connection.fetchval("select pg_catalog.now()"),
        release=version("supabase-streaks"),
        server_version=await connection.fetchval("select pg_catalog.current_setting('server_version')"),
        migrations=tuple(each for each in await applied_migrations(connection) or () if each in ours),
        tables=tuple(tables),
        # Not part of the snapshot, so read last: never behind the rows.
        sequences=await sequences_of(connection, found),
    )


def _users(tables: list[CatalogTable]) -> str:
    """Only ids: who these users are is Auth's to keep, and no backup of streaks should hold addresses."""
    owned = [
        f"select from {quoted(table.name)} t where t.{column_list([column])} = u.id"
        for table in tables
        for column in table.users
    ]
    wanted = " or ".join(f"exists ({query})" for query in owned)
    return f"select u.id from {USERS} u where {wanted}"  # noqa: S608 - a constant


async def _copy(connection: Connection, writer: Writer, name: str, columns: tuple[str, ...], query: str) -> Table:
    with writer.member(f"{name}.csv") as member:
        status = await connection.copy_from_query(query, output=member.write, format="csv", header=True)
        # PostgreSQL says "COPY 42".
        return Table(name=name, columns=columns, rows=int(status.split()[-1]), sha256=member.sha256())
