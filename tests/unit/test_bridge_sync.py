from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from realtime_bridge.health import HealthBoard
from realtime_bridge.messages import MessageType
from realtime_bridge.reader import Found, HistoryRow, Reader
from realtime_bridge.settings import BridgeSettings
from realtime_bridge.sync import Cursor, Synchroniser
from tests.support.bridge_rows import listen, make_hub, moment, read, row


class EndlessLog:
    """A database that is written to all the time: whoever reads finds more."""

    def __init__(self) -> None:
        self.written = 0
        self.pages = 0

    def write(self) -> HistoryRow:
        """Write one more row."""
        self.written += 1
        return HistoryRow(self.written, f"user-{self.written}", 1)

    async def history_tail(self, limit: int) -> list[HistoryRow]:
        """The latest rows, newest first."""
        await asyncio.sleep(0)
        return [self.write()][:limit]

    async def history_after(self, last_id: int) -> list[HistoryRow]:
        """What was written since, and something more."""
        await asyncio.sleep(0)
        self.pages += 1
        self.write()
        return [HistoryRow(number, f"user-{number}", 1) for number in range(last_id + 1, self.written + 1)]

    async def find(self, user_ids: list[str]) -> Found:
        """The rows of users."""
        await asyncio.sleep(0)
        return Found({user: row(user) for user in user_ids}, {})


class LateLog:
    """A database in which a transaction commits late: its line has a lower id than others that were seen before."""

    def __init__(self, seen: list[int], late: int) -> None:
        self.lines = [HistoryRow(number, f"user-{number}", 1) for number in seen]
        self.late = HistoryRow(late, f"user-{late}", 1)
        self.seeded = asyncio.Event()

    def commit(self) -> None:
        """The late transaction commits."""
        self.lines = sorted([*self.lines, self.late])

    async def history_tail(self, limit: int) -> list[HistoryRow]:
        """The latest rows, newest first."""
        await asyncio.sleep(0)
        if limit == 1:
            self.seeded.set()
        return self.lines[::-1][:limit]

    async def history_after(self, last_id: int) -> list[HistoryRow]:
        """A page of rows."""
        await asyncio.sleep(0)
        return [line for line in self.lines if line.id > last_id]

    async def find(self, user_ids: list[str]) -> Found:
        """The rows of users."""
        await asyncio.sleep(0)
        return Found({user: row(user) for user in user_ids}, {})


@asynccontextmanager
async def synchronising(log: EndlessLog | LateLog, board: HealthBoard, **how: Any) -> AsyncIterator[Synchroniser]:
    """A synchroniser at work on a change log."""
    values: dict[str, Any] = {"supabase_url": "http://127.0.0.1:1", "supabase_secret_key": "sb_secret_unit"}
    hub = how.pop("hub", None) or make_hub()
    sync = Synchroniser(
        hub, cast("Reader", log), board, BridgeSettings(**values), now=moment, renew=lambda: None, **how
    )
    task = asyncio.create_task(sync.reconcile())
    try:
        yield sync
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_a_resync_ends_although_changes_go_on() -> None:
    """A pass over the change log ends where the log ended when it began, so that a gap is closed under any load."""
    board, log = HealthBoard(), EndlessLog()
    board.stream = None
    done = asyncio.Event()
    async with synchronising(log, board, changed=lambda: done.set() if board.synced else None) as sync:
        sync.gap()
        await asyncio.wait_for(done.wait(), 20)
    assert log.pages <= 2


@pytest.mark.parametrize(
    ("seen", "late"),
    [([3, 4, 6], 5), ([6], 5), ([*range(1, 1400), *range(1401, 1500)], 1400)],
    ids=["short", "single", "long"],
)
async def test_what_was_in_flight_when_the_bridge_started_is_found(seen: list[int], late: int) -> None:
    """A change that committed between the first look at the log and "Subscribed" is told, and no other with it."""
    board, log, hub = HealthBoard(), LateLog(seen, late), make_hub(recent_limit=5000, mailbox_limit=5000)
    sub, done = listen(hub, None), asyncio.Event()

    def changed() -> None:
        if board.synced:
            done.set()

    async with synchronising(log, board, hub=hub, changed=changed) as sync:
        async with asyncio.timeout(20):
            await log.seeded.wait()
            read(hub, sub)
            log.commit()
            board.stream = None
            sync.gap()
            await done.wait()
    changes = [message.user_id for message in read(hub, sub) if message.type is MessageType.CHANGE]
    assert changes == [f"user-{late}"]
    assert hub.counters.missed == 1


def test_the_change_log_is_read_again_from_before_what_was_in_flight() -> None:
    """A transaction as long as the overlap is found, also when it committed before a long pause between two passes."""
    cursor = Cursor(30)
    for began in range(0, 100, 10):
        cursor.note(began, began + 1, 1000 + began)
    # What the pass at 90 could not see yet had its id at 60 or later, after the pass that ended at 51.
    assert cursor.start() == 1050
    assert cursor.start() == 1050
    cursor.note(500, 501, 1500)
    assert cursor.start() == 1090
