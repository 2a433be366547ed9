"""The works of the database benchmark that one connection measures: leaderboard, import, and CPU time a call."""

from __future__ import annotations

import statistics
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import TypeAlias
from uuid import UUID, uuid4

import asyncpg

from tests.benchmarks.database_load import NOON, Connection
from tests.benchmarks.database_pgbench import BATCH, STRIDE, floor
from tests.benchmarks.database_works import Bench, Figure, Fresh, clock_shift, fresh_users, set_our_clock

Statement: TypeAlias = "asyncpg.prepared_stmt.PreparedStatement[asyncpg.Record]"

_BOARD = "select * from public.get_streak_leaderboard(100)"
_EVENTS, _PER_USER = 10_000, 10


def cpu_us(pid: int) -> float:
    """The CPU time that a process has used, in microseconds."""
    return int(Path(f"/proc/{pid}/schedstat").read_text(encoding="ascii").split()[0]) / 1000


def user_id(number: int) -> UUID:
    """The id of a user by number."""
    return UUID(f"00000000-0000-4000-8000-{100_000_000_000 + number}")


async def leaderboard(bench: Bench) -> None:
    """The top 100 of all users beside the top 100 of 10,000."""
    small = await asyncpg.connect(bench.small_url)
    try:
        await set_our_clock(small, clock_shift(0))
        await set_our_clock(bench.connection, clock_shift(0))
        took: dict[str, list[float]] = {"ours": [], "small": []}
        for _ in range(bench.rounds):
            for peer, connection in (("ours", bench.connection), ("small", small)):
                took[peer].append(statistics.median(await _board(connection)))
        await _lapsed(bench)
    finally:
        await small.close()
    medians = bench.take("leaderboard, ms", took)
    ratio = bench.ratio("leaderboard, ms", "ours", "small")
    name, here = f"leaderboard top 100 of {bench.users:,}", medians["ours"]
    bench.figures += [
        Figure(name, f"{here:.2f} ms", "", here, "under 5 ms", here < 5),
        Figure(
            name, f"{here:.2f} ms", f"10,000 users: {medians['small']:.2f} ms", ratio, "at most 1.5 x", ratio <= 1.5
        ),
    ]
    bench.details.append(("Plan of the leaderboard", await _plan(bench)))


async def _board(connection: Connection, calls: int = 50) -> list[float]:
    statement, took = await connection.prepare(_BOARD), []
    for _ in range(calls):
        began = time.perf_counter()
        rows = await statement.fetch()
        took.append((time.perf_counter() - began) * 1000)
        assert len(rows) == 100
    return took


async def _lapsed(bench: Bench) -> None:
    """What the leaderboard had to skip, and that it did."""
    lapsed, longest, best = await bench.connection.fetchrow("""
        select avg((s.expires_at <= private.now())::integer)::float,
          min(s.run_length) filter (where s.expires_at <= private.now()),
          max(s.run_length) filter (where s.expires_at > private.now())
        from public.user_streaks s join public.user_profiles p on p.user_id = s.user_id
        where s.current_streak > 0 and not p.leaderboard_opt_out
    """)  # type: ignore[misc]
    top = await bench.connection.fetchval("select max(current_streak) from public.get_streak_leaderboard(1)")
    bench.figures.append(
        Figure(
            "lapsed, unswept, longer",
            f"{lapsed:.0%}, from {longest} days and more",
            f"first of the board {top}",
            None,
            "",
            top == best,
        )
    )


async def _plan(bench: Bench) -> str:
    """What the statement inside the function does, as auto_explain sees it."""
    connection = await asyncpg.connect(bench.url)
    logged: list[str] = []
    connection.add_log_listener(lambda _, message: logged.append(str(message.message)))
    try:
        await connection.execute("load 'auto_explain'")
        await connection.execute("""
            set auto_explain.log_min_duration = 0; set auto_explain.log_nested_statements = on;
            set auto_explain.log_analyze = on; set auto_explain.log_buffers = on; set client_min_messages = log;
        """)
        await connection.fetch(_BOARD)
    finally:
        await connection.close()
    return max((text for text in logged if "Recursive Union" in text), key=len, default="\n".join(logged))


async def import_events(bench: Bench) -> None:
    """Back-fills by calls of 10,000 events, 10 for each user: users with a row, and users without one."""
    await set_our_clock(bench.connection, clock_shift(0))
    kinds = {"users with a streak": _lapsed_users, "new users": _new_users}
    rates: dict[str, list[float]] = {kind: [] for kind in kinds}
    used = 0
    for _ in range(bench.rounds):
        for kind, choose in kinds.items():
            users = await choose(bench, used)
            used += len(users)
            rates[kind].append(await _import(bench, users))
    for kind, rate in bench.take("import", rates).items():
        bench.figures.append(
            Figure(f"import, {kind}", f"{rate:,.0f} events/s", "", rate, "at least 30,000", rate >= 30_000)
        )


