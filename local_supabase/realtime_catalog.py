"""What Realtime must know about published tables: columns, keys, row level security, and who may read which column."""

from dataclasses import dataclass
from typing import Any, Final

__all__ = ["Table", "TableColumn", "load_tables", "publication_tables", "published_tables"]

_PUBLISHED: Final = """
select c.oid::int8
from pg_publication_tables p
join pg_namespace n on n.nspname = p.schemaname
join pg_class c on c.relnamespace = n.oid and c.relname = p.tablename
where p.pubname = $1
  and p.schemaname like (case $2 when '*' then '%' else $2 end) escape ''
  and p.tablename like (case $3 when '*' then '%' else $3 end) escape ''
order by c.oid
"""
_ALL_PUBLISHED: Final = """
select array_agg(c.oid::int8 order by c.oid)
from pg_publication_tables p
join pg_namespace n on n.nspname = p.schemaname
join pg_class c on c.relnamespace = n.oid and c.relname = p.tablename
where p.pubname = $1
"""
_TABLES: Final = """
select c.oid::int8, n.nspname::text, c.relname::text, c.relrowsecurity,
  a.attname::text, t.typname::text,
  quote_ident(tn.nspname) || '.' || quote_ident(t.typname), a.atttypid::regtype::text, a.atttypid::int8,
  coalesce(a.attnum = any(k.conkey), false),
  array(select r from unnest($2::text[]) r
        where to_regrole(quote_ident(r)) is not null
          and has_column_privilege(to_regrole(quote_ident(r)), c.oid, a.attnum, 'select'))
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
join pg_type t on t.oid = a.atttypid
join pg_namespace tn on tn.oid = t.typnamespace
left join pg_constraint k on k.conrelid = c.oid and k.contype = 'p'
where c.oid = any($1::oid[])
order by c.oid, a.attnum
"""


@dataclass(frozen=True, slots=True)
class TableColumn:
    """A column, with its type in several notations.

    Attributes:
        name: Its name.
        type_name: The type as Realtime names it.
        sql_type: The type for casts: with its schema, and without the length that a bare `bit` would imply.
        type_title: The type as PostgreSQL's messages name it.
        type_oid: The type's oid.
        is_primary_key: Whether it belongs to the primary key.
        readers: The roles, of those asked for, that may read it.
    """

    name: str
    type_name: str
    sql_type: str
    type_title: str
    type_oid: int
    is_primary_key: bool
    readers: frozenset[str]


@dataclass(frozen=True, slots=True)
class Table:
    """A table, as it is now."""

    oid: int
    schema: str
    name: str
    has_rls: bool
    columns: tuple[TableColumn, ...]

    @property
    def primary_key(self) -> tuple[TableColumn, ...]:
        """The columns of the primary key; empty without one."""
        return tuple(column for column in self.columns if column.is_primary_key)


async def published_tables(connection: Any, publication: str, schema: str, table: str) -> list[int]:
    """Return the oids of the published tables that a binding means; `*` and LIKE's wildcards match as on the server."""
    return [oid for (oid,) in await connection.fetch(_PUBLISHED, publication, schema, table)]


async def publication_tables(connection: Any, publication: str) -> tuple[int, ...]:
    """Return the oids of all published tables."""
    return tuple(await connection.fetchval(_ALL_PUBLISHED, publication) or ())


async def load_tables(connection: Any, oids: list[int], roles: list[str]) -> dict[int, Table]:
    """Read tables by oid; those that exist no longer are missing from the answer."""
    tables: dict[int, Table] = {}
    for (
        oid,
        schema,
        name,
        has_rls,
        column,
        type_name,
        sql_type,
        title,
        type_oid,
        is_key,
        readers,
    ) in await connection.fetch(_TABLES, oids, roles):
        known = tables.get(oid)
        added = TableColumn(column, type_name, sql_type, title, type_oid, is_key, frozenset(readers))
        tables[oid] = Table(oid, schema, name, has_rls, (*(known.columns if known else ()), added))
    return tables
