"""Data folders with everything that a Supabase project has before its first migration.

Making one takes seconds, so it is made once per version of its ingredients and copied from the cache folder.
"""

import asyncio
import hashlib
import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import asyncpg

from local_supabase.accounts import service_account
from local_supabase.cache import in_use, shrink
from local_supabase.errors import LocalSupabaseError
from local_supabase.folders import PACKAGE, cache_dir, new_staging
from local_supabase.locks import exclusive
from local_supabase.node import Toolchain
from local_supabase.postgres import Postgres, release_shared_memory
from local_supabase.rest import Gateway

_BOOTSTRAP = PACKAGE / "bootstrap.sql"
_STAMP = "recipe"
# A server whose supervisor was just killed needs a moment to end.
_PATIENCE = 15.0


def recipe(tools: Toolchain) -> str:
    """Name what a new data folder would hold; another name means that one is out of date.

    Args:
        tools: What would make it.

    Returns:
        16 hexadecimal digits.
    """
    made_of = hashlib.sha256()
    for part in (tools.root.name.encode(), tools.server.parent.name.encode(), _BOOTSTRAP.read_bytes()):
        made_of.update(part + b"\0")
    return made_of.hexdigest()[:16]


async def open_data(postgres: Postgres, home: Path, say: Callable[[str], None]) -> None:
    """Start the server on its data folder, which is made if there is none.

    Args:
        postgres: The server.
        home: The folder above the data folder.
        say: Told each step.

    Raises:
        PartFailedError: PostgreSQL or lite refused.
        LocalSupabaseError: Another server runs on the folder.
    """
    if not postgres.data.is_dir():
        staging = postgres.data.with_name("postgres.new")
        shutil.rmtree(staging, ignore_errors=True)
        await _copy_template(postgres, staging, say)
        (home / _STAMP).write_text(recipe(postgres.tools), encoding="ascii")
        staging.rename(postgres.data)
    say("Starting PostgreSQL")
    await _clear_stale_pid(postgres.data)
    await postgres.set_password()
    await postgres.start()


def up_to_date(postgres: Postgres, home: Path) -> bool:
    """Tell whether the data folder was made, or last updated, by this version.

    Args:
        postgres: The server.
        home: The folder above the data folder.

    Returns:
        Whether nothing is to be done.
    """
    stamp = home / _STAMP
    return stamp.is_file() and stamp.read_text(encoding="ascii") == recipe(postgres.tools)


async def update(postgres: Postgres, home: Path) -> None:
    """Bring what Supabase provides in a running server to this version; users' data stay.

    Args:
        postgres: The server.
        home: The folder above the data folder.

    Raises:
        PartFailedError: lite could not create its tables.
    """
    await _provision(postgres)
    (home / _STAMP).write_text(recipe(postgres.tools), encoding="ascii")


async def _provision(postgres: Postgres) -> None:
    gateway = await Gateway.launch(postgres.tools, postgres.guard, postgres.log.with_name("provision.log"))
    try:
        await gateway.provision(postgres.database_url)
    finally:
        await gateway.stop()
    connection = await asyncpg.connect(postgres.database_url, ssl=False)
    try:
        await connection.execute(_BOOTSTRAP.read_text(encoding="utf-8"))
    finally:
        await connection.close()


async def _copy_template(postgres: Postgres, target: Path, say: Callable[[str], None]) -> None:
    template = cache_dir() / f"cluster-{recipe(postgres.tools)}"
    async with in_use(template):
        async with exclusive(template.with_name(f"{template.name}.lock")):
            if not template.is_dir():
                say("Creating the first database (initdb, roles, schema auth; later ones are copies)")
                await _make_template(postgres, template)
        await asyncio.to_thread(shutil.copytree, template, target, symlinks=True)
    await shrink(template.parent, ("cluster-",), {template})
    await asyncio.to_thread(service_account().own, target)


async def _make_template(postgres: Postgres, template: Path) -> None:
    staging, data = _new_staging(template)
    try:
        maker = replace(postgres, data=data, log=staging / "log", durable=False, password=secrets.token_hex(16))
        await maker.create()
        await maker.set_password()
        await maker.start()
        try:
            await _provision(maker)
        finally:
            await maker.stop()
        os.rename(data, template)  # noqa: PTH104 - one call, nothing to wait for
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _new_staging(template: Path) -> tuple[Path, Path]:
    """A folder beside the template, and in it the empty data folder that will become it."""
    staging = new_staging(template)
    staging.chmod(0o711)
    data = staging / "data"
    data.mkdir(mode=0o700)
    service_account().own(data)
    return staging, data


async def _clear_stale_pid(data: Path) -> None:
    """Removes a killed server's pid file, which blocks the start once its pid is another program's."""
    pid_file = data / "postmaster.pid"
    deadline = time.monotonic() + _PATIENCE
    while pid_file.is_file():
        pid = int(pid_file.read_text(encoding="ascii").split()[0])
        if not _is_server(pid, data):
            release_shared_memory(data)
            pid_file.unlink(missing_ok=True)
        elif time.monotonic() > deadline:
            raise LocalSupabaseError(f"a PostgreSQL server (process {pid}) is running on {data}; end it first")
        await asyncio.sleep(0.1)


def _is_server(pid: int, data: Path) -> bool:
    arguments = Path(f"/proc/{pid}/cmdline")
    if Path("/proc/self").exists():  # slim containers have no ps
        try:
            return str(data).encode() in arguments.read_bytes()
        except OSError:
            return False
    shown = subprocess.run(["ps", "-ww", "-o", "args=", "-p", str(pid)], capture_output=True, text=True, check=False)  # noqa: S603, S607 - wherever ps is
    return str(data) in shown.stdout
