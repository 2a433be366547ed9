"""What can go wrong between Realtime and its clients, on demand. For tests: the server keeps it switched off.

Faults act on everything that is connected when they are called, or on the channels of `topic` (`realtime:...`) only.
"""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable, Collection
from typing import TYPE_CHECKING, Any

from aiohttp import web

from .realtime_channel import Channel
from .realtime_hub import Hub

if TYPE_CHECKING:
    from .realtime_socket import Socket

__all__ = ["Faults"]

_OVERSIZE = 1024 * 1024 + 64 * 1024
_GARBAGE = ("", "hello", "5", "{}", "[]", "null", '{"topic":"phoenix"}', "[null,null]", '{"ref":null,"event":')


class Faults:
    """The faults of one server. Each public coroutine but `run` and `gate` is a fault by its name.

    Args:
        hub: What the server's channels share.
        sockets: The server's open sockets, kept up to date by the server.
    """

    def __init__(self, hub: Hub, sockets: Collection["Socket"]) -> None:
        self._hub = hub
        self._sockets = sockets
        self._frames_sent = 0
        self._refused = 0
        self._refuse_until = 0.0
        self._refuse_status = 503
        self._open = asyncio.Event()
        self._open.set()
        self._release: asyncio.TimerHandle | None = None

    async def run(self, name: str, args: dict[str, Any]) -> dict[str, Any]:
        """Run a fault by name.

        Args:
            name: The fault.
            args: Its arguments.

        Returns:
            What it reports.

        Raises:
            ValueError: There is none of this name, or the arguments do not fit.
        """
        known = {key for key in vars(type(self)) if not key.startswith("_")} - {"run", "gate", "refusal", "count_frame"}
        if name not in known:
            raise ValueError(f"unknown fault {name!r}; there are: {', '.join(sorted(known))}")
        fault: Callable[..., Awaitable[dict[str, Any] | None]] = getattr(self, name)
        try:
            inspect.signature(fault).bind(**args)
        except TypeError as error:
            raise ValueError(f"fault {name}: {error}") from error
        return await fault(**args) or {}

    async def gate(self) -> None:
        """Wait while `hold_changes` is in force."""
        await self._open.wait()

    def refusal(self) -> web.Response | None:
        """Return the answer to a new socket while `refuse` is in force.

        Returns:
            The answer; None to let the socket in.
        """
        if time.monotonic() >= self._refuse_until:
            return None
        self._refused += 1
        return web.Response(status=self._refuse_status)

    def count_frame(self) -> None:
        """Count a frame that was written."""
        self._frames_sent += 1

    async def late_ready(self, seconds: float) -> None:
        """Let every "Subscribed to PostgreSQL" from now on come so much later; 0 ends it.

        Changes committed in the meantime are lost to the channel, as they are on the real server.
        """
        self._hub.late_ready = float(seconds)

    async def close(self, code: int = 1012, reason: str = "") -> None:
        """Close the sockets with a code."""
        await asyncio.gather(*(socket.close(code, reason) for socket in list(self._sockets)))

    async def abort(self) -> None:
        """Cut the sockets' connections without a closing handshake."""
        for socket in list(self._sockets):
            socket.abort()

    async def half_open(self, seconds: float | None = None) -> None:
        """Neither read from nor write to the present sockets, for some seconds or (None) until they end."""
        frozen = list(self._sockets)
        for socket in frozen:
            socket.freeze()
        if seconds is not None:
            loop = asyncio.get_running_loop()
            for socket in frozen:
                loop.call_later(seconds, socket.resume)

    async def refuse(self, seconds: float, status: int = 503) -> None:
        """Answer new sockets with an HTTP error for some seconds; 0 ends it."""
        self._refuse_until = time.monotonic() + seconds
        self._refuse_status = status

    async def phx_error(self, topic: str | None = None) -> None:
        """Let channels crash: `phx_error`, and the server knows them no more."""
        for socket, channel in self._joined(topic):
            channel.push_end("phx_error")
            socket.forget(channel)

    async def token_expiry(self, topic: str | None = None) -> None:
        """Let the channels' tokens expire now."""
        for _, channel in self._joined(topic):
            channel.expire()

    async def subscribed_again(self, topic: str | None = None) -> None:
        """Repeat "Subscribed to PostgreSQL" on channels with bindings."""
        for _, channel in self._joined(topic):
            if channel.has_bindings:
                channel.say_subscribed()

    async def drop_changes(self, n: int | None = None, table: str | None = None) -> None:
        """Lose the next `n` changes that anybody listens for, without a word; None loses all until called with 0.

        With `table`, only changes of tables of that name are lost.
        """
        self._hub.delivery.drop = n
        self._hub.delivery.drop_table = table

    async def hold_changes(self, seconds: float | None = None) -> None:
        """Look at no change for some seconds, or (None) until called with 0; then deliver what came up."""
        if self._release is not None:
            self._release.cancel()
            self._release = None
        if seconds == 0:
            self._open.set()
            return
        self._open.clear()
        if seconds is not None:
            self._release = asyncio.get_running_loop().call_later(seconds, self._open.set)

    async def rate_limit(self, topic: str | None = None, joins: int = 0) -> None:
        """End channels for too many messages; with `joins`, refuse so many of the next joins instead."""
        if joins:
            self._hub.refused_joins = joins
            return
        for _, channel in self._joined(topic):
            channel.shut_down("Too many messages per second")

    async def oversize(self, topic: str | None = None) -> None:
        """Send channels a broadcast of more than 1 MiB."""
        for _, channel in self._joined(topic):
            channel.hear({"type": "broadcast", "event": "oversize", "payload": {"padding": "x" * _OVERSIZE}})

    async def garbage(self, frames: list[str] | None = None) -> None:
        """Send each socket frames that are none of the protocol: those given, or a selection."""
        for socket in list(self._sockets):
            for frame in frames if frames is not None else _GARBAGE:
                socket.send(frame)

    async def stats(self) -> dict[str, Any]:
        """Return counts: open sockets and channels, refused sockets, frames sent, changes seen and dropped."""
        return {
            "sockets": len(self._sockets),
            "channels": len(self._joined(None)),
            "refused": self._refused,
            "frames_sent": self._frames_sent,
            "changes_seen": self._hub.delivery.changes_seen,
            "changes_dropped": self._hub.delivery.changes_dropped,
        }

    def _joined(self, topic: str | None) -> list[tuple["Socket", Channel]]:
        return [
            (socket, channel)
            for socket in list(self._sockets)
            for name, channel in list(socket.channels.items())
            if topic in (None, name)
        ]
