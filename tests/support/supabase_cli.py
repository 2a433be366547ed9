"""The real Supabase CLI on a database of the tests."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest

from local_supabase.node import install
from local_supabase.stack import StackInfo
from tests.support.migrated import database, supabase_scripts

ROOT = Path(__file__).parents[2]


def supabase(*arguments: str, url: str, home: Path) -> subprocess.CompletedProcess[str]:
    """Run a command of the CLI on this project, with standard error apart from standard output.

    Args:
        arguments: Such as `db`, `push`.
        url: The database's; goes last, so that the option before it is the one that takes it.
        home: A folder for the CLI's state and its copy of the project, which it writes into.
    """
    tools = asyncio.run(install(logging.getLogger(__name__).info))
    parts = urlsplit(url)
    bare = parts._replace(netloc=f"{parts.username}@{parts.hostname}:{parts.port}", query="sslmode=disable")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("SUPABASE_", "PG"))}
    private = {"PGPASSWORD": parts.password or "", "SUPABASE_HOME": str(home / "home"), "TMPDIR": str(home)}
    quiet = {"SUPABASE_TELEMETRY_DISABLED": "1", "DO_NOT_TRACK": "1", "NO_COLOR": "1"}
    link = home / "project" / "supabase"
    if not link.exists():
        link.mkdir(parents=True)
        for name in ("config.toml", "migrations"):
            (link / name).symlink_to(ROOT / "supabase" / name)
    done = subprocess.run(
        [tools.cli, "--workdir", str(link.parent), "--agent", "no", *arguments, urlunsplit(bare)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env=inherited | private | quiet,
    )
    done.stdout, done.stderr = (re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text) for text in (done.stdout, done.stderr))
    return done


@pytest.fixture(scope="module")
def pushed_database(stack: StackInfo, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a database to which the CLI pushed the migrations; the tests of one module share it."""
    with database(stack.database_url, *supabase_scripts()) as url:
        pushed = supabase("db", "push", "--yes", "--remote", url=url, home=tmp_path_factory.mktemp("push"))
        assert pushed.returncode == 0, pushed.stderr
        yield url
