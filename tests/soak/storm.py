"""The faults of the soak, one after the other, each ended before the next."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator

from local_supabase.faults import Faults

Strike = Callable[[Faults], Awaitable[None]]


async def postgres_killed(faults: Faults) -> None:
    """PostgreSQL dies, and starts again."""
    await faults.postgres_kill()
    await asyncio.sleep(1)  # how long the outage lasts
    await faults.postgres_start()


async def rest_loses_answers(faults: Faults) -> None:
    """REST does what it is asked, and nobody hears of it."""
    await faults.rest_lose_answer(count=20, path="/rest/v1/rpc/")
    await asyncio.sleep(2)


async def rest_unavailable(faults: Faults) -> None:
    """REST answers 503 for longer than all attempts of a call take."""
    await faults.rest_error(503, seconds=2, path="/rest/v1/")
    await asyncio.sleep(2)


async def rest_hangs(faults: Faults) -> None:
    """REST does not answer some calls."""
    await faults.rest_hang(count=5, path="/rest/v1/")
    await asyncio.sleep(2.5)


async def stream_broken(faults: Faults) -> None:
    """Realtime's sockets break without a word."""
    await faults.abort()


async def stream_refused(faults: Faults) -> None:
    """Realtime closes its sockets and refuses new ones for a while."""
    await faults.refuse(2)
    await faults.close(1012)
    await asyncio.sleep(2)


async def stream_half_open(faults: Faults) -> None:
    """Realtime's sockets stay open and bring nothing."""
    await faults.half_open(4)
    await asyncio.sleep(4)


async def changes_lost(faults: Faults) -> None:
    """Realtime loses changes without a word."""
    await faults.drop_changes(100)
    await asyncio.sleep(1)


async def channel_crashed(faults: Faults) -> None:
    """Realtime's channels crash."""
    await faults.phx_error()


STRIKES: list[Strike] = [
    postgres_killed,
    stream_broken,
    rest_loses_answers,
    changes_lost,
    rest_unavailable,
    stream_refused,
    rest_hangs,
    channel_crashed,
    stream_half_open,
]


FIRST_STRIKES = [stream_broken, rest_unavailable, rest_hangs, postgres_killed]
"""Those after which everything has been used once, reconnection and outbox included."""


def every_fault() -> list[Strike]:
    """Every fault once, in a random order."""
    return random.sample(STRIKES, len(STRIKES))


def for_ever() -> Iterator[Strike]:
    """Every fault again and again."""
    while True:
        yield from every_fault()


async def storm(faults: Faults, strikes: Iterable[Strike], pause: float, counts: Counter[str]) -> None:
    """Strike with a pause before each fault."""
    for strike in strikes:
        await asyncio.sleep(pause)
        try:
            await strike(faults)
        finally:
            await faults.restore()
        counts[strike.__name__] += 1
