"""Putting a channel's bindings into force: checked against the publication, the tables and the role's rights."""

import json
import re
from typing import Any

import asyncpg

from .realtime_catalog import load_tables, published_tables
from .realtime_delivery import Entry
from .realtime_filters import CompiledFilter, FilterRefusedError, compile_filter
from .realtime_tokens import Claims
from .subscriptions import Binding, BindingError, binding_id, describe, parse_binding
from .wal import is_outage

__all__ = ["SubscribeError", "claims_text", "enforce", "postgres_message"]


class SubscribeError(Exception):
    """The bindings cannot be put into force; the message is the one that the client gets."""


def claims_text(claims: Claims) -> str:
    """Return claims as policies read them from `request.jwt.claims`."""
    return json.dumps(claims, separators=(",", ":"), sort_keys=True)


def postgres_message(error: asyncpg.PostgresError) -> str:
    """Return an error of PostgreSQL the way the real server's driver prints it."""
    words = re.sub(r"(?<!^)(?=[A-Z])", "_", type(error).__name__.removesuffix("Error")).lower()
    name = {"raise": "raise_exception"}.get(words, words)
    return f"ERROR {error.sqlstate} ({name}) {error.args[0]}"


async def enforce(connection: Any, publication: str, requested: list[dict[str, Any]], claims: Claims) -> list[Entry]:
    """Check bindings and prepare them for delivery: all of them, or none.

    Args:
        connection: A connection with the settings of `wal.connect`.
        publication: The publication's name.
        requested: The entries of a join's `postgres_changes`.
        claims: The subscriber's claims.

    Raises:
        SubscribeError: A binding is malformed, means no published table, or does not fit its table.
        OSError: PostgreSQL cannot be reached.
    """
    try:
        bindings = [parse_binding(params) for params in requested]
    except BindingError as error:
        raise SubscribeError(str(error)) from error
    entries = []
    for params, binding in zip(requested, bindings, strict=True):
        try:
            filters = await _compile(connection, publication, binding, str(claims["role"]))
        except (FilterRefusedError, asyncpg.PostgresError) as error:
            if is_outage(error):
                raise
            reason = (
                postgres_message(error)
                if isinstance(error, asyncpg.PostgresError)
                else f"ERROR P0001 (raise_exception) {error}"
            )
            raise SubscribeError(
                "Unable to subscribe to changes with given parameters. An exception happened so please check your "
                f"connect parameters: {describe(binding)}. Exception: {reason}"
            ) from error
        entries.append(Entry(binding_id(params), binding, filters))
    return entries


async def _compile(connection: Any, publication: str, binding: Binding, role: str) -> dict[int, list[CompiledFilter]]:
    oids = await published_tables(connection, publication, binding.schema, binding.table)
    if not oids:
        raise SubscribeError(
            "Unable to subscribe to changes with given parameters. Please check Realtime is enabled for the given "
            f"connect parameters: {describe(binding)}"
        )
    await connection.fetchval("select quote_ident($1)::regrole::oid", role)
    tables = await load_tables(connection, oids, [role])
    compiled: dict[int, list[CompiledFilter]] = {}
    for oid, table in tables.items():
        readable = {column.name for column in table.columns if role in column.readers}
        compiled[oid] = [await compile_filter(connection, table, condition, role) for condition in binding.filters]
        for column in binding.select or ():
            if column not in readable:
                raise FilterRefusedError(f"invalid column for select {column}")
    return compiled
