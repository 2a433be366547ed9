"""Runs pgbench: scripts that call the functions under test and their peers, and what pgbench says of them."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import statistics
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

THREADS = 2
BATCH = 100
# Jumping by a prime visits every user once, in an order that no cache likes.
STRIDE = 7_368_787

_UUID = "('00000000-0000-4000-8000-' || {id})::uuid"
ID = _UUID.format(id=":id::text")
CALL = f"{ID}, (:zones)[:z::int], '6e1f0c1a-4e27-4c7e-9d0e-' || :r::text"
"""What each call carries: the user, the zone and the request id; the time comes behind."""
AT = ":at::timestamptz"

_USER = r"""
\set z 1 + (:u / 10) % :zone_count
\set id 100000000000 + :u
\set r random(100000000000, 999999999999)
"""
# Users who have not been active on the benchmark's day, each once: client by client from position :base on.
FRESH = (
    r"""
\set n :n + 1
\set p ((:base + :client_id + :clients * (:n - 1)) * :stride) % :fresh
\set u (:p / 5) * 10 + 5 + :p % 5
"""
    + _USER
)
ACTIVE = (
    r"""
\set u random(0, :tens - 1) * 10 + random(3, 4)
"""
    + _USER
)
HOT = (
    r"""
\set u 13
"""
    + _USER
)
ANYBODY = (
    r"""
\set u random(0, :tens * 10 - 1)
"""
    + _USER
)

UPDATE = f"select * from public.update_user_streak_atomic({CALL}, {AT});"
ORIGINAL = f"select * from original.update_user_streak_atomic({CALL});"
READ = f"select * from public.get_user_streak({ID});"
PRIMARY_KEY = f"select * from public.user_streaks where user_id = {ID};"
FLOOR = f"""
with u as (
  update public.user_streaks
  set current_streak = run_length + 1, run_length = run_length + 1, longest_streak = greatest(longest_streak, run_length + 1),
    last_active_date = last_active_date + 1, expires_at = expires_at + interval '1 day', version = version + 1,
    updated_at = now(), last_activity_at = {AT}, timezone = (:zones)[:z::int]
  where user_id = {ID} returning *
),
d as (
  insert into public.streak_days (user_id, day, kind, activity_at, timezone)
  select user_id, last_active_date, 'active', last_activity_at, timezone from u
)
insert into public.streak_history (
  user_id, old_current_streak, new_current_streak, old_longest_streak, new_longest_streak, activity_date, last_active_date,
  change_type, timezone, version_before, version_after, request_id, created_at, duration_ms, version, activity_at,
  new_last_active_date, expires_at
)
select user_id, current_streak - 1, current_streak, longest_streak, longest_streak, last_active_date, last_active_date - 1,
  'STREAK_INCREMENT', timezone, version - 1, version, '6e1f0c1a-4e27-4c7e-9d0e-' || :r::text, updated_at, 0, version,
  last_activity_at, last_active_date, expires_at
