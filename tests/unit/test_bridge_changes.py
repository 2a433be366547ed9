from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime_bridge.changes import Delete, PartialRowError, StreakRow, Unreadable, Upsert, parse_change, parse_row

RECORD: dict[str, Any] = {
    "id": "0B9D6A0E-0000-4000-8000-000000000001",
    "user_id": "aaaaaaaa-0000-4000-8000-000000000001",
    "version": 3,
    "run_length": 2,
    "longest_streak": 5,
    "last_active_date": "2026-03-03",
    "timezone": "Europe/Berlin",
    "expires_at": "2026-03-04T23:00:00+00:00",
    "last_activity_at": "2026-03-03T10:00:00.123456+00:00",
}
TRANSCRIPTS = Path(__file__).parents[1] / "data" / "realtime"

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from([*RECORD, "data", "record", "type"]), inner),
)


def payload(kind: str = "UPDATE", **data: Any) -> dict[str, Any]:
    """The payload of a change of one row."""
    return {"data": {"type": kind, "record": RECORD, "errors": None, **data}, "ids": [1]}


def test_an_update_becomes_a_row() -> None:
    """A whole row is taken as it is, with ids in lower case and instants in epoch seconds."""
    change = parse_change(payload())
    assert isinstance(change, Upsert)
    assert change.row.id == "0b9d6a0e-0000-4000-8000-000000000001"
    assert (change.row.version, change.row.run_length, change.row.expires_at) == (3, 2, 1_772_665_200.0)


def test_both_spellings_of_an_instant_are_one_instant() -> None:
    """The short offset of lite and the long one of PostgREST mean the same."""
    short = {**RECORD, "expires_at": "2026-03-04 23:00:00+00", "last_activity_at": "2026-03-03 10:00:00.123456+00"}
    assert parse_row(short) == parse_row(RECORD)


def test_a_delete_carries_only_the_key() -> None:
    """A DELETE is known by the row's id alone."""
    assert parse_change(payload("DELETE", record=None, old_record={"id": "ABC"})) == Delete("abc")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"record": {"id": "R", "user_id": "U"}, "errors": ["Error 413: Payload Too Large"]}, Unreadable("u", "r")),
        ({"errors": ["Error 413: Payload Too Large"]}, Unreadable(RECORD["user_id"], RECORD["id"].lower())),
        ({"record": {}}, Unreadable(None, None)),
        (
            {"record": {k: v for k, v in RECORD.items() if k != "timezone"}},
            Unreadable(RECORD["user_id"], RECORD["id"].lower()),
        ),
        ({"type": "DELETE", "old_record": {}}, Unreadable(None, None)),
    ],
)
def test_what_is_incomplete_names_what_to_read_again(data: dict[str, Any], expected: Unreadable) -> None:
    """A row without all its columns, or with an error, is never taken for a row: it says what must be read again."""
    assert parse_change(payload(**{"kind": "UPDATE", **data} if "type" not in data else data)) == expected


@given(json_values)
def test_nothing_makes_the_parser_raise(value: Any) -> None:
    """Whatever the server sends, a change comes out: an exception here would silence the bridge."""
    for candidate in (value, {"data": value}, payload(record=value), payload("DELETE", old_record=value)):
        if isinstance(candidate, dict):
            assert isinstance(parse_change(candidate), Upsert | Delete | Unreadable)


def test_captured_deletes_are_read() -> None:
    """The DELETE frames of the real server are understood."""
    seen = 0
    for line in (TRANSCRIPTS / "01_basic_service_role_v1.jsonl").read_text().splitlines():
        raw = json.loads(line).get("raw")
        frame = json.loads(raw) if raw else {}
        data = frame.get("payload", {}).get("data", {})
        if data.get("type") == "DELETE":
            # That table's key is the user.
            data["old_record"] = {"id": data["old_record"]["user_id"]}
            assert isinstance(parse_change(frame["payload"]), Delete)
            seen += 1
    assert seen


@pytest.mark.parametrize(("column", "value"), [("version", None), ("expires_at", "2026-03-04"), ("user_id", 7)])
def test_a_row_with_a_wrong_value_is_refused(column: str, value: Any) -> None:
    """A value of the wrong kind makes the row partial instead of wrong."""
    with pytest.raises(PartialRowError):
        parse_row({**RECORD, column: value})


def test_the_streak_is_zero_from_expiry_on() -> None:
    """Before expires_at the run counts, from that instant on it does not."""
    row: StreakRow = parse_row(RECORD)
    assert row.expires_at is not None
    assert (row.streak_at(row.expires_at - 0.001), row.streak_at(row.expires_at)) == (2, 0)
