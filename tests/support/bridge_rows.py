"""Rows and clocks for tests of the bridge's core."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date
from typing import Any

from realtime_bridge.changes import StreakRow, Upsert
from realtime_bridge.fanout import Moment
from realtime_bridge.hub import Hub
from realtime_bridge.listeners import Subscriber
from realtime_bridge.messages import Message
from realtime_bridge.metrics import Counters
from realtime_bridge.state import Store

#: Tuesday, 2026-03-03 12:00 UTC.
NOON = 1_772_539_200.0


def row(user_id: str = "u", version: int = 1, **values: Any) -> StreakRow:
    """A row whose streak does not lapse, unless told otherwise."""
    made = StreakRow(
        id=f"row-{user_id}",
        user_id=user_id,
        version=version,
        run_length=version,
        longest_streak=version,
        last_active_date=date.fromordinal(date(2026, 3, 3).toordinal() + version),
        timezone="UTC",
        expires_at=None,
        last_activity_at=NOON + version,
    )
    return replace(made, **values)


def moment(seconds: float = 0.0) -> Moment:
    """An instant, in seconds after the test began."""
    return Moment(seconds, NOON + seconds)


def make_hub(
    *,
    recent_limit: int = 1000,
    mailbox_limit: int = 1000,
    slow_after: float = 1e9,
    board_wanted: Callable[[], None] = lambda: None,
) -> Hub:
    """A hub that knows of nobody and has nothing to load."""
    hub = Hub(
        Store(recent_limit),
        epoch="e",
        counters=Counters(),
        milestones=(7, 30),
        mailbox_limit=mailbox_limit,
        slow_after=slow_after,
        board_wanted=board_wanted,
    )
    hub.settle(["*"], moment())
    return hub


def listen(hub: Hub, users: list[str] | None, *, debounce: float = 0, at: float = 0, **how: Any) -> Subscriber:
    """Add a listener, load the users it waits for as absent, and throw its snapshot away."""
    sub = hub.add(
        users, debounce=debounce, max_wait=how.pop("max_wait", debounce), at=moment(at), wake=lambda: None, **how
    )
    hub.apply_read(sorted(sub.missing), {}, hub.store.head, moment(at), news=False)
    if "since" not in how:
        hub.take(sub, 1000, moment(at))
    return sub


def change(hub: Hub, user: str, version: int, at: float = 0, **values: Any) -> None:
    """Let the stream bring a row."""
    hub.apply(Upsert(row(user, version, **values)), moment(at))


def read(hub: Hub, sub: Subscriber, at: float = 0) -> list[Message]:
    """Take all that waits for a listener."""
    return hub.take(sub, 1000, moment(at))


def summary(messages: list[Message]) -> list[tuple[str, int | None]]:
    """Types and versions."""
    return [(message.type.value, message.streak.version if message.streak else None) for message in messages]
