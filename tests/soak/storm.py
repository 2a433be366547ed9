"""The faults of the soak, one after the other, each ended before the next."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator

from local_supabase.faults import Faults

LONGEST = 30.0

Counts = Counter[str]
Strike = Callable[[Faults, Counts], Awaitable[None]]


async def postgres_killed(faults: Faults, _: Counts) -> None:
    """PostgreSQL dies, and starts again."""
    await faults.postgres_kill()
    await asyncio.sleep(1)  # how long the outage lasts
    await faults.postgres_start()


async def rest_loses_answers(faults: Faults, _: Counts) -> None:
    """REST does what it is asked, and nobody hears of it."""
    await faults.rest_lose_answer(count=20, path="/rest/v1/rpc/")
    await asyncio.sleep(2)


async def rest_unavailable(faults: Faults, counts: Counts) -> None:
    """REST answers 503 until all attempts of some call have failed, and the outbox has it."""
    queued = counts["queued"]
    await faults.rest_error(503, path="/rest/v1/")
    async with asyncio.timeout(LONGEST):
        while counts["queued"] == queued:  # noqa: ASYNC110 - the counts tell nobody
            await asyncio.sleep(0.1)


async def rest_hangs(faults: Faults, _: Counts) -> None:
    """REST does not answer some calls."""
    await faults.rest_hang(count=5, path="/rest/v1/")
    await asyncio.sleep(2.5)


async def stream_broken(faults: Faults, _: Counts) -> None:
    """Realtime's sockets break without a word."""
    await faults.abort()


async def stream_refused(faults: Faults, _: Counts) -> None:
    """Realtime closes its sockets and refuses new ones for a while."""
    await faults.refuse(2)
    await faults.close(1012)
    await asyncio.sleep(2)


async def stream_half_open(faults: Faults, _: Counts) -> None:
    """Realtime's sockets stay open and bring nothing."""
    await faults.half_open(4)
    await asyncio.sleep(4)


async def changes_lost(faults: Faults, _: Counts) -> None:
    """Realtime loses changes without a word."""
    await faults.drop_changes(100)
    await asyncio.sleep(1)


async def channel_crashed(faults: Faults, _: Counts) -> None:
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


async def storm(faults: Faults, counts: Counts, strikes: Iterable[Strike], pause: float) -> None:
    """Strike with a pause before each fault, and count the faults, also those of a storm that is cut short.

    Args:
        faults: The switches.
        counts: What happens to the load meanwhile; the faults are added, by name.
        strikes: Which faults, in order.
        pause: Seconds before each.
    """
    for strike in strikes:
        await asyncio.sleep(pause)
        try:
            await strike(faults, counts)
        finally:
            await faults.restore()
        counts[strike.__name__] += 1
