"""Filters of bindings: checked against the table when a channel subscribes, and applied to changed rows.

Equality of types whose text is canonical, and the order of integers, are decided here; everything else by PostgreSQL.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import asyncpg

from .realtime_catalog import Table, TableColumn
from .subscriptions import Filter
from .wal import is_outage

__all__ = ["CompiledFilter", "FilterRefusedError", "compile_filter"]

_SYMBOLS: Final = {"eq": "=", "neq": "!=", "lt": "<", "lte": "<=", "gt": ">", "gte": ">="}
_SYMBOLS_OF_TEXT: Final = {"like": "like", "ilike": "ilike", "match": "~", "imatch": "~*"}
_KEYWORDS: Final = frozenset({"null", "true", "false", "unknown"})
_INTEGERS: Final = frozenset({20, 21, 23})
# bool, integers, text, varchar, uuid, date, timestamp, timestamptz: equal values have equal text in a UTC session.
_CANONICAL: Final = frozenset({16, 25, 1043, 2950, 1082, 1114, 1184}) | _INTEGERS
_MAX_IN: Final = 100
_BOOL: Final = 16


class FilterRefusedError(ValueError):
    """A filter or a selected column does not fit the table; the message is the one that the client gets."""


@dataclass(slots=True)
class CompiledFilter:
    """A filter bound to its column's type.

    Attributes:
        column: The column's name.
        test: Decides by a value's text, where that can be done here.
        expression: Decides in SQL, over `v` and `$2`, otherwise.
        operand: The value of `$2`.
        answers: What PostgreSQL decided about the values of the current batch.
    """

    column: str
    test: Callable[[str], bool] | None
    expression: str
    operand: str
    answers: dict[str | None, bool] = field(default_factory=dict)

    def matches(self, value: str | None) -> bool:
        """Return whether a value passes; `learn` must have seen it where there is no `test`."""
        if self.test is None:
            return self.answers.get(value, False)
        return value is not None and self.test(value)

    async def learn(self, connection: Any, values: Iterable[str | None]) -> None:
        """Have PostgreSQL decide about the values that a batch of changes contains."""
        if self.test is not None:
            return
        distinct = list(set(values))
        query = (
            f"select array_agg(coalesce({self.expression}, false) order by i) "  # noqa: S608  (built by _expression)
            "from unnest($1::text[]) with ordinality u(v, i) where $2::text is not null"
        )
        try:
            answers = await connection.fetchval(query, distinct, self.operand)
        except asyncpg.PostgresError as error:
            if is_outage(error):
                raise
            answers = [False] * len(distinct)  # no such operator for this type
        self.answers = dict(zip(distinct, answers or [], strict=True))


async def compile_filter(connection: Any, table: Table, condition: Filter, role: str) -> CompiledFilter:
    """Check a filter against its table and prepare it.

    Raises:
        FilterRefusedError: The role may not read the column, or the operator does not fit its type.
        asyncpg.PostgresError: The value is none of the column's type.
    """
    column = next((c for c in table.columns if c.name == condition.column and role in c.readers), None)
    if column is None:
        raise FilterRefusedError(f"invalid column for filter {condition.column}")
    await _check(connection, column, condition)
    expression = _expression(column.sql_type, condition)
    return CompiledFilter(column.name, await _test(connection, column, condition), expression, condition.value)


async def _check(connection: Any, column: TableColumn, condition: Filter) -> None:
    operator, value = condition.operator, condition.value
    if operator == "is":
        _check_keyword(column, value)
    elif operator in _SYMBOLS_OF_TEXT:
        await _check_text_operator(connection, column, operator, value)
    elif operator == "in":
        count = await connection.fetchval(f"select cardinality($1::text::{column.sql_type}[])", value)
        if (count or 0) > _MAX_IN:
            raise FilterRefusedError(f"too many values for `in` filter. Maximum {_MAX_IN}")
    else:
        await connection.fetchval(f"select ($1::text::{column.sql_type}) is null", value)


def _check_keyword(column: TableColumn, value: str) -> None:
    if value not in _KEYWORDS:
        raise FilterRefusedError("invalid value for is filter: must be null, true, false, or unknown")
    if value != "null" and column.type_oid != _BOOL:
        raise FilterRefusedError(f"is {value} filter requires a boolean column, got {column.type_title}")


async def _check_text_operator(connection: Any, column: TableColumn, operator: str, value: str) -> None:
    name = {"like": "~~", "ilike": "~~*"}.get(operator, _SYMBOLS_OF_TEXT[operator])
    known = "select 1 from pg_operator where oprname = $1 and oprleft = $2::oid limit 1"
    if not await connection.fetchval(known, name, column.type_oid):
        raise FilterRefusedError(f"operator {operator} requires a text-compatible column type, got {column.type_title}")
    if operator in ("match", "imatch"):
        try:
            await connection.fetchval("select '' ~ $1::text", value)
        except asyncpg.PostgresError as error:
            raise FilterRefusedError(f"invalid regular expression for {operator} filter: {error}") from error


def _expression(sql_type: str, condition: Filter) -> str:
    value, operand = f"v::{sql_type}", f"$2::text::{sql_type}"
    negation = "not " if condition.negated else ""
    match condition.operator:
        case "is":
            return f"{value} is {negation}{condition.value}"
        case "isdistinct":
            return f"{value} is {'not ' if condition.negated else ''}distinct from {operand}"
        case "in":
            return f"{negation}({value} = any ({operand}[]))"
        case operator:
            symbol = _SYMBOLS.get(operator) or _SYMBOLS_OF_TEXT[operator]
            return f"{negation}({value} {symbol} {operand})"


async def _test(connection: Any, column: TableColumn, condition: Filter) -> Callable[[str], bool] | None:
    operator = condition.operator
    if condition.negated or column.type_oid not in _CANONICAL:
        return None
    if operator == "in":
        texts = f"select array(select x::text from unnest($1::text::{column.sql_type}[]) x)"  # noqa: S608  (from format_type)
        among = frozenset(await connection.fetchval(texts, condition.value))
        return lambda text: text in among
    if operator not in _SYMBOLS:
        return None
    operand: str = await connection.fetchval(f"select ($1::text::{column.sql_type})::text", condition.value)
    if operator in ("eq", "neq"):
        wanted = operator == "eq"
        return lambda text: (text == operand) is wanted
    if column.type_oid not in _INTEGERS:
        return None
    limit = int(operand)
    tests: dict[str, Callable[[str], bool]] = {
        "lt": lambda text: int(text) < limit,
        "lte": lambda text: int(text) <= limit,
        "gt": lambda text: int(text) > limit,
        "gte": lambda text: int(text) >= limit,
    }
    return tests[operator]
