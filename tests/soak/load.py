"""The load of the soak: an open loop of calls of one real client, by people who come and go."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import asyncpg

from local_supabase.stack import StackInfo
from streak_client import Activity, AsyncStreakClient, StreakError
from tests.soak.jobs import working
from tests.soak.people import Person, differences
from tests.support.stack import connection

TICK = 0.01
AT_ONCE = 200
TOGETHER = 5
# Activities, spread over six days: enough for nearly all days, and for repeats.
LIFE = 12
RETRY = 0.2
PATIENCE = 90.0
# The last is what asyncpg raises when the server dies while it asks for types.
DOWN = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)


@dataclass(eq=False)
class Load:
    """Calls at a rate, whatever becomes of them, and people who are checked when they leave.

    Attributes:
        info: The stack.
        client: Makes the calls; it has an outbox.
        regulars: People who stay.
        guests: People who leave after a while.
        counts: What happened so far.
        wrong: What differed from the model.
    """

    info: StackInfo
    client: AsyncStreakClient
    regulars: list[Person]
    guests: deque[Person] = field(default_factory=deque)
    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    _free: deque[Person] = field(default_factory=deque)
    _unsure: list[Person] = field(default_factory=list)
    _calls: set[asyncio.Task[None]] = field(default_factory=set)

    async def invite(self, number: int) -> list[Person]:
        """Sign up guests."""
        people = [Person(uuid4()) for _ in range(number)]
        await sign_up(self.info, people)
        self.guests += people
        self._free += people
        return people

    def welcome(self) -> None:
        """Let the regulars act, too."""
        self._free += self.regulars

    async def saturate(self, seconds: float) -> float:
        """Make as many calls as go, and return how many that were a second."""
        began, before = time.perf_counter(), self.counts["answered"]
        while (took := time.perf_counter() - began) < seconds:
            for _ in range(min(AT_ONCE - len(self._calls), len(self._free))):
                self._start(self._solve(self._free.popleft()))
            await asyncio.sleep(0)
            if self._calls:
                await asyncio.wait(self._calls, return_when=asyncio.FIRST_COMPLETED)
        return (self.counts["answered"] - before) / took

    @contextlib.asynccontextmanager
    async def going(self, rate: float) -> AsyncIterator[None]:
        """Keep the load up while the block runs, then wait until every call has its answer."""
        async with working(self._act(rate), self._come_and_go()):
            yield
        await self.settle()

    async def settle(self) -> None:
        """Wait until nothing is on its way and the outbox is empty."""
        async with asyncio.timeout(PATIENCE):
            while self._calls or self.client.outbox_depth():
                if self._calls:
                    await asyncio.wait(self._calls)
                if await self.client.drain_outbox():
                    await asyncio.sleep(RETRY)
        self._reassure()
        assert len(self._free) == len(self.regulars) + len(self.guests), "somebody's call never ended"

    async def check(self, people: Sequence[Person]) -> None:
        """Compare people who do nothing with the model."""
        async with connection(self.info) as db:
            self.wrong += await differences(db, people)
        self.counts["checked"] += len(people)

    async def _act(self, rate: float) -> None:
        began, started = time.perf_counter(), 0
        while True:
            due = int((time.perf_counter() - began) * rate)
            while started < due:
                started += 1
                if len(self._calls) >= AT_ONCE or len(self._free) < TOGETHER:
                    self.counts["held back"] += 1
                    continue
                self._start(self._something())
            self._reassure()
            await asyncio.sleep(TICK)

    def _something(self) -> Coroutine[Any, Any, None]:
        chance = random.random()
        if chance < 0.05:
            return self._solve_together([self._free.popleft() for _ in range(TOGETHER)])
        person = self._free.popleft()
        return self._look(person) if chance < 0.2 else self._solve(person)

    def _start(self, call: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(call)
        self._calls.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._calls.discard(task)
        if not task.cancelled() and (error := task.exception()):
            self.wrong.append(f"a call failed: {error!r}")

    async def _solve(self, person: Person) -> None:
        one = person.act()
        solved = await self.client.handle_problem_solved(
            one.user_id, one.timezone, request_id=one.request_id, activity_at=one.activity_at
        )
        if solved.result is not None:
            self._told(person, solved.result.version)
            self._free.append(person)
            return
        self.counts["queued"] += 1
        if not solved.queued:
            self.wrong.append(f"{person.user_id}: lost, {solved.error!r}")
        self._unsure.append(person)

    async def _solve_together(self, people: list[Person]) -> None:
        """Send a batch as a service without an outbox does: again, with the same request ids, until it is counted."""
        left: list[tuple[Person, Activity]] = [(person, person.act()) for person in people]
        while left:
            outcomes = await self.client.update_user_streaks([one for _, one in left])
            for (person, _), outcome in zip(left, outcomes, strict=True):
                if outcome.result is not None:
                    self._told(person, outcome.result.version)
                    self._free.append(person)
            left = [one for one, outcome in zip(left, outcomes, strict=True) if outcome.result is None]
            if left:
                self.counts["sent again"] += len(left)
                await asyncio.sleep(RETRY)

    async def _look(self, person: Person) -> None:
        try:
            streak = await self.client.get_user_streak(person.user_id)
            self.counts["reads"] += 1
            if streak.version < person.told:
                self.wrong.append(f"{person.user_id}: read version {streak.version} after {person.told} was told")
        except StreakError:
            self.counts["failed reads"] += 1
        finally:
            self._free.append(person)

    def _told(self, person: Person, version: int) -> None:
        self.counts["answered"] += 1
        person.told = max(person.told, version)

    def _reassure(self) -> None:
        """Let those act again whose last activity has left the outbox."""
        if self._unsure and not self.client.outbox_depth():
            self._free += self._unsure
            self._unsure.clear()

    async def _come_and_go(self) -> None:
        """Every second check the guests who have acted enough, delete them, and sign up as many new ones."""
        while True:
            await asyncio.sleep(1)
            free = set(self._free)
            leaving = [one for one in self.guests if one in free and one.calls >= LIFE][:AT_ONCE]
            for one in leaving:
                self._free.remove(one)
                self.guests.remove(one)
            while leaving:
                with contextlib.suppress(*DOWN):
                    await self._say_goodbye(leaving)
                    break
                await asyncio.sleep(RETRY)

    async def _say_goodbye(self, leaving: list[Person]) -> None:
        async with connection(self.info) as db:
            gone = [one.user_id for one in leaving]
            # If the answer of the deletion was lost, they are gone already, and were right before.
            if await db.fetchval("select count(*) from auth.users where id = any($1)", gone) == len(gone):
                self.wrong += await differences(db, leaving)
                self.counts["checked"] += len(leaving)
                await db.execute("delete from auth.users where id = any($1)", gone)
        await self.invite(len(leaving))


async def sign_up(info: StackInfo, people: Sequence[Person]) -> None:
    """Insert people into auth.users."""
    async with connection(info) as db:
        await db.execute("insert into auth.users (id) select unnest($1::uuid[])", [one.user_id for one in people])
