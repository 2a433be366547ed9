"""The main job, as people run it: `streaks up --demo` and `streaks replay`, against a count made independently."""

from __future__ import annotations

import asyncio
import csv
import json
import os
import re
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

import asyncpg
import httpx
import pytest
from httpx_sse import aconnect_sse

from local_supabase.stack import StackInfo
from streak_client import AsyncStreakClient, UserStreak

ROOT = Path(__file__).parents[2]
FILE = ROOT / "tests" / "data" / "activity.csv"
STREAKS = str(Path(sys.executable).with_name("streaks"))
DAY = timedelta(days=1)
PEOPLE, EVENTS, LOCAL_DAYS, LONGEST = 275, 6_069, 3_182, 13
# The first start on a machine downloads PostgreSQL and more.
PATIENCE = 280.0


class Event(NamedTuple):
    """A line of the file."""

    at: datetime
    zone: ZoneInfo


class Count(NamedTuple):
    """What a person's streak must be."""

    current: int
    longest: int
    last: date


def read_file() -> dict[UUID, list[Event]]:
    """Read the file by person."""
    people: defaultdict[UUID, list[Event]] = defaultdict(list)
    with FILE.open(newline="") as file:
        for row in csv.DictReader(file):
            at = datetime.fromisoformat(row["occurred_at"])
            people[UUID(row["user_id"])].append(Event(at, ZoneInfo(row["timezone"])))
    return dict(people)


def count(events: Sequence[Event], now: datetime, shift: int = 0) -> Count:
    """Count gaps and islands over local dates, for a history moved by whole days."""
    days = sorted({(event.at + shift * DAY).astimezone(event.zone).date() for event in events})
    runs = [1]
    for earlier, later in pairwise(days):
        runs.append(runs[-1] + 1 if later - earlier == DAY else 1)
    alive = now.astimezone(events[0].zone).date() - days[-1] <= DAY
    return Count(runs[-1] if alive else 0, max(runs), days[-1])


