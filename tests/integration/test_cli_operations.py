"""The operators' commands against the real stack."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import TypeAlias
from uuid import UUID, uuid4

import asyncpg
import pytest
from click.testing import CliRunner, Result

from local_supabase.stack import StackInfo
from streak_client import AsyncStreakClient, StreakClient
from streak_client.cli import main
from tests.support.stack import connection, insert_user

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
def _project(stack: StackInfo, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The command finds the stack in its environment."""
    for name, value in stack.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)


async def run(*arguments: str, answer: str | None = None) -> Result:
    """Run the command in this process."""
    return await asyncio.to_thread(CliRunner().invoke, main, arguments, input=answer)


async def line(*arguments: str) -> dict[str, object]:
    """Run the command with --json, and return its only line."""
    result = await run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert isinstance(found, dict)
    return found


def noon(days_ago: int) -> datetime:
    """Noon UTC, so many days ago."""
    return datetime.combine(datetime.now(UTC).date() - days_ago * DAY, time(12), UTC)


@pytest.fixture
async def acting(db: Connection, new_user: Callable[[], Awaitable[UUID]]) -> Callable[..., Awaitable[UUID]]:
    """A function that makes a user who was active so many days ago."""

    async def make(*days_ago: int) -> UUID:
        user_id = await new_user()
        for ago in sorted(days_ago, reverse=True):
            await db.execute(
                "select * from public.import_user_activity(array[$1::uuid], array[$2::timestamptz], array['UTC'])",
                user_id,
                noon(ago),
            )
        return user_id

    return make


Acting: TypeAlias = Callable[..., Awaitable[UUID]]


async def ledger(db: Connection, user_id: UUID) -> dict[date, str]:
    """Days and kinds of a user."""
    rows = await db.fetch("select day, kind from public.streak_days where user_id = $1", user_id)
    return {row["day"]: row["kind"] for row in rows}


async def test_explain(acting: Acting, stack: StackInfo) -> None:
    """`explain` and both clients say which days count, why the run before broke, and when the streak lapses."""
    user_id = await acting(9, 8, 7, 3, 2, 1)
    text = (await run("explain", str(user_id))).stdout
    assert f"goes from {noon(3).date()} to {noon(1).date()} and counts 3 days" in " ".join(text.split())
    assert f"nothing counted from {noon(6).date()} to {noon(4).date()} (3 days)" in " ".join(text.split())
    with StreakClient(stack.supabase_url, stack.secret_key) as client:
        found = await asyncio.to_thread(client.explain_user_streak, user_id)
    async with AsyncStreakClient(stack.supabase_url, stack.secret_key) as twin:
        assert await twin.explain_user_streak(user_id) == found
    assert (found.first_day, found.last_day, found.current_streak) == (noon(3).date(), noon(1).date(), 3)
    assert [entry.version_after for entry in found.history] == [6, 5, 4, 3, 2, 1]
    assert (await line("explain", str(user_id)))["first_day"] == str(noon(3).date())


async def test_undo_asks_and_takes_one_day(acting: Acting, db: Connection) -> None:
    """`undo` does nothing without a yes, then takes the day, and names what is wrong with any other."""
    user_id = await acting(3, 2, 1)
    arguments = ("undo", str(user_id), "--day", str(noon(2).date()), "--reason", "a test account")
    assert (await run(*arguments, answer="n\n")).exit_code == 1
    assert len(await ledger(db, user_id)) == 3
    assert (await line(*arguments, "--yes"))["current_streak"] == 1
    assert noon(2).date() not in await ledger(db, user_id)
    again = await run(*arguments, "--yes")
    assert (again.exit_code, "p_day" in again.output) == (2, True)


