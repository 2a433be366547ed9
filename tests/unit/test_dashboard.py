"""The dashboard's parts that need no browser: the journal of the last hour, kept answers, operator links."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import SecretStr

from realtime_bridge import BridgeSettings
from realtime_bridge.dashboard.cache import Cache
from realtime_bridge.dashboard.journal import HOUR, MINUTE, Journal, Tally
from realtime_bridge.links import Links, operator_link

NOW = 1_795_000_000.0
USER = "0B5E7A70-0000-4000-8000-000000000001"


def row(number: int, at: float, change: str = "STREAK_INCREMENT") -> dict[str, Any]:
    """A row of the change log, as REST sends it."""
    return {
        "id": number,
        "user_id": USER,
        "change_type": change,
        "old_current_streak": 1,
        "new_current_streak": 2,
        "version_after": number,
        "created_at": datetime.fromtimestamp(at, UTC).isoformat(),
    }


def settings(**changes: Any) -> BridgeSettings:
    """Settings of a bridge on loopback."""
    values: dict[str, Any] = {"supabase_url": "http://127.0.0.1:1", "supabase_secret_key": SecretStr("sb_secret_x")}
    return BridgeSettings(**{**values, **changes})


def test_totals_forget_what_is_older_than_their_window() -> None:
    """A change counts for a minute and for an hour, to the second, and then no more."""
    tally = Tally()
    tally.add("lapsed", NOW)
    assert tally.totals(NOW + MINUTE - 1, MINUTE) == {"lapsed": 1}
    assert tally.totals(NOW + MINUTE, MINUTE) == {}
    assert tally.totals(NOW + HOUR - 1, HOUR) == {"lapsed": 1}
    assert tally.totals(NOW + HOUR, HOUR) == {}


def test_rates_have_a_value_for_every_second() -> None:
    """The rates cover the last seconds, oldest first, without the present one, which is not over."""
    tally = Tally()
    for at in (NOW - 2, NOW - 2, NOW - 1, NOW):
        tally.add("reset", at)
    assert tally.per_second(NOW, 4) == [0, 0, 2, 1]


def test_no_change_is_counted_twice_or_missed() -> None:
    """Rows that are read again, or that a slow commit shows late with a low id, count once."""
    journal = Journal(overlap=10)
    journal.begin([row(5, NOW - 60), row(7, NOW - 1)], NOW, complete=True)
    assert journal.start() == 5, "what may still be overtaken is read again"
    journal.add([row(6, NOW - 2), row(7, NOW - 1), row(8, NOW)], NOW + 1)
    assert journal.totals(NOW + 1, HOUR) == {"incremented": 4}
    assert [entry.id for entry in journal.entries(0, 10)] == [5, 7, 6, 8]
    journal.add([], NOW + 20)
    assert journal.start() == 8
    journal.add([row(6, NOW - 2)], NOW + 21)
    assert journal.totals(NOW + 21, HOUR) == {"incremented": 4}


def test_a_page_gets_what_is_new_to_it() -> None:
    """Entries after a number come in the order in which they were found, also across a fresh start of the journal."""
    journal = Journal()
    journal.begin([row(1, NOW), row(2, NOW, "STREAK_LAPSED")], NOW, complete=True)
    assert [entry.kind for entry in journal.entries(1, 10)] == ["lapsed"]
    later = journal.anew()
    later.begin([row(3, NOW)], NOW, complete=True)
    assert [entry.user_id for entry in later.entries(journal.number, 10)] == [USER.lower()]


def test_a_log_that_is_too_long_says_since_when_it_counts() -> None:
    """If the last hour was not read whole, the journal says from when on its counts hold."""
    whole, part = Journal(), Journal()
    whole.begin([row(1, NOW - 90)], NOW, complete=True)
    part.begin([row(1, NOW - 90)], NOW, complete=False)
    assert (whole.since, part.since) == (NOW - HOUR, NOW - 90)


async def test_who_asks_together_shares_one_read() -> None:
    """While an answer is read or kept, nobody reads it again; a failure reaches all who wait and is not kept."""
    now, reads = 0.0, 0
    go = asyncio.Event()

    async def read() -> int:
        nonlocal reads, now
        reads += 1
        await go.wait()
        now += 0.01
        if reads == 2:
            raise OSError
        return reads

    cache = Cache(10, clock=lambda: now)
    both = asyncio.gather(*(cache.get("key", 2.0, read) for _ in range(2)))
    await asyncio.sleep(0)
    go.set()
    assert await both == [1, 1]
    now += 1.9
    assert await cache.get("key", 2.0, read) == 1
    now += 0.2
    with pytest.raises(OSError):  # noqa: PT011 - its own
        await cache.get("key", 2.0, read)
    assert await cache.get("key", 2.0, read) == 3


async def test_a_slow_read_is_kept_longer() -> None:
    """What took the database a second is not asked again for ten, unless every answer must be new."""
    now = 0.0

    async def read() -> float:
        nonlocal now
        now += 1.0
        return now

    cache = Cache(10, clock=lambda: now)
    first = await cache.get("slow", 2.0, read)
    now += 9.0
    assert await cache.get("slow", 2.0, read) == first
    now += 1.5
    assert await cache.get("slow", 2.0, read) > first
    fresh = await cache.get("fresh", 0.0, read)
    assert await cache.get("fresh", 0.0, read) > fresh


def test_links_are_for_this_machine_alone() -> None:
    """A link's token opens bridges of the same key on loopback; one that others can reach makes and takes none."""
    token = operator_link("http://127.0.0.1:5", settings()).partition("#link=")[2]
    assert Links(settings()).expiry(token) is not None
    assert Links(settings(host="::1")).expiry(token) is not None
    assert Links(settings(supabase_secret_key=SecretStr("sb_secret_y"))).expiry(token) is None
    assert Links(settings(host="0.0.0.0")).expiry(token) is None  # noqa: S104 - refused
    with pytest.raises(ValueError, match="loopback"):
        Links(settings(host="0.0.0.0")).make()  # noqa: S104 - refused