def counts(events: Sequence[Event], moved: tuple[datetime, datetime], read: tuple[datetime, datetime]) -> set[Count]:
    """Give the counts for every moment at which the demo may have moved the history and the streak been read.

    Nearly always there is one; a midnight, or a person's whole day, may fall between the two ends of an interval.
    """
    last = max(event.at for event in events)
    return {count(events, now, (at - last) // DAY) for at in moved for now in read}


def told(streak: UserStreak) -> Count:
    """Bring an answer into the form of the count."""
    assert streak.last_active_date is not None
    return Count(streak.current_streak, streak.longest_streak, streak.last_active_date)


async def read_streaks(url: str, key: str, people: Sequence[UUID]) -> dict[UUID, UserStreak]:
    """Read everybody's streak through the client."""
    async with AsyncStreakClient(url, key) as client:
        return await client.get_user_streaks(people)


async def current_over_rest(url: str, key: str, person: UUID) -> Count:
    """Read a streak through the REST API."""
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {key}"}) as http:
        answer = (await http.get(f"{url}/api/streak/{person}")).raise_for_status().json()
    return Count(answer["current_streak"], answer["longest_streak"], date.fromisoformat(answer["last_active_date"]))


async def active_streaks(url: str, token: str) -> int:
    """Read the dashboard's count of active streaks."""
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {token}"}) as http:
        answer = (await http.get(f"{url}/dashboard/summary")).raise_for_status().json()
    return int(answer["counts"]["active"])


async def test_the_file_is_what_the_tests_take_it_for() -> None:
    """The independent count finds the people, events, days and longest streak that the data's README states."""
    people = read_file()
    events = [event for history in people.values() for event in history]
    days = {(user, event.at.astimezone(event.zone).date()) for user, history in people.items() for event in history}
    longest = max(count(history, datetime.now(UTC)).longest for history in people.values())
    assert (len(people), len(events), len(days), longest) == (PEOPLE, EVENTS, LOCAL_DAYS, LONGEST)


@asynccontextmanager
async def streaks_up(*arguments: str) -> AsyncIterator[tuple[dict[str, str], asyncio.subprocess.Process]]:
    """Run `streaks up` on free ports, and end it by SIGTERM."""
    process = await asyncio.create_subprocess_exec(
        STREAKS, "up", "--port", "0", *arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdout is not None
    try:
        line = (await process.stdout.readline()).decode()
        assert line.startswith("READY "), line
        yield json.loads(line.removeprefix("READY ")), process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(30):
            await process.wait()


async def follow(bridge_url: str, key: str, versions: dict[UUID, int], heard: asyncio.Event) -> None:
    """Keep the newest version of each user that one SSE listener without debounce is told."""
    headers = {"Authorization": f"Bearer {key}"}
    async with (
        httpx.AsyncClient(timeout=None) as http,  # noqa: S113 - the test's own time-out ends it
        aconnect_sse(http, "GET", f"{bridge_url}/events?debounce=0", headers=headers) as source,
        aclosing(source.aiter_sse()) as events,
    ):
        async for event in events:
            message = json.loads(event.data) if event.data else {}
            if message.get("streak"):
                versions[UUID(message["user_id"])] = message["streak"]["version"]
            heard.set()


@pytest.mark.timeout(300)
async def test_the_demo_counts_everybody_right_and_every_listener_hears_it() -> None:
    """After `streaks up --demo`, all 275 streaks equal an independent count, and no listener misses a final state."""
    people = read_file()
    began = datetime.now(UTC)
    async with asyncio.timeout(PATIENCE), streaks_up("--demo", "--speed", "0") as (ready, process):
        assert process.stdout is not None
        versions: dict[UUID, int] = {}
        heard = asyncio.Event()
        listener = asyncio.create_task(
            follow(ready["BRIDGE_URL"], ready["SUPABASE_SECRET_KEY"], versions, heard), name="listener"
        )
        report = ""
        while not (
            ended := re.search(r"([\d,]+) played live; listeners received ([\d,]+) changes, (\d+) missing", report)
        ):
            line = await process.stdout.readline()
            assert line, report
            report += line.decode()
        moved = (began, datetime.now(UTC))

        assert ended.group(3) == "0", report
        assert f"{PEOPLE} people, {EVENTS:,} activities" in report
        before = datetime.now(UTC)
        streaks = await read_streaks(ready["SUPABASE_URL"], ready["SUPABASE_SECRET_KEY"], list(people))
        read = (before, datetime.now(UTC))
        wrong = {
            user: told(streaks[user]) for user in people if told(streaks[user]) not in counts(people[user], moved, read)
        }
        assert wrong == {}
        some = next(iter(people))
        link, _, token = ready["DASHBOARD_URL"].partition("#link=")
        assert link == f"{ready['BRIDGE_URL']}/"
        assert await active_streaks(ready["BRIDGE_URL"], token) == sum(s.current_streak > 0 for s in streaks.values())
        assert await current_over_rest(ready["API_URL"], ready["SUPABASE_SECRET_KEY"], some) == told(streaks[some])
        assert max(streak.longest_streak for streak in streaks.values()) == LONGEST
        while {user: streak.version for user, streak in streaks.items()} != versions:
            heard.clear()
            await heard.wait()
        listener.cancel()
        assert process.returncode is None, "it stays up"
    assert process.returncode == 0


@pytest.fixture
async def file_users(db: asyncpg.Connection[asyncpg.Record]) -> AsyncIterator[list[UUID]]:
    """The file's users, none of whom exists before the test or after it."""
    users = list(read_file())
    await db.execute("delete from auth.users where id = any($1)", users)
    yield users
    await db.execute("delete from auth.users where id = any($1)", users)


def environment(stack: StackInfo) -> Iterator[tuple[str, str]]:
    """Name the stack in the environment of a command."""
    yield from os.environ.items()
    yield from stack.environment().items()


async def replay(stack: StackInfo, *arguments: str) -> tuple[int, str]:
    """Run `streaks replay` of the untouched file; give its exit status and its output."""
    process = await asyncio.create_subprocess_exec(
        STREAKS,
        "replay",
        str(FILE),
        *arguments,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=dict(environment(stack)),
    )
    output, _ = await process.communicate()
    return process.returncode or 0, output.decode()


@pytest.mark.timeout(300)
async def test_replaying_the_untouched_file_counts_everybody_right(
    stack: StackInfo, db: asyncpg.Connection[asyncpg.Record], file_users: list[UUID]
) -> None:
    """After `streaks replay`, and after a second one, all 275 streaks and the ledger equal an independent count."""
    people = read_file()
    history = "select count(*) from public.streak_history where user_id = any($1)"
    rows = []
    for attempt in range(2):
        status, output = await replay(stack, *(["--create-users"] if attempt == 0 else []))
        assert status == 0, output
        assert f"{EVENTS} activities of {PEOPLE} people" in output
        streaks = await read_streaks(stack.supabase_url, stack.secret_key, file_users)
        now = datetime.now(UTC)
        assert {user: told(streaks[user]) for user in people} == {user: count(people[user], now) for user in people}
        days = await db.fetchval("select count(*) from public.streak_days where user_id = any($1)", file_users)
        assert days == LOCAL_DAYS
        rows.append(await db.fetchval(history, file_users))
    assert rows[0] == rows[1], "a second replay writes nothing"


@pytest.mark.usefixtures("file_users")
async def test_replaying_for_unknown_users_says_who_they_are(stack: StackInfo) -> None:
    """Without the users, the command names them, counts nothing, and ends with status 2."""
    status, output = await replay(stack)
    assert status == 2
    assert "275 people's activities were refused" in output
    assert "USER_NOT_FOUND" in output
    assert "Traceback" not in output
