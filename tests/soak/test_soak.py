"""The whole system at 30% load through one fault after the other: nothing leaks, and every streak is right at the end.

The short form takes about a minute and a half; `--long` adds the one of an hour (SOAK_SECONDS changes its length). The
client, its outbox and the listeners live in the test's process, the bridge, the stack and PostgreSQL in their own.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest

from local_supabase.faults import Faults
from streak_client import AsyncStreakClient
from tests.soak.audience import Audience, BridgeProcess, bridge_process
from tests.soak.census import Census, Memory, census, grown
from tests.soak.load import Load, sign_up
from tests.soak.people import Person
from tests.soak.storm import FIRST_STRIKES, STRIKES, every_fault, for_ever, storm
from tests.support.bridge import agree
from tests.support.stack import RunningStack, connection, running_stack

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc, which Linux has")

# Of what the machine can do now, and calls a second at least, for it may be busy with something else.
SHARE, LEAST = 0.3, 10
REGULARS, GUESTS, PASSING = 40, 110, 4
# Pools fill as slow answers need them, up to their bounds (REST's holds 20 connections, the client's 50), and keep what
# they have until the next request. What each of hundreds of passing listeners, or each call, left behind would be more.
SLACK = {"descriptors": 60, "connections": 20, "tasks": 2}


@dataclass(frozen=True)
class Plan:
    """How long a soak takes.

    Attributes:
        warm_up: Seconds of load before anything is counted, after the first faults.
        seconds: Seconds of load that count; None: until every fault has struck once.
        pause: Seconds between two faults.
        growth: MiB by which a process may grow meanwhile.
    """

    warm_up: float
    seconds: float | None
    pause: float
    growth: float


SHORT = Plan(warm_up=5, seconds=None, pause=1.5, growth=10)
HOUR = Plan(warm_up=300, seconds=float(os.environ.get("SOAK_SECONDS", "3600")), pause=120, growth=16)


@dataclass
class Scene:
    """Everything that runs."""

    stack: RunningStack
    bridge: BridgeProcess
    audience: Audience
    load: Load
    faults: Faults

    @property
    def pids(self) -> dict[str, int]:
        """Our processes by name."""
        return {"client": os.getpid(), "bridge": self.bridge.process.pid, "stack": self.stack.process.pid}

    async def census(self) -> Census:
        """Count what could leak; nobody may be acting."""
        return await census(self.stack.info, self.pids, self.bridge.census)

    @contextlib.asynccontextmanager
    async def under_load(self, rate: float) -> AsyncIterator[None]:
        """Load, and listeners who come and go, while the block runs."""
        async with self.load.going(rate), self.audience.passing(PASSING):
            yield

    async def differences(self) -> list[str]:
        """Compare everybody with the model, and every listener with the database."""
        everybody = [*self.load.regulars, *self.load.guests]
        await self.load.check(everybody)
        async with connection(self.stack.info) as db:
            try:
                await agree(self.audience.regulars, db, [str(one.user_id) for one in everybody if one.calls], within=60)
            except AssertionError as error:
                return [*self.load.wrong, str(error)]
        return self.load.wrong

    async def weather(self, plan: Plan) -> None:
        """Let faults strike for as long as planned."""
        which = every_fault() if plan.seconds is None else for_ever()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(plan.seconds):
                await storm(self.faults, self.load.counts, which, plan.pause)


@contextlib.asynccontextmanager
async def scene(folder: Path) -> AsyncIterator[Scene]:
    """A stack, a bridge, a client with an outbox, people and listeners."""
    people = [Person(uuid4()) for _ in range(REGULARS)]
    with running_stack("--faults", folder=folder) as stack:
        info = stack.info
        assert info.faults_socket is not None
        await sign_up(info, people)
        async with (
            bridge_process(info, folder) as bridge,
            AsyncStreakClient(info.supabase_url, info.secret_key, timeout=2, outbox=folder / "outbox.db") as client,
        ):
            audience = Audience(info, bridge.url, [str(one.user_id) for one in people])
            load = Load(info, client, people)
            load.welcome()
            await load.invite(GUESTS)
            async with audience.seated():
                yield Scene(stack, bridge, audience, load, Faults(info.faults_socket))


async def soak(scene: Scene, plan: Plan) -> None:
    """Warm up, count, weather the faults, count again, and compare everybody with the model."""
    full = await scene.load.saturate(3)
    busiest = await scene.census()
    await scene.load.settle()
    rate = max(SHARE * full, LEAST)
    async with scene.under_load(rate):
        await storm(scene.faults, scene.load.counts, FIRST_STRIKES, 0.2)
        scene.load.counts.clear()
        await asyncio.sleep(plan.warm_up)  # memory that a first use takes is no leak
    before, memory = await scene.census(), Memory(scene.pids)
    # A pool that a restart of PostgreSQL emptied may fill again.
    before["database connections"] = max(before["database connections"], busiest["database connections"])
    async with scene.under_load(rate), memory.watched():
        await scene.weather(plan)
    wrong = [f"leaked: {name} {counts}" for name, counts in (await grown(before, scene.census, SLACK)).items()]
    wrong += [f"{name} grew by {size:.1f} MiB" for name, size in memory.growth().items() if size > plan.growth]
    wrong += await scene.differences()
    _tell(scene, full, memory, before)
    assert not wrong, f"{len(wrong)} wrong:\n" + "\n".join(wrong[:10])
    assert scene.load.counts["queued"], "the outbox was never needed"
    missing = [strike.__name__ for strike in STRIKES if not scene.load.counts[strike.__name__]]
    assert plan.seconds or not missing


def _tell(scene: Scene, full: float, memory: Memory, before: Census) -> None:
    figures = {
        "calls a second at full load": round(full),
        "people and faults": dict(scene.load.counts),
        "listeners": dict(scene.audience.counts),
        "growth in MiB": {name: round(size, 1) for name, size in memory.growth().items()},
        "slope in MiB an hour": {name: round(size, 1) for name, size in memory.slope().items()},
        "held": before,
    }
    for name, value in figures.items():
        print(f"\n{name}: {value}", end="")  # noqa: T201 - figures, with -s


@pytest.mark.timeout(600)  # a minute and a half, unless the machine is busy with much else
async def test_short(tmp_path: Path) -> None:
    """Through one fault of each kind under load, nothing leaks and every streak and every listener is right."""
    async with scene(tmp_path) as everything:
        await soak(everything, SHORT)


@pytest.mark.long
@pytest.mark.timeout(2 * 3600)
async def test_hour(tmp_path: Path) -> None:
    """For an hour, with a fault every two minutes, memory stays flat, nothing leaks, and every streak is right."""
    async with scene(tmp_path) as everything:
        await soak(everything, HOUR)