async def test_repair_is_dry_resumable_and_undoable(acting: Acting, db: Connection) -> None:
    """`repair` writes nothing without --apply, then gives the days back, finds none again, and undoes it all."""
    broken, other = await acting(6, 5, 2, 1), await acting(6, 2, 1)
    before = await ledger(db, broken)
    outage = ("--from", (noon(4) - DAY / 3).isoformat(), "--to", noon(3).isoformat())
    plan = await line("repair", *outage, "--sample", "1000")
    gaps = {"first_day": str(noon(4).date()), "last_day": str(noon(3).date())}
    assert {"user_id": str(broken), "gaps": [gaps]} in plan["sample"]  # type: ignore[operator]
    assert str(other) not in str(plan["sample"])
    assert await ledger(db, broken) == before
    done = await line("repair", *outage, "--apply", "--batch", "1", "--pause", "0")
    assert (done["users"], done["days"]) == (plan["users"], plan["days"])
    assert await ledger(db, broken) == before | {noon(4).date(): "repaired", noon(3).date(): "repaired"}
    assert (await line("repair", *outage, "--apply", "--pause", "0"))["users"] == 0
    assert await line("repair", "--resume", str(done["repair_id"])) == done
    undone = await line("repair", "--undo", str(done["repair_id"]), "--yes", "--pause", "0")
    assert (undone["undone_users"], undone["undone_days"]) == (done["users"], done["days"])
    assert await ledger(db, broken) == before
    assert (await run("repair", "--resume", str(done["repair_id"]))).exit_code == 2
    assert (await run("repair")).exit_code == 2


async def test_merge_export_and_erase(acting: Acting, tmp_path: Path) -> None:
    """`merge` unites two accounts, `export` writes all that is known of one, and `erase` leaves nothing of it."""
    one, other = await acting(3, 1), await acting(4, 2)
    merged = await line("merge", str(other), str(one), "--reason", "one person", "--yes")
    assert (merged["current_streak"], merged["longest_streak"]) == (4, 4)
    file = tmp_path / "user.json"
    assert (await run("export", str(one), "--output", str(file))).exit_code == 0
    assert file.stat().st_mode & 0o777 == 0o600
    assert (await run("export", str(one), "--output", str(file))).exit_code == 2
    document = json.loads(file.read_text(encoding="utf-8"))
    assert len(document["days"]) == 4
    assert document["history"][-1]["reason"] == f"merged from {other}: one person"
    gone = await line("erase", str(one), "--yes")
    assert (gone["streaks"], gone["days"], gone["history"]) == (1, 4, len(document["history"]))
    left = await line("export", str(one))
    assert (left["streak"], left["days"], left["history"]) == (None, [], [])
    assert (await run("export", str(uuid4()))).exit_code == 2


async def test_archive(acting: Acting, db: Connection) -> None:
    """`archive` refuses less than 30 days, and without a setting or an age it moves nothing."""
    user_id = await acting(3, 2, 1)
    assert (await run("archive", "--older-than", "29")).exit_code == 2
    assert await line("archive") == {"archived": 0, "removed": False}
    await line("archive", "--older-than", "30")
    query = "select count(*) from public.streak_history where user_id = $1"
    assert await db.fetchval(query, user_id) == 3


@pytest.fixture
async def spoilt(stack: StackInfo) -> AsyncIterator[UUID]:
    """A user whose version once jumped, as a write that went past the history leaves it."""
    async with connection(stack) as database:
        user_id = await insert_user(database)
        await database.execute("select public.update_user_streak_atomic($1)", user_id)
        await database.execute("alter table public.user_streaks disable trigger version_user_streak")
        await database.execute("update public.user_streaks set version = 7 where user_id = $1", user_id)
        await database.execute("alter table public.user_streaks enable trigger version_user_streak")
        await database.execute("select public.rebuild_user_streak($1)", user_id)
        for n in range(7):
            await database.execute(
                "update public.user_streaks set longest_streak = $2 where user_id = $1", user_id, n + 2
            )
        yield user_id
        await database.execute("delete from auth.users where id = $1", user_id)


async def test_doctor_asks_the_database(spoilt: UUID) -> None:
    """`doctor --database` finds the version that jumped and the user who changes too often, and fails for the first."""
    result = await run("doctor", "--database", "--json", "--limit", "1000")
    found = {each["check_name"]: each for each in map(json.loads, result.stdout.splitlines())}
    assert result.exit_code == 1
    assert found["version gaps"]["status"] == "failed"
    assert str(spoilt) in str(found["version gaps"]["sample"])
    assert found["hot users"]["status"] == "warning"
    assert str(spoilt) in str(found["hot users"]["sample"])
    assert str(spoilt) not in str(found["same-day duplicates"]["sample"])
    assert str(spoilt) in (await run("doctor", "--database", "--limit", "1000")).stdout
