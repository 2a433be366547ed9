"""A database with streaks of every kind, and all that it holds and says, for tests of backup and restore."""

from __future__ import annotations

import csv
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import TypeAlias
from uuid import UUID

import asyncpg

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
ACTIVITY = Path(__file__).parents[1] / "data" / "activity.csv"
TABLES = (
    *("user_streaks", "streak_days", "streak_history", "streak_history_archive", "user_profiles", "streak_repairs"),
    "private.streak_repair_users",
)
BY_HAND, TRAVELLER, LAPSED = (UUID(int=number) for number in (1, 2, 3))


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Connection]:
    """A connection as the owner."""
    connection = await asyncpg.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


async def fill(url: str) -> None:
    """Real activity of 275 people, and beside them a row made by hand, a journey, a lapse, a repair and profiles."""
    with ACTIVITY.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    users = sorted({UUID(row["user_id"]) for row in rows} | {BY_HAND, TRAVELLER, LAPSED})
    async with opened(url) as connection:
        await connection.executemany("insert into auth.users (id) values ($1)", [(user,) for user in users])
        await connection.execute(
            "select public.import_user_activity($1, $2, $3)",
            [UUID(row["user_id"]) for row in rows],
            [datetime.fromisoformat(row["occurred_at"]) for row in rows],
            [row["timezone"] for row in rows],
        )
        # Its trigger seeds the ledger, and must not do so again in a restore.
        await connection.execute(
            "insert into public.user_streaks (user_id, current_streak, longest_streak, last_active_date) "
            "values ($1, 3, 40, current_date)",
            BY_HAND,
        )
        now = await connection.fetchval("select now()")
        for user, days, zone in ((LAPSED, 5, "UTC"), (TRAVELLER, 4, "America/Los_Angeles"), (TRAVELLER, 0, None)):
            await update(connection, user, now - timedelta(days=days), zone)
        await connection.execute("select public.expire_lapsed_streaks(1000)")
        await connection.execute(
            "insert into public.user_profiles (user_id, timezone, leaderboard_opt_out) "
            "values ($1, $2, true), ($3, '', false)",
            TRAVELLER,
            'Zone with "quotes", commas\nand lines',
            LAPSED,
        )
        await connection.execute(
            "select public.start_streak_repair(now() - interval '3 days', now() - interval '2 days', 'an outage')"
        )
        await connection.execute(
            "select public.recover_user_streak($1, current_date - 3, current_date - 1, $2)",
            TRAVELLER,
            'He said "please"',
        )


async def update(connection: Connection, user: UUID, at: datetime, zone: str | None = None) -> asyncpg.Record:
    """Count an activity, with a request id of the user and the day."""
    answer = await connection.fetchrow(
        "select * from public.update_user_streak_atomic($1, $2, $3, $4)", user, zone, f"{user} {at.date()}", at
    )
    assert answer is not None
    return answer


async def everything(url: str) -> dict[str, list[asyncpg.Record]]:
    """Every row of every table, and what the functions say of every user."""
    async with opened(url) as connection:
        await connection.execute("set search_path = public")
        found = {name: await connection.fetch(f"select t.* from {name} t order by t::text") for name in TABLES}  # noqa: S608
        found["answers"] = await connection.fetch(
            "select r.* from public.get_user_streaks(array(select id from auth.users order by id)) r"
        )
        found["leaderboard"] = await connection.fetch("select * from public.get_streak_leaderboard(1000)")
        found["users"] = await connection.fetch("select id from auth.users order by id")
        return found
