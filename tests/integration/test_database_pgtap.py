"""The pgTAP files of `supabase test db`, which needs Docker, run here on the embedded server."""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import pytest

from local_supabase.stack import StackInfo
from tests.support.database import database_name
from tests.support.migrated import Connection, database

FILES = sorted((Path(__file__).parents[2] / "supabase" / "tests" / "database").glob("*.sql"))
# Plain SQL, so that Debian's package for another version of PostgreSQL will do.
PACKAGE = "postgresql-15-pgtap"


def pgtap() -> str:
    """The SQL of pgTAP.

    Without the package the tests are skipped; in CI they fail.
    """
    found = sorted(
        path
        for path in Path("/usr/share/postgresql").glob("*/extension/pgtap--*.sql")
        if re.fullmatch(r"pgtap--[\d.]+\.sql", path.name)
    )
    if found:
        return found[-1].read_text(encoding="utf-8")
    if os.environ.get("CI"):
        pytest.fail(f"pgTAP is missing: apt-get install {PACKAGE}")
    pytest.skip(f"needs pgTAP: apt-get install {PACKAGE}")


@pytest.fixture(scope="module")
def pgtap_database(stack: StackInfo, migrated_template: str) -> Iterator[str]:
    """The URL of a migrated database with pgTAP where Supabase has extensions."""
    # lines for psql, such as the one that wants CREATE EXTENSION instead, are not SQL
    script = re.sub(r"^\\.*$", "", pgtap(), flags=re.MULTILINE)
    template = database_name(migrated_template)
    with database(stack.database_url, "set search_path = extensions", script, template=template) as url:
        yield url


@pytest.fixture
async def connection(pgtap_database: str) -> AsyncIterator[Connection]:
    """A connection as the owner."""
    connection = await asyncpg.connect(pgtap_database, server_settings={"search_path": "public, extensions"})
    yield connection
    await connection.close()


def statements(script: str) -> list[str]:
    """The statements of a file, split at semicolons outside of strings, dollar quotes and comments."""
    token = re.compile(r"--[^\n]*|\$(\w*)\$.*?\$\1\$|'(?:[^']|'')*'|;", re.DOTALL)
    ends = [match.end() for match in token.finditer(script) if match[0] == ";"]
    return [script[start:end].strip() for start, end in zip([0, *ends], ends, strict=False)]


async def run(connection: Connection, script: str) -> list[str]:
    """Run a file as psql would, and return the lines of TAP."""
    lines: list[str] = []
    for statement in statements(script):
        for row in await connection.fetch(statement):
            lines += [line for value in row for line in str(value).splitlines()]
    return [line for line in lines if re.match(r"(not )?ok\b|1\.\.\d|#", line)]


def planned(lines: list[str]) -> int:
    """How many tests a file said it would run."""
    (plan,) = [line for line in lines if line.startswith("1..")]
    return int(plan[3:])


@pytest.mark.parametrize("script", [pytest.param(path.read_text(encoding="utf-8"), id=path.name) for path in FILES])
async def test_pgtap(connection: Connection, script: str) -> None:
    """Every test of the file passes, and as many run as planned."""
    lines = await run(connection, script)
    assert [line for line in lines if not line.startswith(("ok", "1.."))] == []
    assert len([line for line in lines if line.startswith("ok")]) == planned(lines) > 10


async def test_failures_are_seen(connection: Connection) -> None:
    """A test that fails, or does not run, shows in the lines that the test above reads."""
    lines = await run(connection, "begin; select plan(2); select ok(false, 'wrong'); select * from finish(); rollback;")
    assert lines[0] == "1..2"
    assert lines[1].startswith("not ok 1")
    assert any("planned 2 tests but ran 1" in line for line in lines)