async def _lapsed_users(bench: Bench, used: int) -> list[UUID]:
    tens = bench.users // 10
    return [user_id((used + n) * STRIDE % tens * 10 + 2) for n in range(min(_EVENTS // _PER_USER, tens))]


async def _new_users(bench: Bench, _used: int) -> list[UUID]:
    users = [uuid4() for _ in range(_EVENTS // _PER_USER)]
    await bench.connection.execute("insert into auth.users (id) select unnest($1::uuid[])", users)
    return users


async def _import(bench: Bench, users: list[UUID]) -> float:
    # of a year before anything in the ledger, in runs of five days
    began_at = NOON - timedelta(days=2000 + uuid4().int % 1000)
    ats = [began_at + timedelta(days=day + day // 5) for day in range(_PER_USER)]
    events: list[tuple[UUID, datetime]] = [(user, at) for at in ats for user in users]
    ids, times = [user for user, _ in events], [at for _, at in events]
    zones = ["Europe/Berlin"] * len(events)
    statement = await bench.connection.prepare("select * from public.import_user_activity($1, $2, $3)")
    began = time.perf_counter()
    rows = await statement.fetch(ids, times, zones)
    took = time.perf_counter() - began
    assert len(rows) == len(users)
    assert all(row["days_added"] == _PER_USER for row in rows), rows[0]
    return len(events) / took


_CALLS = (
    floor("$1", "$2", "$3", "$4"),
    "select * from public.update_user_streak_atomic($1, $2, $3, $4)",
    "select * from original.update_user_streak_atomic($1, $2, $3)",
    "select * from public.user_streaks where user_id = $1",
    "select * from public.get_user_streak($1)",
    "select * from public.update_user_streaks_batch($1, $2, $3, $4)",
)


class _Cpu:
    """Calls in groups of 100 by one connection, each group's CPU time read from the kernel."""

    def __init__(self, bench: Bench, connection: Connection, pid: int) -> None:
        self._bench = bench
        self._connection = connection
        self._pid = pid
        self._took: dict[str, list[float]] = {}

    async def run(self, ours: Fresh, theirs: Fresh) -> dict[str, list[float]]:
        """Measures every kind of call in turns, in microseconds a call (a user, for batches)."""
        groups = max(min(25 * self._bench.rounds, self._bench.users // 2 // (3 * BATCH)), 1)
        base, count = await ours.take(3 * BATCH * groups)
        their_base, _ = await theirs.take(BATCH * groups)
        at = NOON + timedelta(days=ours.day)
        prepared = [await self._connection.prepare(sql) for sql in _CALLS]
        raw_floor, update, original, row, read, batch = prepared
        for start in range(base, base + count - 3 * BATCH + 1, 3 * BATCH):
            raw, single, many = (self._users(start + n * BATCH) for n in range(3))
            old = self._users(their_base + (start - base) // 3)
            await self._group("(r)", [(raw_floor, (user, zone, str(uuid4()), at)) for user, zone in raw])
            await self._group("(o) new day", [(original, (user, zone, str(uuid4()))) for user, zone in old])
            await self._group("new day", [(update, (user, zone, str(uuid4()), at)) for user, zone in single])
            await self._group("(o) repeat", [(original, (user, zone, str(uuid4()))) for user, zone in old])
            await self._group("primary key", [(row, (user,)) for user, _ in single])
            await self._group("repeat", [(update, (user, zone, str(uuid4()), at)) for user, zone in single])
            await self._group("get_user_streak", [(read, (user,)) for user, _ in single])
            ids, zones = [user for user, _ in many], [zone for _, zone in many]
            for name in ("batch, new day", "batch, repeat"):
                requests = [str(uuid4()) for _ in many]
                await self._group(name, [(batch, (ids, [at] * len(ids), zones, requests))], len(ids))
        return self._took

    def _users(self, position: int) -> list[tuple[UUID, str]]:
        places = [(position + n) * STRIDE % (self._bench.users // 2) for n in range(BATCH)]
        zones = self._bench.pgbench.zones
        return [(user_id(u), zones[u // 10 % len(zones)]) for p in places for u in [p // 5 * 10 + 5 + p % 5]]

    async def _group(self, name: str, calls: list[tuple[Statement, tuple[object, ...]]], of: int | None = None) -> None:
        before = cpu_us(self._pid)
        for statement, arguments in calls:
            await statement.fetch(*arguments)
        self._took.setdefault(name, []).append((cpu_us(self._pid) - before) / (of or len(calls)))


async def cpu(bench: Bench) -> None:
    """CPU time that the server spends on a call, without the network and the load generator: what bounds the ratios."""
    ours, theirs = fresh_users(bench)
    await ours.start()
    await theirs.start()
    connection = await asyncpg.connect(bench.url)
    try:
        pid = await connection.fetchval("select pg_backend_pid()")
        medians = bench.take("CPU, us", await _Cpu(bench, connection, pid).run(ours, theirs))
    finally:
        await connection.close()
    lines = [f"{name:18}{us:8.1f} us" for name, us in medians.items()]
    pairs = [("(r)", "new day"), ("(o) new day", "new day"), ("(o) repeat", "repeat"), ("new day", "batch, new day")]
    lines += [f"{peer} / {name}: {medians[peer] / medians[name]:.2f}" for peer, name in pairs]
    lines += [
        f"{name} / primary key: {medians[name] / medians['primary key']:.2f}" for name in ("repeat", "get_user_streak")
    ]
    bench.details.append(("The server's CPU time a call, one connection", "\n".join(lines)))
