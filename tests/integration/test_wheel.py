"""The wheel as people install it: `pip install`, copy the SQL out of it, push it with the real CLI."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import asyncpg
import pytest

from local_supabase.stack import StackInfo
from tests.support.migrated import database, supabase_scripts
from tests.support.schema import SNAPSHOT, schema_of
from tests.support.supabase_cli import ROOT, supabase


def uv(*arguments: str) -> None:
    """Run uv, which installs from its cache what is there."""
    program = shutil.which("uv")
    assert program is not None, "needs uv"
    done = subprocess.run([program, *arguments], cwd=ROOT, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    folder = tmp_path_factory.mktemp("dist")
    uv("build", "--wheel", "--out-dir", str(folder))
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_holds_the_sql_and_nothing_of_the_checkouts_own(wheel: Path) -> None:
    """In the wheel are config, seed and migrations, and neither tests nor what the CLI keeps beside them."""
    names = [name.partition("/_supabase/")[2] for name in zipfile.ZipFile(wheel).namelist() if "/_supabase/" in name]
    migrations = [f"migrations/{path.name}" for path in (ROOT / "supabase" / "migrations").iterdir()]
    assert sorted(names) == sorted(["config.toml", "seed.sql", *migrations])


def test_what_the_wheel_copies_can_be_pushed(stack: StackInfo, wheel: Path, tmp_path: Path) -> None:
    """In a fresh environment with no extra, `streaks migrations copy` makes what `supabase db push` deploys."""
    uv("venv", "--quiet", "--python", sys.executable, str(tmp_path / "venv"))
    uv("pip", "install", "--quiet", "--python", str(tmp_path / "venv"), str(wheel))
    streaks = tmp_path / "venv" / "bin" / "streaks"
    home = tmp_path / "home"
    copied = subprocess.run(
        [streaks, "migrations", "copy", str(home / "project" / "supabase")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert copied.returncode == 0, copied.stderr
    with database(stack.database_url, *supabase_scripts()) as url:
        pushed = supabase("db", "push", "--yes", "--remote", url=url, home=home)
        assert pushed.returncode == 0, pushed.stderr
        assert asyncio.run(schema_of(url)) == SNAPSHOT.read_text(encoding="utf-8").splitlines()
        assert asyncio.run(applied(url)) == [path.name.partition("_")[0] for path in migration_files()]


def migration_files() -> list[Path]:
    """The migrations of the checkout."""
    return sorted((ROOT / "supabase" / "migrations").glob("*.sql"))


async def applied(url: str) -> list[str]:
    """The versions that the CLI remembers."""
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch("select version from supabase_migrations.schema_migrations order by 1")
        return [row["version"] for row in rows]
    finally:
        await connection.close()
