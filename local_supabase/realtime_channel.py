"""One joined channel: changes, broadcast, presence, and the life of its token."""

import asyncio
import base64
import contextlib
import logging
import secrets
import time
import uuid
from collections.abc import Callable
from typing import Any, Final

from .database_errors import DATABASE_ERRORS
from .phoenix import V1, FrameError, Message, UserBroadcast, Vsn, encode, encode_reply, encode_user_broadcast
from .realtime_bindings import SubscribeError, claims_text
from .realtime_delivery import Subscriber
from .realtime_hub import Hub
from .realtime_tokens import Claims, TokenError
from .rls import channel_allowed
from .subscriptions import binding_id

__all__ = ["Channel", "JoinError", "JoinRequest"]

_log = logging.getLogger(__name__)

_SUBSCRIBED: Final = "Subscribed to PostgreSQL"
_EXPIRED_NOW: Final = "Token has expired 0 seconds ago"
_MAX_TIMER: Final = 3600.0  # an expiry in a thousand years must not overflow the clock
_PREFIX: Final = "realtime:"


class JoinError(Exception):
    """A join is refused; the message is the reason that the client gets."""


class JoinRequest:
    """What a client asks for when it joins; what is missing or malformed has the server's default.

    Attributes:
        bindings: The entries of `postgres_changes` that are objects.
        private: Whether policies on `realtime.messages` decide.
        ack: Whether broadcasts are acknowledged.
        echo: Whether the sender hears its own broadcasts.
        presence: Whether the client wants to know who is present.
        presence_key: The key under which the client is present.
    """

    def __init__(self, payload: object) -> None:
        config = _object(_object(payload).get("config"))
        changes = config.get("postgres_changes")
        self.bindings = [item for item in changes if isinstance(item, dict)] if isinstance(changes, list) else []
        self.private = config.get("private") is True
        broadcast, presence = _object(config.get("broadcast")), _object(config.get("presence"))
        self.ack = broadcast.get("ack") is True
        self.echo = broadcast.get("self") is True
        self.presence = presence.get("enabled") is True
        self.presence_key = str(presence.get("key") or uuid.uuid1())

    def response(self) -> dict[str, Any]:
        """Return the answer to the join: the bindings with their ids."""
        return {"postgres_changes": [{"id": binding_id(item), **item} for item in self.bindings]}