from u;
""".replace("\n", " ")
# A call's users: those at 100 positions in a row, which are far apart. The server makes the arrays, at about 2% of the call.
_BATCH = """
select b.* from (
  select array_agg({uuid} order by {order}) as ids, array_agg((:zones)[(1 + (x.u / 10) % :zone_count::int)::int] order by {order}) as zones,
    array_agg('6e1f0c1a-4e27-4c7e-9d0e-' || (:r::bigint + i)::text order by {order}) as requests
  from generate_series(0, {last}) i
  cross join lateral (select ((:first::bigint + i) * :stride::bigint) % :fresh::bigint as p) y
  cross join lateral (select (y.p / 5) * 10 + 5 + y.p % 5 as u) x
) a cross join lateral public.update_user_streaks_batch(a.ids, array_fill({at}, array[{size}]), a.zones, a.requests) b;
"""


def _batch(order: str) -> str:
    uuid = _UUID.format(id="(100000000000 + x.u)::text")
    return _BATCH.format(uuid=uuid, order=order, last=BATCH - 1, at=AT, size=BATCH).replace("\n", " ")


NEW_BATCH = r"""
\set n :n + 1
\set first :base + 100 * (:client_id + :clients * (:n - 1))
\set r random(100000000000, 999999999999)
""" + _batch("i")
# All clients send the same users at the same time, each in an order of its own.
OVERLAPPING_BATCH = r"""
\set n :n + 1
\set first :base + 50 * (:n - 1)
\set r random(100000000000, 999999999999)
""" + _batch("hashint8extended(i, :client_id)")


@dataclass(frozen=True)
class Load:
    """One run of pgbench.

    Attributes:
        script: The script.
        clients: Connections, each with a call in flight.
        seconds: How long to run; None to run `calls` instead.
        calls: Calls of each client.
        variables: Of the script, beside those of every run.
    """

    script: str
    clients: int = 16
    seconds: float | None = None
    calls: int = 0
    variables: Mapping[str, object] | None = None


@dataclass(frozen=True)
class Outcome:
    """What pgbench reported: calls that succeeded, and how many a second."""

    calls: int
    per_second: float


class PgBench:
    """Runs pgbench against one database.

    Args:
        url: Of the database.
        users: How many users it has.
        zones: The zones of the users, in order.

    Raises:
        FileNotFoundError: There is no pgbench.
    """

    def __init__(self, url: str, users: int, zones: list[str]) -> None:
        program = shutil.which("pgbench")
        if program is None:
            raise FileNotFoundError(
                "pgbench is missing: it comes with PostgreSQL (Debian: apt-get install postgresql-contrib)"
            )
        self._program = program
        self._url = urlsplit(url)
        self._common = {"zone_count": len(zones), "tens": users // 10, "fresh": users // 2, "stride": STRIDE, "n": 0}
        self.zones = zones
        self._zones = "array[" + ", ".join(f"'{zone}'" for zone in zones) + "]"

    async def run(self, load: Load) -> Outcome:
        """Runs one load.

        Raises:
            RuntimeError: pgbench failed, or a call did.
        """
        variables = self._common | {"clients": load.clients} | dict(load.variables or {})
        warm = max(load.clients // 20, 1)
        limit = ["-t", str(load.calls)] if load.seconds is None else ["-T", str(max(round(load.seconds), 1) + warm)]
        with tempfile.NamedTemporaryFile("w", suffix=".sql") as file:
            file.write(load.script.replace(":zones", self._zones))
            file.flush()
            defined = [word for name, value in variables.items() for word in ("-D", f"{name}={value}")]
            shown = await self._pgbench("-c", str(load.clients), "-j", str(THREADS), *limit, *defined, "-f", file.name)
        return _outcome(shown, warm)

    async def _pgbench(self, *arguments: str) -> str:
        environment = os.environ | {"PGPASSWORD": self._url.password or ""}
        where = ["-h", str(self._url.hostname), "-p", str(self._url.port), "-U", str(self._url.username)]
        process = await asyncio.create_subprocess_exec(
            self._program,
            *("-n", "-P", "1", "-M", "prepared", *where, *arguments, self._url.path.lstrip("/")),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment,
        )
        try:
            shown, errors = await process.communicate()
        except BaseException:
            process.kill()
            await process.wait()
            raise
        if process.returncode:
            raise RuntimeError(f"pgbench failed: {errors.decode()[-2000:]}")
        return shown.decode() + errors.decode()


def _outcome(shown: str, warm: int) -> Outcome:
    calls = re.search(r"actually processed: (\d+)", shown)
    failed = re.search(r"failed transactions: (\d+)", shown)
    overall = re.search(r"tps = ([\d.]+)", shown)
    if calls is None or overall is None or (failed is not None and failed[1] != "0"):
        raise RuntimeError(f"pgbench: {shown}")
    # First every connection fills its caches; last, in a run of so many calls, some clients are done before others.
    steady = [float(rate) for rate in re.findall(r"progress: [\d.]+ s, ([\d.]+) tps", shown)][warm:-1]
    return Outcome(int(calls[1]), statistics.mean(steady) if steady else float(overall[1]))
