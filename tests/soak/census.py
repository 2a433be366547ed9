"""What processes and the database hold: memory, descriptors, tasks, connections, replication slots."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import statistics
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from local_supabase.stack import StackInfo
from tests.soak.jobs import working
from tests.support.stack import connection

MIB = 1024 * 1024
PAGE = os.sysconf("SC_PAGE_SIZE")
PATIENCE = 60.0

Census = dict[str, int]

BACKENDS = """
select count(*) from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()
"""


def resident(pid: int) -> int:
    """The resident memory of a process in bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * PAGE


def descriptors(pid: int) -> int:
    """How many files and sockets a process has open."""
    return sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())


async def census(info: StackInfo, pids: Mapping[str, int], ask: Callable[[], Awaitable[Mapping[str, int]]]) -> Census:
    """Count what could leak.

    Args:
        info: The stack.
        pids: Processes by name.
        ask: Tells what the bridge holds.
    """
    gc.collect()
    async with connection(info) as db:
        counts = {
            "database connections": await db.fetchval(BACKENDS),
            "replication slots": await db.fetchval("select count(*) from pg_replication_slots"),
            "WAL senders": await db.fetchval("select count(*) from pg_stat_replication"),
            "prepared transactions": await db.fetchval("select count(*) from pg_prepared_xacts"),
        }
    bridge = await ask()
    counts |= {"bridge: tasks": bridge["tasks"], "bridge: listeners": bridge["listeners"]}
    counts["client: tasks"] = len(asyncio.all_tasks())
    return counts | {f"{name}: descriptors": descriptors(pid) for name, pid in pids.items()}


async def grown(before: Census, take: Callable[[], Awaitable[Census]], slack: Mapping[str, int]) -> dict[str, str]:
    """Wait until nothing is more than it was; name what stays more for a minute."""
    deadline = time.monotonic() + PATIENCE
    while True:
        now = await take()
        more = {
            name: f"{before[name]} -> {count}"
            for name, count in now.items()
            if count > before[name] + slack.get(name.rpartition(" ")[2], 0)
        }
        if not more or time.monotonic() > deadline:
            return more
        await asyncio.sleep(1)  # kept-alive connections end by their own clocks


class Memory:
    """Samples of the resident memory of processes.

    Args:
        pids: Processes by name.
    """

    def __init__(self, pids: Mapping[str, int]) -> None:
        self._pids = pids
        self._began = time.monotonic()
        self.samples: defaultdict[str, list[tuple[float, int]]] = defaultdict(list)

    def watched(self, period: float = 0.5) -> contextlib.AbstractAsyncContextManager[None]:
        """Sample while the block runs."""
        return working(self._sample(period))

    async def _sample(self, period: float) -> None:
        while True:
            for name, pid in self._pids.items():
                self.samples[name].append((time.monotonic() - self._began, resident(pid)))
            await asyncio.sleep(period)

    def growth(self) -> dict[str, float]:
        """By how many MiB the last third of the samples of each process lies above the first, medians of both."""
        return {name: self._growth([size for _, size in samples]) for name, samples in self.samples.items()}

    @staticmethod
    def _growth(sizes: list[int]) -> float:
        third = max(len(sizes) // 3, 1)
        return (statistics.median(sizes[-third:]) - statistics.median(sizes[:third])) / MIB

    def slope(self) -> dict[str, float]:
        """The trend of each process in MiB an hour, by least squares."""
        return {
            name: statistics.linear_regression(*zip(*samples, strict=True)).slope * 3600 / MIB
            for name, samples in self.samples.items()
        }
