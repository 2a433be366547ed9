"""Phoenix frames, version 1.0.0 (JSON objects) and 2.0.0 (JSON arrays, binary broadcasts). No I/O.

The two versions differ in more than form: version 1 never carries a `join_ref` back, so what the server says about a
join by itself (`phx_close`, `phx_error`) puts it into `ref`.
"""

import json
import re
from dataclasses import dataclass
from typing import Any, Final, Literal

__all__ = ["V1", "V2", "FrameError", "Message", "UserBroadcast", "Vsn", "decode_binary", "decode_text", "dumps"]
__all__ += ["encode", "encode_raw", "encode_reply", "encode_user_broadcast", "negotiate"]

Vsn = Literal["1.0.0", "2.0.0"]
V1: Final = "1.0.0"
V2: Final = "2.0.0"

_PUSH: Final = 0
_USER_BROADCAST_PUSH: Final = 3
_USER_BROADCAST: Final = 4
_V2_PARTS: Final = 5
_MAX_NAME: Final = 255
_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))  # made once: it is slow to make
_ACCEPTED = re.compile(r"([12])\.0\.\d+\Z")


class FrameError(ValueError):
    """A frame is not one of the protocol."""


@dataclass(frozen=True, slots=True)
class UserBroadcast:
    """The payload of a binary broadcast: the client's event, and its data as JSON text or as opaque bytes."""

    event: str
    is_json: bool
    data: bytes

    def as_payload(self) -> dict[str, Any] | None:
        """Return the broadcast as a JSON client sees it, or None for what JSON cannot carry."""
        try:
            payload = json.loads(self.data) if self.is_json else ...
        except ValueError:
            return None
        return None if payload is ... else {"type": "broadcast", "event": self.event, "payload": payload}


@dataclass(frozen=True, slots=True)
class Message:
    """One frame from a client."""

    join_ref: str | None
    ref: str | None
    topic: str
    event: str
    payload: Any


def dumps(value: object) -> str:
    """Return `value` as JSON without superfluous spaces, not escaping what UTF-8 can carry."""
    return _ENCODER.encode(value)


def negotiate(vsn: str | None) -> Vsn | None:
    """Return the protocol version for the `vsn` of a connection's URL, or None if the server does not speak it.

    Args:
        vsn: The parameter; absent (None) means 1.0.0.
    """
    if vsn is None:
        return V1
    match = _ACCEPTED.match(vsn)
    if match is None:
        return None
    return V1 if match[1] == "1" else V2


def decode_text(vsn: Vsn, raw: str) -> Message:
    """Decode a text frame.

    Raises:
        FrameError: It is not JSON, not of this version, or lacks a part.
    """
    try:
        frame = json.loads(raw)
    except ValueError as error:
        raise FrameError("not JSON") from error
    if vsn == V1:
        if not isinstance(frame, dict) or not {"topic", "event", "payload", "ref"} <= frame.keys():
            raise FrameError("not a version 1 frame")
        parts = [frame.get("join_ref"), *(frame[key] for key in ("ref", "topic", "event", "payload"))]
    else:
        if not isinstance(frame, list) or len(frame) < _V2_PARTS:
            raise FrameError("not a version 2 frame")
        parts = frame
    join_ref, ref, topic, event, payload = parts[:_V2_PARTS]
    if not isinstance(topic, str) or not isinstance(event, str):
        raise FrameError("topic and event must be strings")
    return Message(join_ref, ref, topic, event, payload)


def _fields(raw: bytes, count: int, start: int) -> tuple[list[bytes], bytes]:
    """Cut `count` consecutive fields out of `raw`, whose sizes follow the kind; return them and what follows them."""
    sizes = raw[1 : count + 1]
    if len(raw) < start or len(sizes) < count:
        raise FrameError("binary frame is too short")
    fields = []
    for size in sizes:
        if start + size > len(raw):
            raise FrameError("binary frame is too short")
        fields.append(raw[start : start + size])
        start += size
    return fields, raw[start:]


def decode_binary(raw: bytes) -> Message:
    """Decode a binary frame of version 2: a push with opaque payload, or a user's broadcast.

    Raises:
        FrameError: The kind is unknown, the frame is too short, or a name is not UTF-8.
    """
    kind = raw[0] if raw else -1
    try:
        if kind == _PUSH:
            fields, data = _fields(raw, 4, 5)
            join_ref, ref, topic, event = (field.decode() for field in fields)
            return Message(join_ref or None, ref or None, topic, event, data)
        if kind == _USER_BROADCAST_PUSH:
            fields, data = _fields(raw, 5, 7)
            join_ref, ref, topic, event, _metadata = (field.decode() for field in fields)
            broadcast = UserBroadcast(event, is_json=raw[6] != 0, data=data)
            return Message(join_ref or None, ref or None, topic, "broadcast", broadcast)
    except UnicodeDecodeError as error:
        raise FrameError("a name in a binary frame is not UTF-8") from error
    raise FrameError("unknown kind of binary frame")


def encode_raw(vsn: Vsn, join_ref: str | None, ref: str | None, topic: str, event: str, payload: str) -> str:  # noqa: PLR0913, PLR0917  (the five parts of a frame)
    """Encode a frame whose payload is JSON text already."""
    if vsn == V1:
        head = f'{{"ref":{dumps(ref)},"event":{dumps(event)},"topic":{dumps(topic)},"payload":'
        return f"{head}{payload}}}"
    return f"[{dumps(join_ref)},{dumps(ref)},{dumps(topic)},{dumps(event)},{payload}]"


def encode(vsn: Vsn, join_ref: str | None, ref: str | None, topic: str, event: str, payload: object) -> str:  # noqa: PLR0913, PLR0917  (the five parts of a frame)
    """Encode a frame."""
    return encode_raw(vsn, join_ref, ref, topic, event, dumps(payload))


def encode_reply(vsn: Vsn, message: Message, status: Literal["ok", "error"], response: object, *, joined: bool) -> str:
    """Encode the answer to `message`; only a channel (`joined`) names its `join_ref` in it."""
    payload = {"status": status, "response": response}
    return encode(vsn, message.join_ref if joined else None, message.ref, message.topic, "phx_reply", payload)


def encode_user_broadcast(topic: str, broadcast: UserBroadcast) -> bytes:
    """Encode a user's broadcast as a binary frame of version 2.

    Raises:
        FrameError: The topic or the event is too long for one.
    """
    names = (topic.encode(), broadcast.event.encode(), b"")
    if max(map(len, names)) > _MAX_NAME:
        raise FrameError("a name in a binary frame has at most 255 bytes")
    header = bytes([_USER_BROADCAST, *(len(name) for name in names), int(broadcast.is_json)])
    return header + b"".join(names) + broadcast.data
