"""Logical replication messages, without a database."""

import struct
from datetime import UTC, datetime

import pytest

from local_supabase.pgoutput import UNCHANGED, Change, Decoder, Kind, PgOutputError

OID = 4711
BEGIN = b"B" + struct.pack("!QqI", 1, 820_540_800_000_001, 2)  # 2026-01-01 00:00:00.000001
RELATION = (
    b"R" + struct.pack("!I", OID) + b"public\0things\0d" + struct.pack("!h", 2)
    + b"\x01id\0" + struct.pack("!Ii", 23, -1)
    + b"\x00v\0" + struct.pack("!Ii", 25, -1)
)  # fmt: skip
COMMITTED = datetime(2026, 1, 1, 0, 0, 0, 1, tzinfo=UTC)


def row(*values: object) -> bytes:
    """Build a row; None is null, UNCHANGED a large value that was not logged."""
    parts = [struct.pack("!h", len(values))]
    for value in values:
        if isinstance(value, str):
            text = value.encode()
            parts.append(b"t" + struct.pack("!I", len(text)) + text)
        else:
            parts.append(b"u" if value is UNCHANGED else b"n")
    return b"".join(parts)


def message(kind: bytes, *rest: bytes) -> bytes:
    """Build a message about the table."""
    return kind + struct.pack("!I", OID) + b"".join(rest)


def decode(*messages: bytes) -> list[Change]:
    """Decode messages that follow the description of the table."""
    decoder = Decoder()
    return [change for raw in (BEGIN, RELATION, *messages) if (change := decoder.feed(raw)) is not None]


def test_insert() -> None:
    """An INSERT has the new row, text as it is, null as None, and the time of its commit."""
    (change,) = decode(message(b"I", b"N", row("1", None)), b"C" + bytes(25))
    assert (change.kind, change.new, change.old) == (Kind.INSERT, {"id": "1", "v": None}, {})
    assert change.committed_at == COMMITTED
    assert (change.relation.schema, change.relation.table) == ("public", "things")


@pytest.mark.parametrize(
    ("old", "expected"),
    [
        ((), {"id": "1"}),
        ((b"K", row("0", None)), {"id": "0"}),
        ((b"O", row("0", "x")), {"id": "0", "v": "x"}),
    ],
)
def test_update(old: tuple[bytes, ...], expected: dict[str, str]) -> None:
    """The old row is the key from the new one, the old key, or all of it, as the table's identity has it."""
    (change,) = decode(message(b"U", *old, b"N", row("1", UNCHANGED)))
    assert change.kind is Kind.UPDATE
    assert change.new == {"id": "1", "v": UNCHANGED}
    assert change.old == expected


@pytest.mark.parametrize(("kind", "expected"), [(b"K", {"id": "1"}), (b"O", {"id": "1", "v": None})])
def test_delete(kind: bytes, expected: dict[str, str | None]) -> None:
    """A DELETE has the old key only, or the whole old row with its nulls."""
    (change,) = decode(message(b"D", kind, row("1", None)))
    assert (change.kind, change.new, change.old) == (Kind.DELETE, {}, expected)


def test_truncate_and_others_are_silent() -> None:
    """TRUNCATE, types, origins and logical messages are no changes."""
    assert decode(b"T" + bytes(9), b"Y" + bytes(9), b"O" + bytes(9), b"M" + bytes(9)) == []


def test_a_new_description_replaces_the_old() -> None:
    """After ALTER TABLE the rows are read by the new columns."""
    column = b"\x01id\0" + struct.pack("!Ii", 20, -1)
    narrow = b"R" + struct.pack("!I", OID) + b"\0pg_thing\0d" + struct.pack("!h", 1) + column
    (change,) = decode(narrow, message(b"I", b"N", row("7")))
    assert change.new == {"id": "7"}
    assert change.relation.schema == "pg_catalog"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"?",
        b"B\0",
        message(b"I", b"N", row("1")),
        message(b"I", b"N", row("1", "x"))[:-5],
        message(b"I", b"N", row("1", "x"))[:-1],
        b"I" + struct.pack("!I", 1) + b"N" + row("1", "x"),
        message(b"I", b"N", struct.pack("!h", 2), b"zz"),
    ],
)
def test_malformed_messages_are_errors(raw: bytes) -> None:
    """What does not follow the protocol is refused, not guessed."""
    with pytest.raises(PgOutputError):
        decode(raw)
