"""The works of the database benchmark: what is measured, beside which peers, and what the goal is."""

from __future__ import annotations

import statistics
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from tests.benchmarks import database_pgbench as scripts
from tests.benchmarks.database_load import NOON, Connection, original_update
from tests.benchmarks.database_pgbench import BATCH, Load, Outcome, PgBench

_PILOT = 50


@dataclass(frozen=True)
class Figure:
    """One line of the report.

    Attributes:
        work: What was measured.
        measured: The figure with its unit.
        against: What it is compared with, and that one's figure.
        ratio: The quotient that the goal is about; None for figures without a goal.
        goal: The goal, for people; empty where there is none.
        met: Whether it was reached; None where there is no goal.
    """

    work: str
    measured: str
    against: str = ""
    ratio: float | None = None
    goal: str = ""
    met: bool | None = None


@dataclass
class Bench:
    """What all works share.

    Attributes:
        url: Of the large database.
        small_url: Of the one with 10,000 users.
        connection: To the large database.
        pgbench: Runs against the large database.
        users: How many users the large database has.
        seconds: How long each run lasts.
        rounds: How many runs each peer gets, in turns.
        figures: The report so far.
        details: Plans, profiles and other text for the end of the report.
        raw: Every single measurement, by work and peer.
    """

    url: str
    small_url: str
    connection: Connection
    pgbench: PgBench
    users: int
    seconds: float
    rounds: int
    figures: list[Figure] = field(default_factory=list)
    details: list[tuple[str, str]] = field(default_factory=list)
    raw: dict[str, dict[str, list[float]]] = field(default_factory=dict)

    def take(self, work: str, rounds: Mapping[str, list[float]]) -> dict[str, float]:
        """Keeps the measurements of a work and returns the median of each peer."""
        self.raw.setdefault(work, {}).update({peer: list(values) for peer, values in rounds.items()})
        return {peer: statistics.median(values) for peer, values in rounds.items()}

    def ratio(self, work: str, ours: str, peer: str) -> float:
        """The median over the rounds of ours divided by the peer's of the same round: neighbours share the weather."""
        raw = self.raw[work]
        return statistics.median(a / b for a, b in zip(raw[ours], raw[peer], strict=True))


@dataclass
class Fresh:
    """Users who get a new day, each once a day; when all have had it, the clock goes on by a day.

    Args:
        bench: What all works share.
        name: Of the state that survives the run: how many days have been used up.
        set_clock: Turns the clock by an interval, given as an SQL literal.
    """

    bench: Bench
    name: str
    set_clock: Callable[[str], Awaitable[object]]
    position: int = 0
    day: int = 0

    async def start(self) -> None:
        """Goes to a day that no earlier run has used."""
        self.day = await self.bench.connection.fetchval("select value from bench.state where name = $1", self.name)
        self.position = self.bench.users // 2
        await self._next_day(forward=0)

    async def _next_day(self, forward: int = 1) -> None:
        self.day, self.position = self.day + forward, 0
        # Written before the day is used: a run that is broken off must not leave a half-used day behind.
        await self.bench.connection.execute(
            "update bench.state set value = $2 where name = $1", self.name, self.day + 1
        )

    async def take(self, wanted: int) -> tuple[int, int]:
        """The first position of up to `wanted` users, and how many they are; sets the clock to the day's noon."""
        available = self.bench.users // 2
        count = min(wanted, available)
        if self.position + count > available:
            await self._next_day()
        base, self.position = self.position, self.position + count
        await self.set_clock(clock_shift(self.day))
        return base, count

    @property
    def at(self) -> str:
        """The time that calls carry."""
        return at(self.day)


def at(day: int) -> str:
    """Noon of a benchmark's day, as pgbench's variables can carry it."""
    return f"{NOON + timedelta(days=day):%Y-%m-%dT%H:%M:%SZ}"


def clock_shift(day: int) -> str:
    """How far a clock must be off for now to be noon of a benchmark's day, as an SQL literal."""
    off = NOON + timedelta(days=day) - datetime.now(UTC)
    return f"interval '{off.total_seconds():.0f} seconds'"


async def set_our_clock(connection: Connection, shift: str) -> None:
    """Turns `private.now()`, the only clock of our functions."""
    await connection.execute(f"""
        create or replace function private.now() returns timestamptz
        language plpgsql stable parallel safe set search_path = '' as $$
        begin
          return pg_catalog.now() + {shift};
        end
        $$
    """)


