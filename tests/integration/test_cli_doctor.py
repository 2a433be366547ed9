"""`streaks doctor` against the real stack: what is well, and what is broken on purpose."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TypeAlias

import asyncpg
import pytest
from click.testing import CliRunner

from local_supabase.stack import StackInfo
from streak_client import _doctor
from streak_client.cli import main

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
CHECKS = ["service", "key", "schema", "rights", "public rights", "clock", "publication"]


@pytest.fixture(autouse=True)
def _project(stack: StackInfo, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The command finds the stack in its environment."""
    for name, value in stack.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)


async def examine() -> tuple[int, dict[str, tuple[str, str | None]]]:
    """Run the command, and return its exit status and each check's status and remedy."""
    result = await asyncio.to_thread(CliRunner().invoke, main, ["doctor", "--json"])
    findings = [json.loads(line) for line in result.stdout.splitlines()]
    return result.exit_code, {each["check"]: (each["status"], each["remedy"]) for each in findings}


async def test_a_healthy_project(stack: StackInfo) -> None:
    """In a project as it is deployed every check is well, and no key is printed."""
    assert await examine() == (0, dict.fromkeys(CHECKS, ("ok", None)))
    text = (await asyncio.to_thread(CliRunner().invoke, main, ["doctor"])).output
    assert [line.split()[0] for line in text.splitlines()] == ["ok"] * len(CHECKS)
    assert stack.secret_key not in text


async def test_a_service_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a service there is one failure, and it says what to look at."""
    monkeypatch.setenv("SUPABASE_URL", "http://127.0.0.1:9")
    status, findings = await examine()
    assert (status, list(findings)) == (1, ["service", "publication"])
    assert "SUPABASE_URL" in (findings["service"][1] or "")


async def test_a_wrong_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key of another project is told apart from everything else."""
    monkeypatch.setenv("SUPABASE_SECRET_KEY", "sb_secret_of_another_project")
    status, findings = await examine()
    assert (status, findings["service"][0], findings["key"][0]) == (1, "ok", "failed")
    assert "SUPABASE_SECRET_KEY" in (findings["key"][1] or "")


async def test_a_missing_function_a_lost_right_and_an_open_door(
    db: Connection, stack: StackInfo, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each thing that is wrong with the schema or the rights is a failure of its own, with what mends it."""
    monkeypatch.setenv("SUPABASE_PUBLISHABLE_KEY", stack.secret_key)  # may do what browsers must not
    try:
        await db.execute("alter function public.get_streak_calendar(uuid, date, date) rename to mislaid")
        await db.execute("revoke select on public.streak_days from service_role")
        status, findings = await examine()
    finally:
        await db.execute("alter function public.mislaid(uuid, date, date) rename to get_streak_calendar")
        await db.execute("grant select on public.streak_days to service_role")
    assert status == 1
    assert {check for check, (found, _) in findings.items() if found == "failed"} == {
        "schema",
        "rights",
        "public rights",
    }
    assert "db push" in (findings["schema"][1] or "")
    assert "service_role" in (findings["rights"][1] or "")
    assert "SUPABASE_PUBLISHABLE_KEY" in (findings["public rights"][1] or "")


@pytest.mark.parametrize("name", ["erase_user_streak", "streak_repairs"])
async def test_a_database_of_an_earlier_release(name: str, db: Connection) -> None:
    """An operators' function or table that is not there is named, and the migrations that bring it are the remedy."""
    kind = "function" if name in _doctor.FUNCTIONS else "table"
    await db.execute(f"alter {kind} public.{name} rename to mislaid")
    try:
        result = await asyncio.to_thread(CliRunner().invoke, main, ["doctor", "--json"])
    finally:
        await db.execute(f"alter {kind} public.mislaid rename to {name}")
    findings = {each["check"]: each for each in map(json.loads, result.stdout.splitlines())}
    assert (result.exit_code, [check for check in findings if findings[check]["status"] == "failed"]) == (1, ["schema"])
    assert findings["schema"]["detail"] == f"missing, or not of this release: {name}"
    assert "db push" in findings["schema"]["remedy"]


@pytest.mark.parametrize("name", _doctor.FUNCTIONS)
async def test_no_check_writes(name: str, db: Connection) -> None:
    """What the doctor asks of each function writes nothing and locks no row, answered or refused as bad input."""
    arguments = ", ".join(f"{key} => {literal(value)}" for key, value in _doctor.FUNCTIONS[name].items())
    async with db.transaction():
        try:
            async with db.transaction():
                await db.fetch(f"select * from public.{name}({arguments})")  # noqa: S608 - our own names
        except asyncpg.PostgresError as error:
            assert error.sqlstate in {"22023", "23503"}, error  # noqa: PT017 - an answer is as good
        # PostgreSQL gives a transaction an id with its first write or row lock, undone or not.
        assert await db.fetchval("select pg_current_xact_id_if_assigned() is null")


def literal(value: object) -> str:
    """A value of JSON as SQL writes it."""
    return "null" if value is None else f"'{value}'".replace("[]", "{}")


async def test_a_table_that_is_not_published(db: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the publication no change is heard, and the statement that mends it is given."""
    monkeypatch.setattr("streak_client.cli.doctor.LIVE_SECONDS", 5.0)
    await db.execute("alter publication supabase_realtime drop table public.user_streaks")
    try:
        status, findings = await examine()
    finally:
        await db.execute("alter publication supabase_realtime add table public.user_streaks")
    assert (status, findings["publication"][0]) == (1, "failed")
    assert "alter publication" in (findings["publication"][1] or "")


async def test_a_clock_that_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that is off by more than half a minute is a failure, before activities are refused for it."""
    late = datetime.now(UTC) - timedelta(minutes=2)
    monkeypatch.setattr(_doctor, "utc_now", lambda: late)
    _, findings = await examine()
    assert findings["clock"][0] == "failed"
    assert "NTP" in (findings["clock"][1] or "")
