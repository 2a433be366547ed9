"""PostgreSQL's logical replication messages (`pgoutput`, protocol version 1): decoding, no I/O.

Values stay as PostgreSQL wrote them: text in the encoding of the database, here UTF-8.
"""

import struct
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Final

__all__ = ["UNCHANGED", "Change", "Column", "Decoder", "Kind", "PgOutputError", "Relation", "Unchanged", "Value"]

_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
_BEGIN: Final = struct.Struct("!QqI")
_COLUMN: Final = struct.Struct("!Ii")
_U32: Final = struct.Struct("!I")
_I16: Final = struct.Struct("!h")

_NULL, _UNCHANGED, _TEXT = b"nut"
_OLD, _KEY, _NEW = b"OKN"


class PgOutputError(ValueError):
    """A message does not follow the protocol."""


class Unchanged(Enum):
    """The type of UNCHANGED."""

    UNCHANGED = "unchanged"


UNCHANGED: Final = Unchanged.UNCHANGED
"""Stands for a large value that an UPDATE left alone, and which PostgreSQL therefore did not log."""

Value = str | Unchanged | None


class Kind(Enum):
    """What happened to a row."""

    INSERT = "INSERT"
    UPDATE = "UPDATE"
    DELETE = "DELETE"


@dataclass(frozen=True, slots=True)
class Column:
    """A published column; `is_key` says that it belongs to the replica identity."""

    name: str
    type_oid: int
    is_key: bool


@dataclass(frozen=True, slots=True)
class Relation:
    """A published table, as the messages after it use it."""

    oid: int
    schema: str
    table: str
    columns: tuple[Column, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """One committed change of one row.

    Attributes:
        relation: The table.
        kind: What happened.
        new: The row's values by column name (empty for a DELETE).
        old: What is known of the row before (the replica identity; empty for an INSERT).
        committed_at: When the transaction committed, to the microsecond.
    """

    relation: Relation
    kind: Kind
    new: dict[str, Value]
    old: dict[str, Value]
    committed_at: datetime


class Decoder:
    """Turns the messages of one replication slot, fed in order, into changes."""

    def __init__(self) -> None:
        self._relations: dict[int, Relation] = {}
        self._committed_at = _EPOCH

    def feed(self, message: bytes) -> Change | None:
        """Take the next message; return the change that it holds, if any.

        Raises:
            PgOutputError: The message is malformed, or names a table that no message has described.
        """
        try:
            return self._feed(message)
        except (struct.error, IndexError, ValueError) as error:
            if isinstance(error, PgOutputError):
                raise
            raise PgOutputError(f"malformed message of kind {message[:1]!r}") from error

    def _feed(self, message: bytes) -> Change | None:
        match message[:1]:
            case b"I":
                return self._insert(message)
            case b"U":
                return self._update(message)
            case b"D":
                return self._delete(message)
            case b"B":
                _lsn, microseconds, _xid = _BEGIN.unpack_from(message, 1)
                self._committed_at = _EPOCH + timedelta(microseconds=microseconds)
            case b"R":
                relation = _relation(message)
                self._relations[relation.oid] = relation
            case b"C" | b"O" | b"Y" | b"T" | b"M":
                pass
            case kind:
                raise PgOutputError(f"unknown kind of message: {kind!r}")
        return None

    def _described(self, message: bytes) -> Relation:
        oid = _U32.unpack_from(message, 1)[0]
        if oid not in self._relations:
            raise PgOutputError(f"a change of table {oid}, which no message has described")
        return self._relations[oid]

    def _insert(self, message: bytes) -> Change:
        relation = self._described(message)
        new, _end = _tuple(message, 6, relation)
        return Change(relation, Kind.INSERT, new, {}, self._committed_at)

    def _update(self, message: bytes) -> Change:
        relation = self._described(message)
        start = 6
        old = None
        if message[5] != _NEW:
            old, start = _tuple(message, 6, relation)
            old = old if message[5] == _OLD else _identity(old, relation)
            start += 1
        new, _end = _tuple(message, start, relation)
        if old is None:
            old = _identity(new, relation)
        return Change(relation, Kind.UPDATE, new, old, self._committed_at)

    def _delete(self, message: bytes) -> Change:
        relation = self._described(message)
        old, _end = _tuple(message, 6, relation)
        if message[5] == _KEY:
            old = _identity(old, relation)
        return Change(relation, Kind.DELETE, {}, old, self._committed_at)


def _identity(row: dict[str, Value], relation: Relation) -> dict[str, Value]:
    """Keep the columns of the replica identity: the others are null there because they were not logged."""
    return {column.name: row[column.name] for column in relation.columns if column.is_key}


def _string(message: bytes, start: int) -> tuple[str, int]:
    end = message.index(b"\0", start)
    return message[start:end].decode(), end + 1


def _relation(message: bytes) -> Relation:
    oid = _U32.unpack_from(message, 1)[0]
    schema, at = _string(message, 5)
    table, at = _string(message, at)
    at += 1  # the replica identity setting: the columns' own flags say the same
    count = _I16.unpack_from(message, at)[0]
    at += 2
    columns = []
    for _ in range(count):
        is_key = message[at] == 1
        name, at = _string(message, at + 1)
        type_oid, _typmod = _COLUMN.unpack_from(message, at)
        at += _COLUMN.size
        columns.append(Column(name, type_oid, is_key))
    return Relation(oid, schema or "pg_catalog", table, tuple(columns))


def _tuple(message: bytes, start: int, relation: Relation) -> tuple[dict[str, Value], int]:
    """Read a row that starts at `start`; return its values and where it ends."""
    count = _I16.unpack_from(message, start)[0]
    if count != len(relation.columns):
        raise PgOutputError(f"a row of {count} columns for a table of {len(relation.columns)}")
    at = start + 2
    row: dict[str, Value] = {}
    for column in relation.columns:
        kind = message[at]
        at += 1
        if kind == _TEXT:
            size = _U32.unpack_from(message, at)[0]
            at += 4
            row[column.name] = message[at : at + size].decode()
            at += size
            if at > len(message):
                raise PgOutputError("a row is cut off")
        elif kind == _NULL:
            row[column.name] = None
        elif kind == _UNCHANGED:
            row[column.name] = UNCHANGED
        else:
            raise PgOutputError(f"unknown kind of value: {kind}")
    return row, at
