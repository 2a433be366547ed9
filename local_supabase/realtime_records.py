"""The `data` of a change's frame: records, columns, the size limit and the errors that take a record's place."""

from collections.abc import Callable
from datetime import datetime
from functools import lru_cache
from json.encoder import encode_basestring
from typing import Any, Final

from .pgoutput import UNCHANGED, Change, Kind, Value
from .phoenix import dumps
from .realtime_catalog import Table
from .realtime_values import NULL, Encoder

__all__ = ["Plan", "commit_timestamp", "error_data"]

_MAX_RECORD: Final = 1024 * 1024
_SMALL_VALUE: Final = 64
_TOO_LARGE: Final = '["Error 413: Payload Too Large"]'
# What the server's own representation adds to each value, besides the names of the column and its type.
_COLUMN_OVERHEAD: Final = 55
_ROW_OVERHEAD: Final = 150


@lru_cache(maxsize=256)
def commit_timestamp(moment: datetime) -> str:
    """Return an instant in UTC as Realtime writes it: to the millisecond, cut off, not rounded."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"


def error_data(change: Change, error: str) -> str:
    """Return the data of a frame that says only that something happened to a table."""
    data: dict[str, Any] = {
        "table": change.relation.table,
        "type": change.kind.value,
        "record": {},
        "columns": [],
        "errors": [error],
        "schema": change.relation.schema,
        "commit_timestamp": None,
    }
    return dumps(data | ({"old_record": {}} if change.kind is Kind.UPDATE else {}))


class Plan:
    """How one role is told of one table's changes: the columns that it may read and has selected.

    Args:
        table: The table as it is now.
        role: The subscriber's role; the table's columns know whether it may read them.
        select: The columns asked for beside the primary key; None for all.
        encoder: Writes the values.
    """

    def __init__(self, table: Table, role: str, select: tuple[str, ...] | None, encoder: Encoder) -> None:
        shown = [
            column
            for column in table.columns
            if role in column.readers and (select is None or column.name in select or column.is_primary_key)
        ]
        self._writers: list[tuple[str, str, bool, Callable[[str], str]]] = [
            (c.name, encode_basestring(c.name) + ":", c.is_primary_key, encoder.writer(c.type_oid)) for c in shown
        ]
        self._columns = dumps([{"name": c.name, "type": c.type_name} for c in shown])
        self._overhead = {c.name: len(c.name) + len(c.type_name) + _COLUMN_OVERHEAD for c in table.columns}
        self._only_key_of_deleted = table.has_rls

    def data(self, change: Change) -> str:
        """Return the data of the change's frame as JSON text."""
        too_large = self._size(change) > _MAX_RECORD
        relation = change.relation
        parts = [
            f'{{"table":{encode_basestring(relation.table)},"type":"{change.kind.value}"',
            f'"schema":{encode_basestring(relation.schema)}',
            f'"commit_timestamp":"{commit_timestamp(change.committed_at)}"',
            f'"columns":{self._columns}',
            f'"errors":{_TOO_LARGE if too_large else NULL}',
        ]
        if change.kind is not Kind.DELETE:
            parts.append(f'"record":{self._record(_complete(change), too_large=too_large)}')
        if change.kind is not Kind.INSERT:
            key_only = change.kind is Kind.DELETE and self._only_key_of_deleted
            parts.append(f'"old_record":{self._record(change.old, too_large=too_large, key_only=key_only)}')
        return ",".join(parts) + "}"

    def _record(self, row: dict[str, Value], *, too_large: bool, key_only: bool = False) -> str:
        fields = []
        for name, label, is_key, write in self._writers:
            value = row.get(name, UNCHANGED)
            if value is UNCHANGED or (key_only and not is_key):
                continue
            if too_large and (value is None or len((text := write(value)).encode()) > _SMALL_VALUE):
                continue
            fields.append(label + (NULL if value is None else text if too_large else write(value)))
        return "{" + ",".join(fields) + "}"

    def _size(self, change: Change) -> int:
        """Estimate the bytes of the change as the real server measures them, to some dozens per column."""
        values = [*change.new.items(), *change.old.items()]
        size = _ROW_OVERHEAD + sum(len(v) for _, v in values if isinstance(v, str))
        if size * 6 <= _MAX_RECORD:  # six bytes are the most that escaping makes of one
            return size
        texts = [(name, value) for name, value in values if isinstance(value, str)]
        return _ROW_OVERHEAD + sum(len(encode_basestring(v).encode()) + self._overhead.get(n, 0) for n, v in texts)


def _complete(change: Change) -> dict[str, Value]:
    """Return the new row, taking large values that the UPDATE left alone from the old one where that is known."""
    if UNCHANGED not in change.new.values():
        return change.new
    return {name: change.old.get(name, UNCHANGED) if v is UNCHANGED else v for name, v in change.new.items()}
