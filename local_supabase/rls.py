"""Row level security as PostgreSQL itself applies it: who sees which changed row, who may use which private channel.

Nothing is decided here. A subscriber's role and claims are set for the moment, and the row is looked for by its primary
key; a row that is gone, or that the policies hide, is not found.
"""

from collections.abc import Sequence
from typing import Any, Final

import asyncpg

from .realtime_catalog import Table

__all__ = ["CREATE_FUNCTIONS", "channel_allowed", "quote", "visible_rows"]

CREATE_FUNCTIONS: Final = """
create or replace function pg_temp.visible_rows(role_name text, claim_sets text[], query text, keys text[])
returns table (claims_at int, row_at int)
language plpgsql as $$
declare
  found int[];
begin
  for at in 1 .. coalesce(array_length(claim_sets, 1), 0) loop
    begin
      perform set_config('role', role_name, true), set_config('request.jwt.claims', claim_sets[at], true);
      execute query into found using keys;
    exception when others then
      found := null;  -- a policy that fails shows nothing
    end;
    perform set_config('role', 'none', true), set_config('request.jwt.claims', '', true);
    return query select at, unnest(found);
  end loop;
end $$
"""
_HAS_MESSAGES: Final = "select to_regclass('realtime.messages') is not null"


def quote(identifier: str) -> str:
    """Quote an identifier for SQL."""
    return '"' + identifier.replace('"', '""') + '"'


def _query(table: Table) -> str:
    key = table.primary_key
    names = ", ".join(f"k{at}" for at in range(len(key)))
    same = " and ".join(f"t.{quote(column.name)} = u.k{at}::{column.sql_type}" for at, column in enumerate(key))
    rows = ", ".join(f"unnest(($1)[{at + 1}:{at + 1}][:])" for at in range(len(key)))
    return (
        f"select array_agg(u.i::int) from rows from ({rows}) with ordinality u({names}, i) "  # noqa: S608  (quoted above)
        f"where exists (select 1 from {quote(table.schema)}.{quote(table.name)} t where {same})"
    )


async def visible_rows(
    connection: Any, table: Table, role: str, claim_sets: Sequence[str], keys: Sequence[Sequence[str]]
) -> list[set[int]]:
    """Return, for each set of claims, which of the rows its bearer sees now.

    Args:
        connection: A connection on which CREATE_FUNCTIONS ran.
        table: The rows' table; it has a primary key.
        role: The subscribers' role.
        claim_sets: Each subscriber's claims as JSON text.
        keys: The primary key of each row, as text in the order of `table.primary_key`.

    Returns:
        Positions in `keys`, from 0, one set for each of `claim_sets`.
    """
    columns = [list(column) for column in zip(*keys, strict=True)]
    call = "select claims_at, row_at from pg_temp.visible_rows($1, $2, $3, $4)"
    found: list[set[int]] = [set() for _ in claim_sets]
    for claims_at, row_at in await connection.fetch(call, role, list(claim_sets), _query(table), columns):
        found[claims_at - 1].add(row_at - 1)
    return found


async def channel_allowed(  # noqa: PLR0913  (a policy sees all of it)
    connection: Any, topic: str, role: str, claims: str, *, extension: str, write: bool
) -> bool:
    """Return whether the policies on `realtime.messages` let a user read from or write to a private channel.

    As the real server does it, a message is written and looked for under the user's role, and then undone.

    Args:
        connection: Any connection; it must not be in a transaction.
        topic: The channel's name, without `realtime:`.
        role: The user's role.
        claims: The user's claims as JSON text.
        extension: `broadcast` or `presence`, as policies distinguish them.
        write: Whether to ask for the right to send.
    """
    if not await connection.fetchval(_HAS_MESSAGES):
        return False
    insert = "insert into realtime.messages (topic, extension) values ($1, $2)"
    become = (
        "select set_config('role', $1, true), set_config('request.jwt.claims', $2, true), "
        "set_config('realtime.topic', $3, true)"
    )
    transaction = connection.transaction()
    await transaction.start()
    try:
        if not write:
            await connection.execute(insert, topic, extension)
        await connection.fetchrow(become, role, claims, topic)
        if write:
            await connection.execute(insert, topic, extension)
            return True
        query = "select exists (select 1 from realtime.messages where topic = $1 and extension = $2)"
        return bool(await connection.fetchval(query, topic, extension))
    except asyncpg.PostgresError:
        return False
    finally:
        await transaction.rollback()
