"""Frames of Phoenix channels, without a server."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local_supabase.phoenix import (
    V1,
    V2,
    FrameError,
    Message,
    UserBroadcast,
    Vsn,
    decode_binary,
    decode_text,
    encode,
    encode_reply,
    encode_user_broadcast,
    negotiate,
)

JOIN = Message("1", "2", "realtime:x", "phx_join", {"a": 1})


@pytest.mark.parametrize(
    ("vsn", "accepted"),
    [
        (None, V1),
        ("1.0.0", V1),
        ("2.0.0", V2),
        ("2.0.9", V2),
        ("3.0.0", None),
        ("2.1.0", None),
        ("abc", None),
        ("", None),
    ],
)
def test_negotiate(vsn: str | None, accepted: str | None) -> None:
    """Without a version the client speaks 1.0.0; only patch levels of 1.0 and 2.0 are spoken."""
    assert negotiate(vsn) == accepted


@pytest.mark.parametrize(
    ("vsn", "raw"),
    [
        (V1, '{"topic":"realtime:x","event":"phx_join","payload":{"a":1},"ref":"2","join_ref":"1"}'),
        (V2, '["1","2","realtime:x","phx_join",{"a":1}]'),
    ],
)
def test_decode(vsn: Vsn, raw: str) -> None:
    """Both versions carry the same five parts."""
    assert decode_text(vsn, raw) == JOIN


@pytest.mark.parametrize(
    ("vsn", "raw"),
    [
        (V1, "hello"),
        (V1, "5"),
        (V1, "[]"),
        (V1, '["1","2","t","e",{}]'),
        (V1, '{"topic":"t","event":"e","payload":{}}'),
        (V1, '{"topic":"t","event":"e","ref":"1"}'),
        (V1, '{"topic":5,"event":"e","payload":{},"ref":"1"}'),
        (V2, "{}"),
        (V2, '["1","2","t","e"]'),
        (V2, '["1","2","t",null,{}]'),
        (V2, '{"topic":"t","event":"e","payload":{},"ref":"1"}'),
    ],
)
def test_malformed_text_is_refused(vsn: Vsn, raw: str) -> None:
    """A frame that is not JSON, of the other version, or incomplete is an error, not a message."""
    with pytest.raises(FrameError):
        decode_text(vsn, raw)


def test_a_join_ref_may_be_missing_in_version_1() -> None:
    """Version 1 clients may leave the join's reference out."""
    assert decode_text(V1, '{"topic":"t","event":"e","payload":{},"ref":null}') == Message(None, None, "t", "e", {})


def test_replies() -> None:
    """A channel's reply names the join in version 2; version 1 never does."""
    assert json.loads(encode_reply(V1, JOIN, "ok", {}, joined=True)) == {
        "ref": "2",
        "event": "phx_reply",
        "topic": "realtime:x",
        "payload": {"status": "ok", "response": {}},
    }
    reply = {"status": "error", "response": {"reason": "x"}}
    assert json.loads(encode_reply(V2, JOIN, "error", {"reason": "x"}, joined=False)) == [
        None,
        "2",
        "realtime:x",
        "phx_reply",
        reply,
    ]
    assert json.loads(encode_reply(V2, JOIN, "error", {"reason": "x"}, joined=True))[0] == "1"


@given(
    topic=st.text(min_size=1, max_size=40),
    event=st.text(max_size=40),
    payload=st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=5),
    vsn=st.sampled_from([V1, V2]),
)
def test_what_is_encoded_can_be_decoded(topic: str, event: str, payload: Any, vsn: Vsn) -> None:
    """Encoding and decoding are inverse, apart from the join's reference that version 1 leaves out."""
    message = decode_text(vsn, encode(vsn, "7", "8", topic, event, payload))
    assert message == Message("7" if vsn == V2 else None, "8", topic, event, payload)


def binary(kind: int, *fields: bytes, encoding: int | None = None, data: bytes = b"") -> bytes:
    """Build a binary frame as a client does."""
    sizes = bytes([kind, *(len(field) for field in fields)]) + (b"" if encoding is None else bytes([encoding]))
    return sizes + b"".join(fields) + data


def test_binary_broadcast() -> None:
    """A client's binary broadcast names join, topic and event, and its data reaches others unchanged."""
    raw = binary(3, b"1", b"2", b"realtime:x", "grüß".encode(), b"{}", encoding=1, data=b'{"a":1}')
    message = decode_binary(raw)
    assert message == Message("1", "2", "realtime:x", "broadcast", UserBroadcast("grüß", is_json=True, data=b'{"a":1}'))
    frame = encode_user_broadcast(message.topic, message.payload)
    assert frame == binary(4, b"realtime:x", "grüß".encode(), b"", encoding=1, data=b'{"a":1}')
    assert message.payload.as_payload() == {"type": "broadcast", "event": "grüß", "payload": {"a": 1}}


def test_binary_push() -> None:
    """A binary push of plain Phoenix carries its data as bytes."""
    assert decode_binary(binary(0, b"", b"2", b"t", b"e", data=b"\xff")) == Message(None, "2", "t", "e", b"\xff")


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x09",
        b"\x00",
        b"\x03\x01",
        binary(3, b"1", b"2", b"t", b"e", b"", encoding=1)[:-1],
        binary(0, b"", b"", b"\xff", b"e"),
        binary(3, b"", b"", b"", b"", b""),
    ],
)
def test_malformed_binary_is_refused(raw: bytes) -> None:
    """A binary frame of unknown kind, too short, or with names that are no text is an error."""
    with pytest.raises(FrameError):
        decode_binary(raw)


def test_what_json_cannot_carry_is_none() -> None:
    """Bytes, and data that claims to be JSON but is not, have no JSON form."""
    assert UserBroadcast("e", is_json=False, data=b"1").as_payload() is None
    assert UserBroadcast("e", is_json=True, data=b"{").as_payload() is None


def test_names_too_long_for_a_binary_frame() -> None:
    """A name of more than 255 bytes is refused rather than cut."""
    with pytest.raises(FrameError):
        encode_user_broadcast("realtime:" + "x" * 250, UserBroadcast("e", is_json=True, data=b"1"))
