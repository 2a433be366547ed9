"""The real Supabase CLI applies the project's migrations."""

import asyncio
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

from local_supabase.errors import LocalSupabaseError, MigrationError
from local_supabase.node import Toolchain

_CLI_DB_PORT = 54322
"""The CLI's own default of `[db] port`."""


def reserved_port(project: Path) -> int:
    """Return the port that the CLI would take for its own Docker stack, so that PostgreSQL must be elsewhere.

    Args:
        project: A folder `supabase/`.

    Returns:
        `[db] port`, or the CLI's default.

    Raises:
        LocalSupabaseError: There is no valid `config.toml`.
    """
    config = project / "config.toml"
    try:
        settings = tomllib.loads(config.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise LocalSupabaseError(f"{config} cannot be read: {error}") from error
    return int(settings.get("db", {}).get("port", _CLI_DB_PORT))


async def push(tools: Toolchain, project: Path, port: int, password: str, run_dir: Path) -> str:
    """Run `supabase db push` with the migrations and the seed data of `project`.

    The CLI works on a copy: it writes into the project's folder, which may be read-only or shared with another start.

    Args:
        tools: Where the CLI is.
        project: A folder `supabase/`.
        port: PostgreSQL's port.
        password: Of the superuser.
        run_dir: A folder for the copy and for the CLI's state.

    Returns:
        What the CLI printed.

    Raises:
        MigrationError: A migration failed; those before it stay applied.
    """
    workdir = run_dir / "project"
    ignore = shutil.ignore_patterns(".temp", ".branches", "tests")
    await asyncio.to_thread(shutil.copytree, project, workdir / "supabase", ignore=ignore)
    arguments = ["--workdir", str(workdir), "--agent", "no", "db", "push", "--yes"]
    if (project / "seed.sql").is_file():
        arguments.append("--include-seed")
    # The password goes by the environment, which other accounts cannot read as they can arguments.
    remote = f"--remote=postgresql://postgres@127.0.0.1:{port}/postgres?sslmode=disable"
    process = await asyncio.create_subprocess_exec(
        tools.cli,
        *arguments,
        remote,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=_environment(run_dir, password),
        start_new_session=True,
    )
    try:
        output, _ = await process.communicate()
    except asyncio.CancelledError:
        process.kill()
        await process.wait()
        raise
    finally:
        shutil.rmtree(workdir, ignore_errors=True)
    text = _plain(output.decode(errors="replace"))
    if process.returncode:
        raise MigrationError(f"supabase db push failed:\n{text}")
    return text


def _environment(run_dir: Path, password: str) -> dict[str, str]:
    # SUPABASE_* of ours would change what the CLI does: a project, a password, a token.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("SUPABASE_", "PG"))}
    return inherited | {
        "PGPASSWORD": password,
        "TMPDIR": str(run_dir),  # the CLI unpacks parts of itself there, and leaves them
        "SUPABASE_HOME": str(run_dir / "supabase-home"),
        "SUPABASE_TELEMETRY_DISABLED": "1",
        "DO_NOT_TRACK": "1",
        "NO_COLOR": "1",
    }


def _plain(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text).strip()