async def set_their_clock(connection: Connection, shift: str) -> None:
    """Turns the original's clock, which is written into its function."""
    await connection.execute(original_update(shift))


def fresh_users(bench: Bench) -> tuple[Fresh, Fresh]:
    """Users for our tables and for the original's."""
    ours = Fresh(bench, "day", lambda shift: set_our_clock(bench.connection, shift))
    theirs = Fresh(bench, "their_day", lambda shift: set_their_clock(bench.connection, shift))
    return ours, theirs


async def noon(bench: Bench) -> None:
    """Sets every clock to the day that was loaded, on which the active users have been active."""
    await set_our_clock(bench.connection, clock_shift(0))
    await set_their_clock(bench.connection, clock_shift(0))


async def in_turns(bench: Bench, work: str, loads: Mapping[str, Load]) -> dict[str, float]:
    """Runs loads that use up nobody, each once a round, and returns the median of the calls a second."""
    rounds: dict[str, list[float]] = {peer: [] for peer in loads}
    for _ in range(bench.rounds):
        for peer, load in loads.items():
            await noon(bench)
            rounds[peer].append((await bench.pgbench.run(load)).per_second)
    return bench.take(work, rounds)


async def ledger_rows(bench: Bench) -> int:
    """How many rows the ledger has."""
    rows: int = await bench.connection.fetchval("select count(*) from public.streak_days")
    return rows


