"""Backup and restore: every row and every answer comes back, all or nothing, and the system goes on from there."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread

import asyncpg
import pytest
from click.testing import CliRunner, Result

from local_supabase.stack import StackInfo
from streak_client._backup.archive import Table
from streak_client._backup.dump import back_up
from streak_client.cli import main
from tests.support.backup_field import BY_HAND, LAPSED, TRAVELLER, Connection, everything, fill, opened, update
from tests.support.database import database_name
from tests.support.migrated import database

SECONDS = 60


@pytest.fixture(scope="module")
def full(stack: StackInfo, migrated_template: str) -> Iterator[str]:
    """The URL of a database with streaks of every kind; the tests of this module only read it."""
    with database(stack.database_url, template=database_name(migrated_template)) as url:
        asyncio.run(fill(url))
        yield url


@pytest.fixture(scope="module")
def saved(full: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its backup."""
    path = tmp_path_factory.mktemp("backup") / "streaks.zip"
    assert run(full, "backup", str(path)).exit_code == 0
    return path


def run(url: str, *arguments: str) -> Result:
    """Run `streaks backup` or `streaks restore` on a database."""
    return CliRunner().invoke(main, arguments, env={"DATABASE_URL": url})


def test_a_restore_brings_back_every_row_and_every_answer(full: str, saved: Path, own_database: str) -> None:
    """In an empty database every row of every table is as it was, and every read answers the same."""
    before = asyncio.run(everything(full))
    assert (len(before["user_streaks"]), len(before["streak_repairs"])) == (278, 1)
    result = run(own_database, "restore", str(saved), "--create-users")
    assert result.exit_code == 0, result.output
    assert "278 streaks" in result.stdout
    after = asyncio.run(everything(own_database))
    assert {name: len(rows) for name, rows in after.items()} == {name: len(rows) for name, rows in before.items()}
    assert after == before


async def test_the_system_goes_on_after_a_restore(full: str, saved: Path, own_database: str) -> None:
    """A repeated request gets its first answer, a new day goes on with streak, version and history, triggers work."""
    result = await asyncio.to_thread(run, own_database, "restore", str(saved), "--create-users")
    assert result.exit_code == 0, result.output
    async with opened(full) as old, opened(own_database) as new:
        highest = await old.fetchval("select max(id) from public.streak_history")
        first = await new.fetchrow(
            "select * from public.streak_history where request_id is not null order by id limit 1"
        )
        assert first is not None
        replay = await update(new, first["user_id"], first["activity_at"])
        assert (replay["replayed"], replay["version"]) == (True, first["version"])
        version = "select version from public.user_streaks where user_id = $1"
        answer = await update(new, LAPSED, await new.fetchval("select now()"))
        assert (answer["change_type"], answer["version"]) == ("STREAK_RESET", await old.fetchval(version, LAPSED) + 1)
        await new.execute("update public.user_streaks set longest_streak = 99 where user_id = $1", BY_HAND)
        assert await new.fetchval(version, BY_HAND) == await old.fetchval(version, BY_HAND) + 1
        ids = [each["id"] for each in await new.fetch("select id from public.streak_history where id > $1", highest)]
        assert len(ids) == 2, "one history row for each change"
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await new.execute("update public.streak_history set reason = 'x'")


def test_rows_are_never_overwritten_without_a_word(full: str, saved: Path, own_database: str) -> None:
    """Over rows a restore is refused and changes nothing; --replace makes the database what the backup says."""
    run(own_database, "restore", str(saved), "--create-users")
    asyncio.run(alter(own_database))
    altered = asyncio.run(everything(own_database))
    refused = run(own_database, "restore", str(saved))
    assert refused.exit_code == 2
    assert "--replace" in refused.output
    assert asyncio.run(everything(own_database)) == altered
    assert run(own_database, "restore", str(saved), "--replace", "--dry-run").exit_code == 0
    assert asyncio.run(everything(own_database)) == altered
    asyncio.run(go_on(own_database))
    assert run(own_database, "restore", str(saved), "--replace").exit_code == 0
    assert asyncio.run(everything(own_database)) == asyncio.run(everything(full))


