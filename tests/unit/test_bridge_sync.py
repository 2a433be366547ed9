from __future__ import annotations

import asyncio
from typing import Any, cast

from realtime_bridge.health import HealthBoard
from realtime_bridge.reader import Found, HistoryRow, Reader
from realtime_bridge.settings import BridgeSettings
from realtime_bridge.sync import Synchroniser
from tests.support.bridge_rows import make_hub, moment, row


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


async def test_a_resync_ends_although_changes_go_on() -> None:
    """A pass over the change log ends where the log ended when it began, so that a gap is closed under any load."""
    board, log = HealthBoard(), EndlessLog()
    board.stream = None
    done = asyncio.Event()
    settings: Any = {"supabase_url": "http://127.0.0.1:1", "supabase_secret_key": "sb_secret_unit"}
    sync = Synchroniser(
        make_hub(),
        cast("Reader", log),
        board,
        BridgeSettings(**settings),
        now=moment,
        changed=lambda: done.set() if board.synced else None,
        renew=done.clear,
    )
    sync.gap()
    task = asyncio.create_task(sync.reconcile())
    try:
        await asyncio.wait_for(done.wait(), 20)
    finally:
        task.cancel()
        await asyncio.wait([task])
    assert log.pages <= 2
