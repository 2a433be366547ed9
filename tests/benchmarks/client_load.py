"""Parts of `bench_client`: lost updates, the REST API under the original's load, and what a burst sends."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import aiohttp
import asyncpg
from postgrest import APIError

from local_supabase.stack import StackInfo
from streak_client import AsyncStreakClient
from supabase import AsyncClient
from tests.support.fault_proxy import fault_proxy

AT_ONCE = 100
BURST = 100

NaiveUpdate = Callable[[UUID, date], Awaitable[None]]


def naive(supabase: AsyncClient) -> NaiveUpdate:
    """Read, compute in Python, write back, as services without an atomic function do."""

    async def update(user: UUID, day: date) -> None:
        table = supabase.table("user_streaks")
        found = (await table.select("*").eq("user_id", str(user)).execute()).data
        if not found:
            row = {"user_id": str(user), "current_streak": 1, "longest_streak": 1, "last_active_date": str(day)}
            with contextlib.suppress(APIError):  # the other first activity was faster
                await supabase.table("user_streaks").insert(row).execute()
            return
        old = cast("dict[str, Any]", found[0])
        last = date.fromisoformat(old["last_active_date"])
        streak = old["current_streak"] + (abs(day - last) == timedelta(1))
        row = {"current_streak": streak, "longest_streak": streak}  # the database lets nobody write the last day
        await supabase.table("user_streaks").update(row).eq("user_id", str(user)).execute()

    return update


async def lost_updates(info: StackInfo, update: NaiveUpdate, users: Sequence[UUID]) -> int:
    """Count the users who acted on two days, both told at the same time, and have no streak of two days then."""
    today = datetime.now(UTC).date()
    days = (today - timedelta(1), today)
    await asyncio.gather(*(update(user, day) for user in users for day in days))
    connection = await asyncpg.connect(info.database_url)
    right: int = await connection.fetchval(
        "select count(*) from public.user_streaks where user_id = any($1) and current_streak = 2", users
    )
    await connection.close()
    return len(users) - right


def by_client(client: AsyncStreakClient) -> NaiveUpdate:
    """Count an activity of a day with the client."""
    now = datetime.now(UTC)

    async def update(user: UUID, day: date) -> None:
        await client.update_user_streak(user, "UTC", activity_at=now - (now.date() - day))

    return update


async def burst_requests(info: StackInfo, user: UUID) -> int:
    """Count the HTTP requests of a hundred simultaneous calls for one user, all of which succeed."""
    async with (
        fault_proxy(info.supabase_url, lambda: None) as proxy,
        AsyncStreakClient(proxy.url, info.secret_key) as client,
    ):
        await asyncio.gather(*(client.update_user_streak(user, "UTC") for _ in range(BURST)))
        return proxy.seen.total()


def cpu_seconds(pid: int) -> float:
    """Read the CPU time of a process on Linux; 0 elsewhere."""
    file = Path(f"/proc/{pid}/schedstat")
    return int(file.read_text().split()[0]) / 1e9 if file.exists() else 0.0


async def rest_load(info: StackInfo, users: Sequence[UUID], requests: int) -> dict[str, float]:
    """Play the original's load test over `streaks serve`, a hundred requests at a time, none of which may fail."""
    server = await asyncio.create_subprocess_exec(
        Path(sys.executable).with_name("streaks"),
        *("serve", "--port", "0", "--rate-limit", "99999/second"),
        stdout=subprocess.PIPE,
        env={**os.environ, **info.environment()},
    )
    assert server.stdout is not None
    url = json.loads((await server.stdout.readline()).decode().removeprefix("READY "))["API_URL"]
    room, took, headers = asyncio.Semaphore(AT_ONCE), list[float](), {"apikey": info.secret_key}
    async with aiohttp.ClientSession(url, headers=headers, connector=aiohttp.TCPConnector(limit=AT_ONCE)) as http:

        async def one(user: UUID) -> None:
            async with room:
                began = time.perf_counter()
                body = {"userId": str(user), "timezone": "UTC"}
                async with http.post("/api/streak/update", json=body) as answer:
                    assert answer.status == 200, await answer.text()
                    await answer.read()
                took.append((time.perf_counter() - began) * 1000)

        await asyncio.gather(*(one(users[number % len(users)]) for number in range(AT_ONCE)))
        took.clear()
        before, began = cpu_seconds(server.pid), time.perf_counter()
        await asyncio.gather(*(one(users[number % len(users)]) for number in range(requests)))
        seconds, cpu = time.perf_counter() - began, cpu_seconds(server.pid) - before
    server.terminate()
    await server.wait()
    return {
        "rest p95, ms": sorted(took)[int(len(took) * 0.95)],
        "rest, a second": requests / seconds,
        "rest cpu a request, ms": cpu / requests * 1000,
    }