class Channel:
    """A channel that a client has joined.

    Args:
        hub: What the server's channels share.
        vsn: The socket's protocol version.
        message: The join.
        request: Its payload, read.
        token: The token that the join is made with.
        claims: The token's claims.
        send: Sends a frame.
        on_close: Called when the server ends the channel.
    """

    def __init__(  # noqa: PLR0913, PLR0917  (a channel is where all of these meet)
        self,
        hub: Hub,
        vsn: Vsn,
        message: Message,
        request: JoinRequest,
        token: str,
        claims: Claims,
        send: Callable[[str | bytes], None],
        on_close: Callable[["Channel"], None],
    ) -> None:
        self.topic = message.topic
        self.join_ref = message.join_ref
        self.private = request.private
        self.hears_presence = True
        self._hears_broadcast = True
        self._hub = hub
        self._vsn = vsn
        self._request = request
        self._token = token
        self._claims = claims
        self._send = send
        self._on_close = on_close
        self._subscriber: Subscriber | None = None
        self._subscribing: asyncio.Task[None] | None = None
        self._expiry: asyncio.TimerHandle | None = None
        self._writes: dict[str, bool] = {}
        self._published: tuple[int, ...] = ()
        self._loop = asyncio.get_running_loop()

    @property
    def has_bindings(self) -> bool:
        """Whether the channel asked for changes."""
        return bool(self._request.bindings)

    def response(self) -> dict[str, Any]:
        """Return the answer to the join."""
        return self._request.response()

    @property
    def _name(self) -> str:
        return self.topic.removeprefix(_PREFIX)

    async def authorize(self) -> None:
        """Check the policies of a private channel.

        Raises:
            JoinError: They let this user hear nothing here.
        """
        if not self.private:
            return
        self._hears_broadcast = await self._allowed("broadcast", write=False)
        self.hears_presence = self._request.presence and await self._allowed("presence", write=False)
        if not (self._hears_broadcast or self.hears_presence):
            raise JoinError(f"Unauthorized: You do not have permissions to read from this Channel topic: {self._name}")

    def start(self) -> None:
        """Begin to hear: after the join is answered."""
        self._hub.topic(self.topic, private=self.private).members[self] = None
        self._watch_expiry()
        if self._request.presence and self.hears_presence:
            self._send_presence_state()
        self.subscribe()

    def close(self) -> None:
        """Stop hearing; sends nothing to this channel's client."""
        if self._subscribing is not None:
            self._subscribing.cancel()
        if self._expiry is not None:
            self._expiry.cancel()
        self._unsubscribe()
        self._hub.leave(self)

    def push(self, event: str, payload: object, *, ref: str | None = None, named: bool = True) -> None:
        """Send an event; `named` ones carry the join's reference in version 2, those for a whole topic do not."""
        self._send(encode(self._vsn, self.join_ref if named else None, ref, self.topic, event, payload))

    def push_end(self, event: str) -> None:
        """Send an event that ends the join (`phx_close`, `phx_error`)."""
        self.push(event, {}, ref=self.join_ref)

    def system(self, message: str, *, status: str = "ok", extension: str = "postgres_changes") -> None:
        """Send a `system` event."""
        payload = {"message": message, "status": status, "extension": extension, "channel": self._name}
        self.push("system", payload)

    def shut_down(self, message: str) -> None:
        """End the channel as the server does for an expired token or too many messages."""
        self.system(message, status="error", extension="system")
        self.push_end("phx_close")
        self._on_close(self)

    def expire(self) -> None:
        """End the channel as if its token expired now."""
        self.shut_down(_EXPIRED_NOW)

    def say_subscribed(self) -> None:
        """Send the frame that says that changes flow."""
        self.system(_SUBSCRIBED)

    def subscribe(self) -> None:
        """Put the bindings into force, now or as soon as the stream of changes is open; does not wait."""
        if self.has_bindings:
            if self._subscribing is not None:
                self._subscribing.cancel()
            self._subscribing = asyncio.create_task(self._subscribe())

    def notice_publication(self, published: tuple[int, ...]) -> None:
        """Subscribe anew if tables have joined or left the publication since the last time."""
        if self._subscriber is not None and self._published != published:
            self._published = published
            self.subscribe()

    async def _subscribe(self) -> None:
        await asyncio.sleep(self._hub.settings.subscribe_delay + self._hub.late_ready)
        while True:
            await self._hub.ready.wait()
            try:
                entries, self._published = await self._hub.enforce(self._request.bindings, self._claims)
            except SubscribeError as error:
                self._unsubscribe()
                self.system(str(error), status="error")
                return
            except DATABASE_ERRORS as error:
                _log.info("PostgreSQL is away, subscribing later: %s", type(error).__name__)
                await asyncio.sleep(self._hub.settings.reconnect_delay)
                continue
            break
        self._unsubscribe()
        role, claims = str(self._claims["role"]), claims_text(self._claims)
        self._subscriber = Subscriber(self.topic, self._vsn, role, claims, self._send, entries)
        self._hub.delivery.add(self._subscriber)
        self.say_subscribed()

    def _unsubscribe(self) -> None:
        if self._subscriber is not None:
            self._hub.delivery.remove(self._subscriber)
            self._subscriber = None

    def _watch_expiry(self) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
        if "exp" in self._claims:
            remaining = self._claims["exp"] - time.time()
            again = remaining > _MAX_TIMER
            self._expiry = self._loop.call_later(
                min(remaining, _MAX_TIMER), self._watch_expiry if again else self.expire
            )

    async def handle(self, message: Message) -> None:
        """Answer an event from the client. Events that the server does not know are ignored, as there."""
        match message.event:
            case "broadcast":
                await self._broadcast(message)
            case "presence":
                await self._presence(message)
            case "access_token":
                await self._refresh(_object(message.payload).get("access_token"))

    async def _refresh(self, token: object) -> None:
        if not isinstance(token, str) or token.startswith("sb_") or token == self._token:
            return
        try:
            claims = self._hub.tokens.claims(token)
        except TokenError as error:
            self.shut_down(error.message)
            return
        self._token, self._claims = token, claims
        self._writes.clear()
        try:
            await self.authorize()
        except JoinError:
            self.shut_down(f"You no longer have permission to read from this Channel topic: {self._name}")
            return
        self._watch_expiry()
        self.subscribe()

    async def _broadcast(self, message: Message) -> None:
        if self.private and not await self._may_write("broadcast"):
            return
        self.fan_out(message.payload, self if not self._request.echo else None)
        if self._request.ack:
            self._send(encode_reply(self._vsn, message, "ok", {}, joined=True))

    def fan_out(self, payload: object, without: "Channel | None" = None) -> None:
        """Give a broadcast to the members of this channel's topic."""
        for member in list(self._hub.topic(self.topic, private=self.private).members):
            if member is not without:
                member.hear(payload)

    def hear(self, payload: object) -> None:
        """Send a broadcast to this channel's client, in the form that its protocol has for it."""
        if not self._hears_broadcast:
            return
        if isinstance(payload, UserBroadcast):
            if self._vsn != V1:
                with contextlib.suppress(FrameError):
                    self._send(encode_user_broadcast(self.topic, payload))
                    return
            payload = payload.as_payload()
        if payload is not None:
            self.push("broadcast", payload, named=False)

    async def _presence(self, message: Message) -> None:
        payload = _object(message.payload)
        event = payload.get("event")
        status = "ok"
        response: dict[str, Any] = {}
        match event.lower() if isinstance(event, str) else None:
            case "track":
                status, response, changed = await self._track(payload.get("payload", {}))
            case "untrack":
                changed = self._untrack()
            case None:
                changed = None
            case _:
                status, changed = "error", None
        self._send(encode_reply(self._vsn, message, "ok" if status == "ok" else "error", response, joined=True))
        if changed is not None:
            self._hub.presence_diff(self._hub.topic(self.topic, private=self.private), **changed)

    async def _track(self, meta: object) -> tuple[str, dict[str, Any], dict[str, Any] | None]:
        if not isinstance(meta, dict):
            return "error", {"reason": "Presence track payload must be a map"}, None
        if self.private and not await self._may_write("presence"):
            return "error", {}, None
        present = self._hub.topic(self.topic, private=self.private).present
        before = present.get(self)
        key = self._request.presence_key
        entry = {"phx_ref": base64.urlsafe_b64encode(secrets.token_bytes(12)).decode(), **meta}
        if before is None:
            present[self] = (key, entry)
            return "ok", {}, {"joins": {key: {"metas": [entry]}}}
        old = before[1]
        if {name: value for name, value in old.items() if not name.startswith("phx_ref")} == meta:
            return "ok", {}, None
        entry["phx_ref_prev"] = old["phx_ref"]
        present[self] = (key, entry)
        return "ok", {}, {"joins": {key: {"metas": [entry]}}, "leaves": {key: {"metas": [old]}}}

    def _untrack(self) -> dict[str, Any] | None:
        left = self._hub.topic(self.topic, private=self.private).present.pop(self, None)
        return None if left is None else {"leaves": {left[0]: {"metas": [left[1]]}}}

    def _send_presence_state(self) -> None:
        self.push("presence_state", self._hub.topic(self.topic, private=self.private).state())

    async def _may_write(self, extension: str) -> bool:
        if extension not in self._writes:
            self._writes[extension] = await self._allowed(extension, write=True)
        return self._writes[extension]

    async def _allowed(self, extension: str, *, write: bool) -> bool:
        role, claims = str(self._claims["role"]), claims_text(self._claims)
        try:
            async with self._hub.connection() as connection:
                return await channel_allowed(connection, self._name, role, claims, extension=extension, write=write)
        except DATABASE_ERRORS:
            return False


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
