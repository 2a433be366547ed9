"""One websocket: reads frames in order, keeps the channels, and writes through a bounded queue."""

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable
from typing import Final

from aiohttp import WSMsgType, web

from .phoenix import FrameError, Message, Vsn, decode_binary, decode_text, encode_reply
from .realtime_channel import Channel, JoinError, JoinRequest
from .realtime_hub import Hub
from .realtime_tokens import TokenError

__all__ = ["Socket"]

_log = logging.getLogger(__name__)

_NORMAL: Final = 1000
_TOO_MANY_JOINS: Final = "ClientJoinRateLimitReached: Too many joins per second"


class Socket:
    """A client's connection.

    Args:
        hub: What the server's sockets share.
        ws: The open websocket.
        transport: Its connection, for what a websocket cannot express.
        vsn: The protocol version.
        token: The key that opened the socket; joins without a token of their own use it.
        on_sent: Called for each frame written.
    """

    def __init__(  # noqa: PLR0913, PLR0917  (a socket is where all of these meet)
        self,
        hub: Hub,
        ws: web.WebSocketResponse,
        transport: asyncio.Transport,
        vsn: Vsn,
        token: str,
        on_sent: Callable[[], None],
    ) -> None:
        self.channels: dict[str, Channel] = {}
        self._hub = hub
        self._ws = ws
        self._transport = transport
        self._vsn = vsn
        self._token = token
        self._on_sent = on_sent
        self._outbox: deque[str | bytes] = deque()
        self._backlog = 0
        self._wake = asyncio.Event()
        self._flowing = asyncio.Event()
        self._flowing.set()

    async def run(self) -> None:
        """Serve the client until either side ends the connection."""
        writer = asyncio.create_task(self._write())
        try:
            await self._read()
        finally:
            writer.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await writer
            for channel in list(self.channels.values()):
                channel.close()
            self.channels.clear()

    def send(self, frame: str | bytes) -> None:
        """Queue a frame. A client that leaves too much unread is cut off."""
        self._backlog += len(frame)
        if self._backlog > self._hub.settings.max_backlog:
            self.abort()
            return
        self._outbox.append(frame)
        self._wake.set()

    async def close(self, code: int, reason: str = "") -> None:
        """Say goodbye with a code."""
        self.resume()
        with contextlib.suppress(ConnectionError):
            await self._ws.close(code=code, message=reason.encode())

    def abort(self) -> None:
        """Cut the connection without a word."""
        self._outbox.clear()
        self._transport.abort()

    def freeze(self) -> None:
        """Neither read nor write any more, but keep the connection: what a vanished network looks like."""
        self._flowing.clear()
        self._transport.pause_reading()

    def resume(self) -> None:
        """Undo `freeze`."""
        if not self._flowing.is_set():
            self._flowing.set()
            self._transport.resume_reading()

    async def _write(self) -> None:
        with contextlib.suppress(ConnectionError):
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._outbox:
                    await self._flowing.wait()
                    if not self._outbox:
                        break
                    frame = self._outbox.popleft()
                    self._backlog -= len(frame)
                    await (self._ws.send_str(frame) if isinstance(frame, str) else self._ws.send_bytes(frame))
                    self._on_sent()

    async def _read(self) -> None:
        while True:
            try:
                message = await self._ws.receive(timeout=self._hub.settings.idle_timeout)
            except TimeoutError:
                await self.close(_NORMAL)
                return
            try:
                if message.type is WSMsgType.TEXT:
                    await self._handle(decode_text(self._vsn, message.data))
                elif message.type is WSMsgType.BINARY:
                    await self._handle(decode_binary(message.data))
                elif message.type is WSMsgType.PING:
                    await self._ws.pong(message.data)
                elif message.type is not WSMsgType.PONG:
                    return
            except FrameError as error:
                _log.debug("a frame was ignored: %s", error)
            except ConnectionError:
                return

    async def _handle(self, message: Message) -> None:
        channel = self.channels.get(message.topic)
        if message.event == "phx_join" and message.topic.startswith("realtime:"):
            await self._join(message, channel)
        elif message.topic == "phoenix" and message.event == "heartbeat":
            self.send(encode_reply(self._vsn, message, "ok", {}, joined=False))
        elif channel is None:
            self._answer_without_channel(message)
        elif message.join_ref == channel.join_ref:
            if message.event == "phx_leave":
                self._leave(message, channel)
            else:
                await channel.handle(message)
        # Else it is meant for an earlier or a later join of the topic, and ignored.

    def _answer_without_channel(self, message: Message) -> None:
        if message.event == "phx_leave":
            self.send(encode_reply(self._vsn, message, "ok", {}, joined=True))
        else:
            self.send(encode_reply(self._vsn, message, "error", {"reason": "unmatched topic"}, joined=False))

    async def _join(self, message: Message, before: Channel | None) -> None:
        """Join a topic; the socket reads nothing else meanwhile, as on the server."""
        if before is not None:
            self.forget(before)
        channel: Channel | None = None
        try:
            channel = await self._admit(message)
        except JoinError as error:
            await asyncio.sleep(self._hub.settings.join_error_delay)
            self.send(encode_reply(self._vsn, message, "error", {"reason": str(error)}, joined=True))
        if channel is not None:
            self.channels[message.topic] = channel
            self.send(encode_reply(self._vsn, message, "ok", channel.response(), joined=True))
        if before is not None:
            before.push_end("phx_close")
        if channel is not None:
            channel.start()

    async def _admit(self, message: Message) -> Channel:
        if message.topic == "realtime:":
            raise JoinError("TopicNameRequired: You must provide a topic name")
        if self._hub.refused_joins > 0:
            self._hub.refused_joins -= 1
            raise JoinError(_TOO_MANY_JOINS)
        token = self._token_of(message.payload)
        try:
            claims = self._hub.tokens.claims(token)
        except TokenError as error:
            raise JoinError(f"{error.code}: {error.message}") from error
        request = JoinRequest(message.payload)
        channel = Channel(self._hub, self._vsn, message, request, token, claims, self.send, self.forget)
        await channel.authorize()
        return channel

    def _token_of(self, payload: object) -> str:
        """Return the token that counts for a join: its own, unless that is none or a key."""
        fields = payload if isinstance(payload, dict) else {}
        for name in ("user_token", "access_token"):
            token = fields.get(name)
            if isinstance(token, str):
                return self._token if token.startswith("sb_") else token
        return self._token

    def _leave(self, message: Message, channel: Channel) -> None:
        self.send(encode_reply(self._vsn, message, "ok", {}, joined=True))
        channel.push_end("phx_close")
        self.forget(channel)

    def forget(self, channel: Channel) -> None:
        """Let the server know a channel no more; says nothing to the client."""
        channel.close()
        if self.channels.get(channel.topic) is channel:
            del self.channels[channel.topic]
