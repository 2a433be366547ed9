"""What becomes of those who iterate or are called back when a listener ends."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import pytest

from realtime_bridge.fanout import Moment
from realtime_bridge.hub import Hub
from realtime_bridge.iteration import Listener, Wakeup, call_back, parse_since
from realtime_bridge.listeners import CLOSE_RESTART
from realtime_bridge.messages import Message
from tests.support.bridge_rows import change, make_hub, moment


class Clock:
    """A clock that stands still."""

    seconds = 0.0

    def __call__(self) -> Moment:
        """Now."""
        return moment(self.seconds)


def listening(hub: Hub, clock: Clock) -> Callable[..., Listener]:
    """A function that listens to everybody."""

    def listen(since: str | None = None) -> Listener:
        wakeup = Wakeup()
        sub = hub.add(None, debounce=0, max_wait=0, at=clock(), wake=wakeup.set, since=parse_since(since))
        return Listener(hub, sub, wakeup, clock)

    return listen


@pytest.mark.parametrize("limit", [1000, 3])
async def test_a_slow_callback_goes_on_with_the_latest_states(limit: int, caplog: pytest.LogCaptureFixture) -> None:
    """A callback slower than slow_after, or than the mailbox holds, hears the last state of every user all the same."""
    clock, users = Clock(), [f"user-{number}" for number in range(6)]
    hub = make_hub(slow_after=30, mailbox_limit=limit)
    listen = listening(hub, clock)
    heard: dict[str, int] = {}
    done = asyncio.Event()

    async def callback(message: Message) -> None:
        if message.user_id is None or message.streak is None:
            return
        heard[message.user_id] = message.streak.version
        if len(heard) == 1:
            for user in users:
                change(hub, user, 2, at=clock.seconds)
        # Each single message takes longer than anybody may be silent.
        clock.seconds += 31
        hub.tick(clock())
        if heard == dict.fromkeys(users, 2):
            done.set()
        await asyncio.sleep(0)

    first = listen()
    change(hub, users[0], 1)
    task = asyncio.create_task(call_back(first, listen, callback))
    try:
        async with asyncio.timeout(60):
            await done.wait()
    finally:
        task.cancel()
        await asyncio.wait([task])
    assert hub.counters.slow >= 1
    assert {record.levelno for record in caplog.records} == {logging.WARNING}
    assert not hub.subscribers


async def test_callbacks_end_with_the_bridge() -> None:
    """When the bridge stops, callbacks end without a word."""
    hub, clock = make_hub(), Clock()
    listener = listening(hub, clock)()
    task = asyncio.create_task(call_back(listener, listening(hub, clock), lambda _: None))
    await asyncio.sleep(0)
    listener.close(CLOSE_RESTART, "the bridge is stopping: reconnect")
    async with asyncio.timeout(60):
        await task


async def test_closing_a_listener_ends_who_iterates_over_it_elsewhere() -> None:
    """A task that waits for the next message ends when another one closes the listener."""
    listener = listening(make_hub(), Clock())()
    waiting = asyncio.create_task(anext(listener, None))
    await asyncio.sleep(0)
    await listener.aclose()
    done, _ = await asyncio.wait([waiting], timeout=60)
    waiting.cancel()
    assert done
    assert waiting.result() is None