async def new_day(bench: Bench) -> None:
    """A new day's call by many users, between the raw floor and the original."""
    ours, theirs = fresh_users(bench)
    await ours.start()
    await theirs.start()
    peers = {"(r)": (scripts.FLOOR, ours), "(o)": (scripts.ORIGINAL, theirs), "ours": (scripts.UPDATE, ours)}
    counted, before = 0, await ledger_rows(bench)

    async def one(peer: str, calls: int) -> Outcome:
        nonlocal counted
        script, users = peers[peer]
        base, count = await users.take(16 * calls)
        outcome = await bench.pgbench.run(
            Load(scripts.FRESH + script, calls=count // 16, variables={"base": base, "at": users.at})
        )
        counted += outcome.calls if users is ours else 0
        return outcome

    await bench.connection.execute("checkpoint")
    pilots = {peer: (await one(peer, _PILOT)).per_second for peer in peers}
    pilots = {peer: (await one(peer, max(round(pilots[peer] / 16), 1))).per_second for peer in peers}
    rounds: dict[str, list[float]] = {peer: [] for peer in peers}
    for _ in range(bench.rounds):
        for peer in peers:
            rounds[peer].append((await one(peer, max(round(pilots[peer] * bench.seconds / 16), 1))).per_second)
    bench.take("new day", rounds)
    added = await ledger_rows(bench) - before
    for peer, goal in (("(r)", 0.8), ("(o)", 0.9)):
        _quotient(bench, f"new-day call, 16 clients, against {peer}", "new day", peer, goal)
    bench.figures.append(
        Figure(
            "ledger rows added by (r) and ours",
            f"{added:,}",
            f"{counted:,} calls",
            added / counted,
            "equal",
            added == counted,
        )
    )


def _quotient(bench: Bench, name: str, work: str, peer: str, goal: float) -> None:
    """Adds a line for calls a second, ours divided by a peer's."""
    ours, theirs = (statistics.median(bench.raw[work][of]) for of in ("ours", peer))
    ratio = bench.ratio(work, "ours", peer)
    bench.figures.append(
        Figure(name, f"{ours:,.0f}/s", f"{peer} {theirs:,.0f}/s", ratio, f"at least {goal} x", ratio >= goal)
    )


def _times(bench: Bench, name: str, work: str, peer: str, goal: float) -> None:
    """Adds a line for the time of a call, ours divided by a peer's."""
    ours, theirs = (statistics.median(bench.raw[work][of]) for of in ("ours", peer))
    ratio = bench.ratio(work, peer, "ours")
    bench.figures.append(
        Figure(name, f"{ours:,.0f}/s", f"{peer} {theirs:,.0f}/s", ratio, f"at most {goal} x its time", ratio <= goal)
    )


async def repeat(bench: Bench) -> None:
    """A repeat on the same day by many users, beside the original and a read by primary key."""
    variables = {"at": at(0)}
    await in_turns(
        bench,
        "repeat",
        {
            "(o)": Load(scripts.ACTIVE + scripts.ORIGINAL, seconds=bench.seconds, variables=variables),
            "primary key": Load(scripts.ACTIVE + scripts.PRIMARY_KEY, seconds=bench.seconds, variables=variables),
            "ours": Load(scripts.ACTIVE + scripts.UPDATE, seconds=bench.seconds, variables=variables),
        },
    )
    _quotient(bench, "same-day repeat, many users, against (o)", "repeat", "(o)", 2.0)
    _times(bench, "same-day repeat, many users", "repeat", "primary key", 1.8)


async def hot(bench: Bench) -> None:
    """A repeat on the same day by one user over 100 connections."""
    loads = {
        peer: Load(scripts.HOT + script, clients=100, seconds=bench.seconds, variables={"at": at(0)})
        for peer, script in (("(o)", scripts.ORIGINAL), ("ours", scripts.UPDATE))
    }
    await in_turns(bench, "hot user", loads)
    _quotient(bench, "same-day repeat, one user, 100 clients", "hot user", "(o)", 6.0)


async def read(bench: Bench) -> None:
    """`get_user_streak` beside a read by primary key."""
    loads = {
        peer: Load(scripts.ANYBODY + script, seconds=bench.seconds)
        for peer, script in (("primary key", scripts.PRIMARY_KEY), ("ours", scripts.READ))
    }
    await in_turns(bench, "read", loads)
    _times(bench, "get_user_streak", "read", "primary key", 1.5)


async def batch(bench: Bench) -> None:
    """New days by batches of 100 users beside single calls; then batches that overlap in different orders."""
    ours, _ = fresh_users(bench)
    await ours.start()
    counted, before = 0, await ledger_rows(bench)

    async def one(script: str, users: int, per_call: int) -> float:
        nonlocal counted
        base, count = await ours.take(users)
        calls = count // (16 * per_call)
        outcome = await bench.pgbench.run(Load(script, calls=calls, variables={"base": base, "at": ours.at}))
        counted += outcome.calls * per_call
        return outcome.per_second * per_call

    # long enough to measure, and no more users than there are for all rounds
    budget = min(bench.users // 4, 16 * BATCH * 64)
    rounds: dict[str, list[float]] = {"single": [], "ours": []}
    for _ in range(bench.rounds):
        rounds["single"].append(await one(scripts.FRESH + scripts.UPDATE, budget // 4, 1))
        rounds["ours"].append(await one(scripts.NEW_BATCH, max(budget, 16 * BATCH), BATCH))
    bench.take("batch", rounds)
    _quotient(bench, f"batch of {BATCH} new days, users a second", "batch", "single", 6.0)
    added = await ledger_rows(bench) - before
    bench.figures.append(
        Figure(
            "ledger rows added by batches",
            f"{added:,}",
            f"{counted:,} elements",
            added / counted,
            "equal",
            added == counted,
        )
    )
    await _overlap(bench, ours)


async def _overlap(bench: Bench, ours: Fresh) -> None:
    """Sixteen clients send the same new days at the same time, in different orders."""
    deadlocks = "select deadlocks from pg_stat_database where datname = current_database()"
    base, count = await ours.take(min(bench.users // 4, 20_000))
    calls = count // 50 - 1
    before, rows = await bench.connection.fetchval(deadlocks), await ledger_rows(bench)
    load = Load(scripts.OVERLAPPING_BATCH, calls=calls, variables={"base": base, "at": ours.at})
    outcome = await bench.pgbench.run(load)
    found = await bench.connection.fetchval(deadlocks) - before
    added, distinct = await ledger_rows(bench) - rows, 50 * (calls + 1)
    bench.figures += [
        Figure(
            "overlapping batches, deadlocks",
            str(found),
            f"{outcome.calls:,} calls, {outcome.per_second * BATCH:,.0f} users/s",
            None,
            "0",
            found == 0,
        ),
        Figure(
            "overlapping batches, ledger rows",
            f"{added:,}",
            f"{distinct:,} users",
            added / distinct,
            "equal",
            added == distinct,
        ),
    ]
