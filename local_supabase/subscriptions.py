"""What a channel asks for in `postgres_changes`: bindings, their ids and filters. Decisions only, no I/O.

Messages quote the request the way the real server prints its terms, since clients show them to people.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Final

__all__ = ["Binding", "BindingError", "Filter", "binding_id", "describe", "inspect", "parse_binding"]

_OPERATORS: Final = frozenset(
    {"eq", "neq", "lt", "lte", "gt", "gte", "in", "like", "ilike", "is", "match", "imatch", "isdistinct"}
)
_EVENTS: Final = frozenset({"INSERT", "UPDATE", "DELETE"})
_MAX_ID: Final = 2**27 - 1
_PAIR: Final = 2


class BindingError(ValueError):
    """A binding cannot be understood; the message is the one that the client gets."""


@dataclass(frozen=True, slots=True)
class Filter:
    """One condition of a binding, as in `column=not.operator.value`."""

    column: str
    operator: str
    value: str
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Binding:
    """One parsed entry of a join's `postgres_changes`.

    Attributes:
        event: INSERT, UPDATE, DELETE or `*`.
        schema: A schema, `*` for all.
        table: A table, `*` for all.
        filters: Conditions that must all hold.
        select: The columns wanted beside the primary key; None for all.
    """

    event: str
    schema: str
    table: str
    filters: tuple[Filter, ...] = ()
    select: tuple[str, ...] | None = None


def binding_id(params: object) -> int:
    """Return the id of a requested binding: equal requests have equal ids, and no id is 0."""
    canonical = json.dumps(params, sort_keys=True, separators=(",", ":")).encode()
    digest = hashlib.blake2b(canonical, digest_size=8).digest()
    return int.from_bytes(digest, "big") % _MAX_ID + 1


def parse_binding(params: dict[str, Any]) -> Binding:
    """Read one entry of `postgres_changes`.

    Raises:
        BindingError: Neither schema nor table is given (as text), or `filter` or `select` is malformed.
    """
    select = _select(params)
    schema, table, text = (params.get(key, ...) for key in ("schema", "table", "filter"))
    if isinstance(schema, str) and isinstance(table, str) and (text is ... or isinstance(text, str)):
        filters = () if text is ... else _filters(text)
    elif isinstance(schema, str) and table is ... and text is ...:
        table, filters = "*", ()
    elif schema is ... and isinstance(table, str) and text is ...:
        schema, filters = "public", ()
    else:
        raise BindingError(
            "No subscription params provided. Please provide at least a `schema` or `table` to subscribe to: "
            + inspect(params)
        )
    if select is not None and "*" in (schema, table):
        raise BindingError(
            "Column selection is not supported for wildcard subscriptions. Provide an explicit schema and table name."
        )
    return Binding(_event(params.get("event")), schema, table, filters, select)


def describe(binding: Binding) -> str:
    """Return the binding as error messages quote it."""
    filters = ", ".join(
        f"{{{inspect(f.column)}, {inspect(f.operator)}, {inspect(f.value)}, {inspect(f.negated)}}}"
        for f in binding.filters
    )
    select = inspect(None if binding.select is None else list(binding.select))
    return (
        f"[event: {binding.event}, schema: {binding.schema}, table: {binding.table}, "
        f"filters: [{filters}], select: {select}]"
    )


def inspect(value: object) -> str:
    """Return JSON data in the notation of the real server's language."""
    match value:
        case None:
            return "nil"
        case bool():
            return str(value).lower()
        case str():
            return json.dumps(value, ensure_ascii=False).replace("#{", "\\#{")
        case list():
            return "[" + ", ".join(inspect(item) for item in value) + "]"
        case dict():
            return "%{" + ", ".join(f"{inspect(key)} => {inspect(value[key])}" for key in sorted(value)) + "}"
        case _:
            return json.dumps(value)


def _event(event: object) -> str:
    """Return the event asked for; what the server does not know means all."""
    known = event.upper() if isinstance(event, str) else ""
    return known if known in _EVENTS else "*"


def _select(params: dict[str, Any]) -> tuple[str, ...] | None:
    select = params.get("select")
    if isinstance(select, str):
        raise BindingError(
            'Error parsing `select` params: expected a list of column name strings, e.g. select: ["col1", "col2"]'
        )
    columns = [column for column in select if isinstance(column, str)] if isinstance(select, list) else []
    return tuple(columns) or None


def _filters(text: str) -> tuple[Filter, ...]:
    if not text.strip():
        return ()
    try:
        return tuple(_filter(segment.strip()) for segment in _split(text.strip()))
    except BindingError as error:
        raise BindingError(f"Error parsing `filter` params: {error}") from None


def _split(text: str) -> list[str]:
    """Split at the commas that are neither quoted nor within parentheses."""
    segments, current, depth, quoted, escaped = [], "", 0, False, False
    for at, char in enumerate(text):
        if quoted:
            quoted = escaped or char != '"'
            escaped = char == "\\" and not escaped
        elif char == '"' and at and text[at - 1] in ".(,":
            quoted = True
        elif char == "," and depth == 0:
            segments.append(current)
            current = ""
            continue
        elif char in "()":
            depth = max(0, depth + (1 if char == "(" else -1))
        current += char
    return [*segments, current]


def _filter(segment: str) -> Filter:
    if not segment:
        raise BindingError("filter must not contain empty segments (check for extra commas)")
    column, equals, condition = segment.partition("=")
    if not equals:
        raise BindingError(inspect([segment]))
    negated = condition.startswith("not.")
    parts = condition.removeprefix("not.").split(".", 1)
    if len(parts) != _PAIR or parts[0] not in _OPERATORS:
        raise BindingError(inspect(parts))
    operator, value = parts
    if operator != "in":
        return Filter(column, operator, _unquote(value), negated)
    if not (value.startswith("(") and value.endswith(")") and len(value) >= _PAIR):
        raise BindingError("`in` filter value must be wrapped by parentheses")
    return Filter(column, operator, "{" + value[1:-1] + "}", negated)


def _unquote(value: str) -> str:
    """Take a value out of its quotes, if it is properly quoted as a whole."""
    if not value.startswith('"'):
        return value
    result, escaped = "", False
    for at, char in enumerate(value[1:], start=1):
        if escaped:
            result, escaped = result + char, False
        elif char == "\\":
            escaped = True
        elif char == '"':
            return result if at == len(value) - 1 else value
        else:
            result += char
    return value
