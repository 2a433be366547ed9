"""A listener as its user sees it: an asynchronous iterator over messages."""

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable
from typing import Self
from uuid import UUID

from realtime_bridge.fanout import Moment
from realtime_bridge.hub import Hub
from realtime_bridge.listeners import CLOSE_RESTART, ListenerClosed, Subscriber
from realtime_bridge.messages import Message

log = logging.getLogger(__name__)

Callback = Callable[[Message], Awaitable[None] | None]

#: PostgreSQL's bigint has no more, and Python refuses to read thousands.
_MOST_DIGITS = 18


class Wakeup:
    """`asyncio.Event` for one that waits, and a tenth of its size."""

    __slots__ = ("_set", "_waiter")

    def __init__(self) -> None:
        self._set = False
        self._waiter: asyncio.Future[None] | None = None

    def set(self) -> None:
        """Let the one that waits, or waits next, go on."""
        self._set = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def clear(self) -> None:
        """Forget that it was set."""
        self._set = False

    async def wait(self) -> None:
        """Wait until it is set."""
        if not self._set:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None


class Listener:
    """What `Bridge.listen` returns: an asynchronous iterator over messages, and a context manager that ends it.

    Iteration ends when the bridge stops, and raises `ListenerClosed` when the bridge ended this listener.
    """

    __slots__ = ("__weakref__", "_hub", "_now", "_open", "_pending", "_sub", "_wakeup")

    def __init__(self, hub: Hub, sub: Subscriber, wakeup: Wakeup, now: Callable[[], Moment]) -> None:
        self._hub = hub
        self._sub = sub
        self._wakeup = wakeup
        self._now = now
        self._pending: list[Message] = []
        self._open = True

    @property
    def closed(self) -> ListenerClosed | None:
        """Why the bridge ended this listener, or None."""
        return self._sub.closed

    def take(self, limit: int) -> list[Message]:
        """Take what is there, without waiting: at most about `limit` messages, oldest first."""
        return self._hub.take(self._sub, limit, self._now())

    def gather(self) -> None:
        """Take all that is there out of the mailbox, for iteration: from the last of it a resume goes on."""
        self._pending += self.take(sys.maxsize)

    def wake(self) -> None:
        """Let `wait` return."""
        self._wakeup.set()

    def close(self, code: int, reason: str) -> None:
        """End this listener as the bridge would, with a code and a reason."""
        self._hub.close(self._sub, code, reason)

    def when_closed(self, callback: Callable[[], None]) -> None:
        """Call a function when the bridge ends this listener. It must not block or raise."""
        self._sub.ended = callback

    async def wait(self) -> None:
        """Return when `take` may have something, or the listener was closed."""
        if not self._sub.unread and self._sub.closed is None:
            await self._wakeup.wait()
        self._wakeup.clear()

    async def aclose(self) -> None:
        """End the listener. Idempotent."""
        self._open = False
        self._hub.remove(self._sub)
        self._wakeup.set()  # whoever waits in another task

    def __del__(self) -> None:
        # An iterator that is dropped in the middle of a loop must not stay registered.
        self._hub.remove(self._sub)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        while not self._pending:
            if not self._open:
                raise StopAsyncIteration
            self._pending = self.take(1)
            if self._pending:
                break
            if self._sub.closed is not None:
                if self._sub.closed.code == CLOSE_RESTART:
                    raise StopAsyncIteration
                raise self._sub.closed
            await self.wait()
        return self._pending.pop(0)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


def user_key(user_id: str | UUID) -> str:
    """A user's id in the form that the database uses.

    Raises:
        ValueError: It is no UUID.
    """
    try:
        return str(user_id if isinstance(user_id, UUID) else UUID(user_id))
    except (ValueError, AttributeError, TypeError):
        raise ValueError("user_id must be a UUID") from None


def parse_since(since: str | None) -> tuple[str, int] | None:
    """Parse ``<epoch>:<seq>``.

    Raises:
        ValueError: It has another form.
    """
    if since is None:
        return None
    epoch, _, seq = since.rpartition(":")
    if not epoch or not seq.isascii() or not seq.isdigit() or len(seq) > _MOST_DIGITS:
        raise ValueError("since must be <epoch>:<seq>, the id of a message")
    return epoch, int(seq)


async def call_back(
    listener: Listener, again: Callable[..., Listener], callback: Callback, since: str | None = None
) -> None:
    """Call a function with every message, until the bridge stops.

    Args:
        listener: Brings the messages.
        again: Listens again, ``since`` an id, when the bridge has closed the listener: nobody but the log can be told.
        callback: The function. An exception is logged and ends nothing.
        since: Where `listener` began.
    """
    while True:
        try:
            async with listener:
                async for message in listener:
                    since = message.id
                    await _call(callback, message)
                return
        except ListenerClosed as closed:
            log.warning("a listener's callback takes too long: %s; it goes on with the latest states", closed)
        try:
            listener = again(since=since)
        except ListenerClosed:
            return  # the bridge is stopping
        # However slow it is, it gets further: not again what it has read before the next closing.
        listener.gather()


async def _call(callback: Callback, message: Message) -> None:
    try:
        result = callback(message)
        if result is not None:
            await result
    except Exception:
        log.exception("a listener's callback failed")