async def alter(url: str) -> None:
    """Go on living after a restore: a day more, a user less, another zone."""
    async with opened(url) as connection:
        await update(connection, LAPSED, await connection.fetchval("select now()"))
        await connection.execute("delete from public.user_streaks where user_id = $1", BY_HAND)
        await connection.execute("update public.user_profiles set timezone = 'Asia/Tokyo'")
        await connection.execute(REPAIR)


REPAIR = """
select public.start_streak_repair(now() - interval '5 days', now() - interval '4 days', 'another outage')
"""


def test_a_repair_is_a_row_that_is_never_overwritten(saved: Path, own_database: str) -> None:
    """A database that holds no streak but the record of a repair is refused, and keeps that record."""
    asyncio.run(execute(own_database, REPAIR))
    before = asyncio.run(everything(own_database))
    refused = run(own_database, "restore", str(saved), "--create-users")
    assert refused.exit_code == 2
    assert "public.streak_repairs" in refused.output
    assert asyncio.run(everything(own_database)) == before


async def test_who_opted_out_since_the_backup_stays_out(saved: Path, own_database: str) -> None:
    """A restore turns no opt-out off: neither one that the backup lacks nor one that it holds."""
    restored = await asyncio.to_thread(run, own_database, "restore", str(saved), "--create-users")
    assert restored.exit_code == 0, restored.output
    await execute(own_database, "update public.user_profiles set leaderboard_opt_out = not leaderboard_opt_out")
    assert (await asyncio.to_thread(run, own_database, "restore", str(saved), "--replace")).exit_code == 0
    async with opened(own_database) as connection:
        out = await connection.fetch("select user_id from public.user_profiles where leaderboard_opt_out order by 1")
        shown = await connection.fetch("select user_id from public.get_streak_leaderboard(1000)")
    assert [row["user_id"] for row in out] == [TRAVELLER, LAPSED]
    assert not {TRAVELLER, LAPSED} & {row["user_id"] for row in shown}


async def go_on(url: str) -> None:
    """Count one more activity, whose change gets an id above all others: a dry run took no sequence back."""
    async with opened(url) as connection:
        highest = await connection.fetchval("select max(id) from public.streak_history")
        await update(connection, BY_HAND, await connection.fetchval("select now()"))
        assert await connection.fetchval("select max(id) from public.streak_history") > highest


def test_missing_users_are_named_before_anything_is_written(saved: Path, own_database: str) -> None:
    """Where Auth lacks the users, nothing is restored, and the message says how many and what makes them."""
    refused = run(own_database, "restore", str(saved))
    assert refused.exit_code == 2
    assert "278 of the backup's 278 users" in refused.output
    assert "--create-users" in refused.output
    assert all(not rows for rows in asyncio.run(everything(own_database)).values())


async def test_a_backup_is_of_one_moment(own_database: str, tmp_path: Path) -> None:
    """Activities counted while the backup runs are in none of its tables: rows, ledger and history agree."""
    await fill(own_database)
    before = await everything(own_database)
    counted = [0]

    async def count_for_all() -> None:
        async with opened(own_database) as connection:
            query = """
                select count(*) from auth.users u, public.update_user_streak_atomic(u.id, 'UTC', 'meanwhile') a
                where a.success
            """
            counted[0] = await connection.fetchval(query)

    def say(_: Table) -> None:
        # The backup waits here, with one table read and the others before it, until the writes are committed.
        if not counted[0]:
            writing = Thread(target=asyncio.run, args=(count_for_all(),))
            writing.start()
            writing.join()

    manifest = await back_up(own_database, tmp_path / "b.zip", say=say)
    assert counted[0] == len(before["users"])
    rows = {table.name.partition(".")[2]: table.rows for table in manifest.tables}
    assert {name: rows[name] for name in ("user_streaks", "streak_days", "streak_history")} == {
        name: len(before[name]) for name in ("user_streaks", "streak_days", "streak_history")
    }
    assert len((await everything(own_database))["streak_history"]) > len(before["streak_history"])


