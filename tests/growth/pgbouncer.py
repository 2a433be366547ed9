"""A real PgBouncer in transaction mode on a free loopback port, in front of a PostgreSQL server."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg
import pytest

from local_supabase.accounts import service_account

READY_SECONDS = 60.0
POOL = 4


@dataclass(frozen=True)
class Pooler:
    """A pooler that runs.

    Attributes:
        version: Of PgBouncer, such as (1, 18).
        port: Where it listens.
    """

    version: tuple[int, ...]
    port: int

    def url(self, database_url: str) -> str:
        """The address of a database through the pooler."""
        parts = urlsplit(database_url)
        return urlunsplit(parts._replace(netloc=f"{parts.username}:{parts.password}@127.0.0.1:{self.port}"))


def program() -> str:
    """Where PgBouncer is; skip the test where it is not installed, but fail in CI."""
    found = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found is None:
        reason = "needs pgbouncer (Debian's package of that name)"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found


@asynccontextmanager
async def pgbouncer(server_url: str) -> AsyncIterator[Pooler]:
    """Keep a pooler running inside the block, with at most `POOL` connections to each database."""
    found = program()
    with socket.create_server(("127.0.0.1", 0)) as probe:
        pooler = Pooler(_version(found), probe.getsockname()[1])
    # Not pytest's folder, which only its owner may enter: as root we run PgBouncer as somebody else.
    with tempfile.TemporaryDirectory(prefix="pgbouncer-") as folder:
        async with _running(found, server_url, Path(folder), pooler):
            yield pooler


def _version(found: str) -> tuple[int, ...]:
    shown = subprocess.run([found, "--version"], capture_output=True, text=True, check=True).stdout
    return tuple(map(int, re.findall(r"\d+", shown)[:2]))


@asynccontextmanager
async def _running(found: str, server_url: str, folder: Path, pooler: Pooler) -> AsyncIterator[None]:
    account, config = service_account(), _write_files(server_url, folder, pooler)
    account.own(folder)
    process = await asyncio.create_subprocess_exec(
        *(found, str(config)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=folder,
        **account.popen_options(),  # type: ignore[arg-type]
    )
    try:
        await _ready(pooler.url(server_url), process)
        yield
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


def _write_files(server_url: str, folder: Path, pooler: Pooler) -> Path:
    server = urlsplit(server_url)
    users = folder / "users.txt"
    users.touch(mode=0o600)
    users.write_text(f'"{server.username}" "{server.password}"\n', encoding="ascii")
    config = folder / "pgbouncer.ini"
    prepared = "max_prepared_statements = 100\n" if pooler.version >= (1, 21) else ""
    config.write_text(
        f"[databases]\n* = host={server.hostname} port={server.port}\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {pooler.port}\nunix_socket_dir =\n"
        f"auth_type = scram-sha-256\nauth_file = {users}\nlogfile = {folder}/pgbouncer.log\n"
        f"pool_mode = transaction\ndefault_pool_size = {POOL}\nmax_client_conn = 500\n{prepared}",
        encoding="ascii",
    )
    return config


async def _ready(url: str, process: asyncio.subprocess.Process) -> None:
    async with asyncio.timeout(READY_SECONDS):
        while True:
            assert process.returncode is None, "pgbouncer ended by itself"
            with contextlib.suppress(OSError, asyncpg.PostgresError):
                connection = await asyncpg.connect(url, statement_cache_size=0)
                await connection.close()
                return
            await asyncio.sleep(0.05)
