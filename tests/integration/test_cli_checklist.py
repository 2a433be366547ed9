"""`streaks checklist`: well where all is in place, and each thing that is missing is named with what mends it."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import asyncpg
import pytest
from click.testing import CliRunner

from local_supabase.stack import StackInfo
from streak_client.cli import main
from tests.support.database import database_name, execute
from tests.support.migrated import database, supabase_scripts
from tests.support.supabase_cli import pushed_database

__all__ = ["pushed_database"]
ANSWERS = {
    "/readyz": '{"state":"live"}',
    "/": "<!doctype html><html lang=en>",
    "/metrics": "streak_bridge_frames_total 1\nstreak_client_retries_total 0\n",
    "/-/ready": "Prometheus Server is Ready.",
    "/api/health": '{"database": "ok"}',
}


@pytest.fixture(autouse=True)
def _folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No .env of ours is read."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    """The URL of something that answers as bridge, API, Prometheus and Grafana do."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path in ANSWERS else 404)
            self.end_headers()
            self.wfile.write(ANSWERS.get(self.path, "").encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def pushed_copy(stack: StackInfo, pushed_database: str) -> Iterator[str]:
    """A database to which the CLI has pushed, with a user, for one test."""
    with database(stack.database_url, template=database_name(pushed_database)) as url:
        asyncio.run(execute(url, USER))
        yield url


USER = """
insert into auth.users (id) values ('00000000-0000-4000-8000-000000000001');
select public.update_user_streak_atomic('00000000-0000-4000-8000-000000000001', 'UTC');
analyze public.user_streaks;
"""


def examine(url: str, site: str = "", *options: str, **variables: str) -> tuple[int, dict[str, tuple[str, str]]]:
    """Run the command, and return its exit status, and status and remedy of each check."""
    urls = {f"{name}_URL": site for name in ("BRIDGE", "API", "PROMETHEUS", "GRAFANA")}
    env = {"DATABASE_URL": url, "SENTRY_DSN": "https://key@localhost/1", **urls, **variables}
    result = CliRunner().invoke(main, ["checklist", "--json", *options], env=env)
    findings = [json.loads(line) for line in result.stdout.splitlines()]
    return result.exit_code, {each["check"]: (each["status"], each["remedy"] or "") for each in findings}


def failed(findings: dict[str, tuple[str, str]]) -> list[str]:
    """The checks that failed."""
    return [check for check, (status, _) in findings.items() if status == "failed"]


def test_everything_in_place(pushed_copy: str, site: str) -> None:
    """Where all is in place every check is well, but the sweep of a server without pg_cron, and the status is 0."""
    status, findings = examine(pushed_copy, site)
    assert (status, failed(findings)) == (0, [])
    assert [check for check, (found, _) in findings.items() if found == "skipped"] == ["sweep"]
    assert len(findings) == 13


BREAKAGES = {
    "migrations": "delete from supabase_migrations.schema_migrations where version = '20261122090300'",
    "publication": "alter publication supabase_realtime drop table public.user_streaks",
    "publication of updates": "alter publication supabase_realtime set (publish = 'insert, delete')",
    "indexes": "drop index public.streak_history_user_id_version_key",
    "indexes of the sweep": "drop index public.user_streaks_live_idx",
    "indexes of the leaderboard": "drop index public.user_streaks_longest_idx",
    "row security": "alter table public.streak_days disable row level security",
    "row security of rights": "grant insert on public.streak_days to authenticated",
    "row security of the archive": "alter table public.streak_history_archive disable row level security",
    "row security of repairs": "grant select on public.streak_repairs to authenticated",
    "row security of private tables": "grant select on private.streak_repair_users to authenticated",
    "row security of operators": "grant execute on function public.erase_user_streak(uuid) to authenticated",
    "row security of their work": "grant execute on function private.erase_user_streak(uuid) to authenticated",
    "row security of functions": "grant execute on function public.rebuild_user_streak(uuid) to anon",
    "sweep": "create schema cron; create table cron.job (active boolean, command text)",
}


async def break_and_look(url: str, statement: str, site: str) -> tuple[int, dict[str, tuple[str, str]]]:
    """Break something, run the command, and mend it again."""
    await execute(url, statement)
    return await asyncio.to_thread(examine, url, site)


@pytest.mark.parametrize("breakage", BREAKAGES)
async def test_each_thing_that_is_missing_is_named(breakage: str, pushed_copy: str, site: str) -> None:
    """Each thing that is broken is one failed check, that check and no other, with what mends it."""
    status, findings = await break_and_look(pushed_copy, BREAKAGES[breakage], site)
    check = breakage.partition(" of ")[0]
    assert (status, failed(findings)) == (1, [check])
    assert findings[check][1]


def test_logging_and_dashboards_are_part_of_it(pushed_copy: str, site: str) -> None:
    """Without error reports, bridge or API the list is not done, unless the check is skipped by name."""
    status, findings = examine(pushed_copy, site, SENTRY_DSN="", BRIDGE_URL="", API_URL=f"{site}/nowhere")
    missing = ["logging", "bridge", "bridge metrics", "dashboard", "api metrics"]
    assert (status, failed(findings)) == (1, missing)
    assert all(findings[check][1] for check in missing)
    skips = [word for check in missing for word in ("--skip", check)]
    assert examine(pushed_copy, site, *skips, SENTRY_DSN="", BRIDGE_URL="", API_URL="")[0] == 0


def test_nobody_answers(pushed_copy: str) -> None:
    """What does not answer, or has no URL, is a failure of its own and stops no other check."""
    _, findings = examine(pushed_copy, "http://127.0.0.1:9", API_URL="ftp://x:secret@y")
    assert set(failed(findings)) == {"bridge", "bridge metrics", "dashboard", "api metrics", "prometheus", "grafana"}
    assert "secret" not in str(findings)


def test_a_database_without_streaks(stack: StackInfo, site: str) -> None:
    """In a database that was never migrated the first check says so, and those that need tables are left out."""
    with database(stack.database_url, *supabase_scripts()) as url:
        status, findings = examine(url, site)
    assert (status, failed(findings)) == (1, ["migrations"])
    assert "db push" in findings["migrations"][1]
    assert "indexes" not in findings


def test_the_list_for_people(pushed_copy: str, site: str) -> None:
    """Without --json each check is a line with a box, and no URL's password is in it."""
    result = CliRunner().invoke(main, ["checklist"], env={"DATABASE_URL": pushed_copy, "BRIDGE_URL": site})
    boxes = [line[:3] for line in result.stdout.splitlines() if not line.startswith("    ")]
    assert (result.exit_code, set(boxes)) == (1, {"[x]", "[ ]", "[-]"})
    password = pushed_copy.split(":")[2].partition("@")[0]
    assert password not in result.output


def test_no_database_url(site: str) -> None:
    """Without DATABASE_URL the message says which setting is missing and where its value is found."""
    result = CliRunner().invoke(main, ["checklist"], env={"DATABASE_URL": "", "BRIDGE_URL": site})
    assert (result.exit_code, "DATABASE_URL" in result.stderr) == (2, True)


async def test_nothing_is_written(pushed_copy: str, site: str) -> None:
    """The checks leave the database as it was: not one row is inserted, changed or deleted."""
    connection = await asyncpg.connect(pushed_copy)
    try:
        query = "select sum(n_tup_ins + n_tup_upd + n_tup_del) from pg_stat_user_tables"
        before = await connection.fetchval(query)
        await asyncio.to_thread(examine, pushed_copy, site)
        assert await connection.fetchval(query) == before
    finally:
        await connection.close()