def test_only_the_owner_reads_the_file_and_no_secret_is_in_it(full: str, saved: Path, tmp_path: Path) -> None:
    """The file has mode 0600, is not replaced without --force, and neither it nor any message holds the password."""
    assert stat.S_IMODE(saved.stat().st_mode) == 0o600
    (taken := tmp_path / "taken.zip").write_text("precious")
    refused = run(full, "backup", str(taken))
    assert (refused.exit_code, taken.read_text()) == (2, "precious")
    assert run(full, "backup", str(taken), "--force").exit_code == 0
    assert stat.S_IMODE(taken.stat().st_mode) == 0o600
    with zipfile.ZipFile(taken) as archive:
        text = b"".join(archive.read(name) for name in archive.namelist()).decode()
    password = "swordfish-42"  # noqa: S105 - of no account
    for url in (f"postgresql://postgres:{password}@127.0.0.1:9/postgres", f"nonsense://x:{password}@"):
        failed = run(url, "backup", str(tmp_path / "none.zip"))
        assert failed.exit_code in {1, 2}
        assert password not in failed.output
    assert password not in text
    assert "@" not in text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["taken.zip"]


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda data: data[: len(data) // 2],
    "nothing": lambda _: b"",
    "altered": lambda data: data[:4000] + bytes([data[4000] ^ 0xFF]) + data[4001:],
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_refused_before_anything_is_written(
    damage: str, saved: Path, own_database: str, tmp_path: Path
) -> None:
    """A file that is cut, empty or altered in one byte changes nothing, not even with --replace."""
    (broken := tmp_path / "broken.zip").write_bytes(DAMAGES[damage](saved.read_bytes()))
    refused = run(own_database, "restore", str(broken), "--create-users", "--replace")
    assert refused.exit_code == 2, refused.output
    assert "broken.zip" in refused.output
    assert all(not rows for rows in asyncio.run(everything(own_database)).values())


FORGERIES: dict[str, tuple[str, Callable[[dict[str, object]], None]]] = {
    "another format": ("format", lambda manifest: manifest.update(format="pg_dump")),
    "a later version": ("version", lambda manifest: manifest.update(version=2)),
    "a table with a name that is SQL": (
        "tables",
        lambda manifest: manifest.update(tables=[{"name": 'x"; drop', "columns": ["a"], "rows": 0, "sha256": ""}]),
    ),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_manifest_that_is_not_ours_is_refused(forgery: str, saved: Path, own_database: str, tmp_path: Path) -> None:
    """What a manifest says is checked field by field, and the message names the one that is wrong."""
    field, forge = FORGERIES[forgery]
    rewrite(saved, forged := tmp_path / "forged.zip", forge)
    refused = run(own_database, "restore", str(forged), "--create-users")
    assert refused.exit_code == 2
    assert field in refused.output


def test_a_checksum_that_differs_is_refused(saved: Path, own_database: str, tmp_path: Path) -> None:
    """Rows that do not have the manifest's hash are refused, even in an archive that is sound in itself."""

    def forge(manifest: dict[str, object]) -> None:
        tables = manifest["tables"]
        assert isinstance(tables, list)
        tables[-1]["sha256"] = "0" * 64

    rewrite(saved, forged := tmp_path / "forged.zip", forge)
    refused = run(own_database, "restore", str(forged), "--create-users")
    assert (refused.exit_code, "was altered" in refused.output) == (2, True)


def test_a_database_without_the_backups_columns_is_refused(saved: Path, own_database: str) -> None:
    """Where the target is of an earlier release, the missing column is named and nothing is written."""
    asyncio.run(execute(own_database, "alter table public.streak_history drop column reason"))
    refused = run(own_database, "restore", str(saved), "--create-users")
    assert refused.exit_code == 2
    assert "public.streak_history.reason" in refused.output
    assert "db push" in refused.output


def test_a_database_without_streaks_is_refused(stack: StackInfo, saved: Path, tmp_path: Path) -> None:
    """A database that was never migrated is neither backed up nor restored into."""
    with database(stack.database_url) as url:
        for arguments in (["backup", str(tmp_path / "b.zip")], ["restore", str(saved)]):
            refused = run(url, *arguments)
            assert refused.exit_code == 2
            assert "db push" in refused.output
    assert list(tmp_path.iterdir()) == []


def test_the_platforms_own_tables_are_left_alone(full: str, saved: Path, own_database: str, tmp_path: Path) -> None:
    """A table of the platform's that is called like ours is neither backed up nor a reason to refuse nor emptied."""
    asyncio.run(execute(own_database, BADGES))
    assert run(own_database, "restore", str(saved), "--create-users").exit_code == 0
    assert run(own_database, "restore", str(saved), "--replace").exit_code == 0
    assert asyncio.run(everything(own_database)) == asyncio.run(everything(full))
    assert asyncio.run(badges(own_database)) == 1
    assert run(own_database, "backup", str(tmp_path / "b.zip")).exit_code == 0
    with zipfile.ZipFile(tmp_path / "b.zip") as archive:
        assert not any("badges" in name for name in archive.namelist())


def test_rows_that_refer_to_streaks_are_never_deleted_along(saved: Path, own_database: str) -> None:
    """Where a table of the platform's has rows that would go with the streaks, --replace is refused and names it."""
    assert run(own_database, "restore", str(saved), "--create-users").exit_code == 0
    asyncio.run(
        execute(
            own_database,
            "create table public.streak_badges as select user_id from public.user_streaks limit 1; alter table "
            "public.streak_badges add foreign key (user_id) references public.user_streaks (user_id) on delete cascade",
        )
    )
    refused = run(own_database, "restore", str(saved), "--replace")
    assert (refused.exit_code, "Rows of public.streak_badges refer" in refused.output) == (2, True)
    assert asyncio.run(badges(own_database)) == 1


BADGES = "create table public.streak_badges (name text); insert into public.streak_badges values ('gold')"


async def badges(url: str) -> int:
    """How many of its rows the platform has."""
    async with opened(url) as connection:
        count = await connection.fetchval("select count(*) from public.streak_badges")
    assert isinstance(count, int)
    return count


async def execute(url: str, statement: str) -> None:
    """Run one statement."""
    async with opened(url) as connection:
        await connection.execute(statement)


def rewrite(source: Path, target: Path, forge: Callable[[dict[str, object]], None]) -> None:
    """Copy an archive with another manifest."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name == "manifest.json":
                manifest = json.loads(data)
                forge(manifest)
                data = json.dumps(manifest).encode()
            new.writestr(name, data)


@pytest.mark.parametrize("how", ["SIGTERM", "SIGINT", "SIGKILL", "lost connection"])
async def test_an_interrupted_backup_leaves_no_half_file(how: str, own_database: str, tmp_path: Path) -> None:
    """Stopped in the middle by a signal, or by the loss of its connection, a backup leaves no file of its name."""
    streaks = Path(sys.executable).with_name("streaks")
    async with opened(own_database) as observer, opened(own_database) as blocker, blocker.transaction():
        await blocker.execute("lock table public.user_streaks in access exclusive mode")
        process = await asyncio.create_subprocess_exec(
            *(streaks, "backup", "streaks.zip"),
            env={**os.environ, "DATABASE_URL": own_database},
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        ending = asyncio.create_task(process.communicate())
        async with asyncio.timeout(SECONDS):
            backend = await blocked(observer, ending)
            assert names(tmp_path) == [".part"]
            if how == "lost connection":
                await observer.execute("select pg_terminate_backend($1)", backend)
            else:
                process.send_signal(signal.Signals[how])
            _, errors = await ending
    assert process.returncode != 0
    assert names(tmp_path) == ([".part"] if how == "SIGKILL" else [])
    if how != "SIGKILL":
        assert process.returncode == 1, errors
        assert b"Traceback" not in errors, errors


async def blocked(observer: Connection, ending: asyncio.Task[tuple[bytes, bytes]]) -> int:
    """Return which server process waits for a lock, as soon as one does."""
    query = "select pid from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
    while (backend := await observer.fetchval(query)) is None:
        assert not ending.done(), ending.result()
        await asyncio.sleep(0.05)  # PostgreSQL announces no waits
    assert isinstance(backend, int)
    return backend


def names(folder: Path) -> list[str]:
    """The endings of the files in a folder."""
    return [path.suffix for path in folder.iterdir()]
