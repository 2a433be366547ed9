"""A database as the field has it before the upgrade: the original schema, with what was seen in rows and beside it."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import TypeAlias
from uuid import UUID

import asyncpg

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
TODAY = datetime.now(UTC).date()
DAY = timedelta(days=1)

REGULAR = UUID(int=1)  # three days until yesterday; repeats logged without a new version, one request id all the time
ARCHIVED = UUID(int=2)  # 40 days until today, 60 at best; the history of all but the last two days is archived
DEAD = UUID(int=3)  # 500 days until 2020, no history
JUNK_ZONE = UUID(int=4)  # a zone that is none, in the row and in the history
LOWER_ZONE = UUID(int=5)  # a zone in another spelling than the server's
WENT_WEST = UUID(int=6)  # was reset by a flight west, though no day is missing
ZEROED = UUID(int=7)  # set to 0 by a job of the platform's own
NO_STREAK = UUID(int=8)  # a profile, and no activity yet
HIDDEN = UUID(int=9)  # a row and no profile

BESIDE = "alter table public.user_streaks add constraint unique_user_streak unique (user_id);"
INSTEAD = "alter table public.user_streaks drop constraint user_streaks_user_id_key;" + BESIDE

AROUND = """
create table public.user_profiles (id uuid primary key references auth.users (id) on delete cascade, full_name text);
alter table public.user_profiles enable row level security;
create policy "Public profiles" on public.user_profiles for select using (true);
grant select on public.user_profiles to anon;
alter table public.user_profiles add column if not exists timezone varchar(64) default 'UTC';

alter table public.streak_history add column duration_ms integer;
create index idx_user_streaks_again on public.user_streaks (user_id, current_streak);
create function public.update_user_streak_atomic(p_user_id uuid) returns json language sql as $$ select '{}'::json $$;
create function public.get_user_streak(p_user uuid, p_zone text) returns integer language sql as $$ select 1 $$;
grant all on public.user_streaks, public.streak_history to anon, authenticated;
"""


async def fill(connection: Connection) -> None:
    """Put the users' rows in."""
    users = [REGULAR, ARCHIVED, DEAD, JUNK_ZONE, LOWER_ZONE, WENT_WEST, ZEROED, NO_STREAK, HIDDEN]
    await connection.execute("insert into auth.users (id) select unnest($1::uuid[])", users)
    await connection.executemany(
        "insert into public.user_profiles (id, full_name, timezone) values ($1, 'A name', $2)",
        [(user, "Asia/Kolkata") for user in users if user != HIDDEN],
    )
    await connection.executemany(
        "insert into public.user_streaks (user_id, current_streak, longest_streak, last_active_date, timezone, version)"
        " values ($1, $2, $3, $4, $5, $6)",
        [
            (REGULAR, 3, 7, TODAY - DAY, "Europe/Berlin", 12),
            (ARCHIVED, 40, 60, TODAY, "UTC", 100),
            (DEAD, 500, 500, date(2020, 2, 1), "UTC", 500),
            (JUNK_ZONE, 2, 2, TODAY - DAY, "FOO+5", 2),
            (LOWER_ZONE, 1, 1, TODAY - DAY, "america/new_york", 1),
            (WENT_WEST, 1, 4, TODAY - 2 * DAY, "America/Los_Angeles", 5),
            (ZEROED, 0, 9, TODAY - 30 * DAY, "UTC", 10),
            (HIDDEN, 1, 1, TODAY, "UTC", 1),
        ],
    )
    await connection.executemany(
        "insert into public.streak_history (user_id, old_current_streak, new_current_streak, old_longest_streak,"
        " new_longest_streak, activity_date, last_active_date, change_type, timezone, version_before, version_after,"
        " request_id, created_at) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
        history(),
    )


def history() -> list[tuple[object, ...]]:
    """The rows that the original wrote, and the repeats that the field's did."""
    rows = [
        (REGULAR, 0, 1, 7, 7, 3, 4, "STREAK_INCREMENT", "Europe/Berlin", 9, 10, "req"),
        (REGULAR, 1, 2, 7, 7, 2, 3, "STREAK_INCREMENT", "Europe/Berlin", 10, 11, "req"),
        (REGULAR, 2, 2, 7, 7, 2, 2, "STREAK_MAINTAINED", "Europe/Berlin", 11, 11, "req"),
        (REGULAR, 2, 2, 7, 7, 2, 2, "STREAK_MAINTAINED", "Europe/Berlin", 11, 11, "req"),
        (REGULAR, 2, 3, 7, 7, 1, 2, "STREAK_INCREMENT", "Europe/Berlin", 11, 12, "req"),
        (ARCHIVED, 38, 39, 60, 60, 1, 2, "STREAK_INCREMENT", "UTC", 98, 99, None),
        (ARCHIVED, 39, 40, 60, 60, 0, 1, "STREAK_INCREMENT", "UTC", 99, 100, None),
        (JUNK_ZONE, 1, 2, 1, 2, 1, 2, "STREAK_INCREMENT", "Mars/Olympus_Mons", 1, 2, None),
        (LOWER_ZONE, 0, 1, 0, 1, 1, 1, "FIRST_ACTIVITY", "america/new_york", 0, 1, None),
        (WENT_WEST, 0, 1, 0, 1, 4, 4, "FIRST_ACTIVITY", "Asia/Tokyo", 0, 1, None),
        (WENT_WEST, 1, 2, 1, 2, 3, 4, "STREAK_INCREMENT", "Asia/Tokyo", 1, 2, None),
        (WENT_WEST, 2, 3, 2, 3, 2, 3, "STREAK_INCREMENT", "Asia/Tokyo", 2, 3, None),
        (WENT_WEST, 3, 4, 3, 4, 1, 2, "STREAK_INCREMENT", "Asia/Tokyo", 3, 4, None),
        (WENT_WEST, 4, 1, 4, 4, 2, 1, "STREAK_RESET", "America/Los_Angeles", 4, 5, None),
    ]
    return [
        (
            *(user, old, new, old_best, best, TODAY - ago * DAY, TODAY - last * DAY, *rest),
            # this user's was restored from an archive, today
            instant(TODAY if user == ARCHIVED else TODAY - ago * DAY),
        )
        for user, old, new, old_best, best, ago, last, *rest in rows
    ]


def instant(day: date) -> datetime:
    """When the history of a day was written."""
    return datetime(day.year, day.month, day.day, 11, tzinfo=UTC)
