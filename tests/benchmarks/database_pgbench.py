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

_HERE = Path(__file__).parent
# Scripts are no injection: they hold what stands here and nothing else.
_UUID = "('00000000-0000-4000-8000-' || {})::uuid"
_ID, _ZONE, _AT = _UUID.format(":id::text"), "(:zones)[:z::int]", ":at::timestamptz"
_REQUEST = "'6e1f0c1a-4e27-4c7e-9d0e-' || :r::text"

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

UPDATE = f"select * from public.update_user_streak_atomic({_ID}, {_ZONE}, {_REQUEST}, {_AT});"  # noqa: S608
ORIGINAL = f"select * from original.update_user_streak_atomic({_ID}, {_ZONE}, {_REQUEST});"  # noqa: S608
READ = f"select * from public.get_user_streak({_ID});"  # noqa: S608
PRIMARY_KEY = f"select * from public.user_streaks where user_id = {_ID};"  # noqa: S608


def floor(user: str, zone: str, request: str, at: str) -> str:
    """The raw floor's statement for parameters as one or the other driver writes them."""
    text = (_HERE / "database_floor.sql").read_text(encoding="utf-8")
    return text.format(user=user, zone=zone, request=request, at=at)


FLOOR = floor(_ID, _ZONE, _REQUEST, _AT)


def _batch(order: str) -> str:
    text = (_HERE / "database_batch.sql").read_text(encoding="utf-8")
    return text.format(user=_UUID.format("(100000000000 + x.u)::text"), order=order, at=_AT, size=BATCH)


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
