"""A second PostgreSQL that streams from the first, with REST of its own: what hosted projects call a read replica."""

from __future__ import annotations

import asyncio
import shutil
import socket
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit
from uuid import uuid4

import asyncpg
import pytest

from local_supabase.accounts import service_account
from local_supabase.node import install
from local_supabase.postgres import Postgres
from local_supabase.processes import Guard
from local_supabase.rest import Gateway, Serving
from local_supabase.stack import StackInfo

# What a copy makes anew, or must not have: the primary's WAL comes over the stream.
LEFT_OUT = shutil.ignore_patterns("postmaster.pid", "postmaster.opts", "pg_dynshmem", "pgsql_tmp*")
EMPTIED = ("pg_wal", "pg_replslot", "pg_notify", "pg_serial", "pg_snapshots", "pg_stat_tmp", "pg_subtrans")


@dataclass(frozen=True)
class Standby:
    """A replica that runs.

    Attributes:
        database_url: Of its PostgreSQL, which takes no writes.
        supabase_url: Of its REST.
    """

    database_url: str
    supabase_url: str

    async def pause(self) -> None:
        """Let it fall behind from now on."""
        await self._run("select pg_wal_replay_pause()")
        while await self._run("select pg_get_wal_replay_pause_state()") != "paused":  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.01)

    async def catch_up(self, primary: asyncpg.Connection[asyncpg.Record]) -> None:
        """Let it go on, and wait until it has all that the primary has now."""
        await self._run("select pg_wal_replay_resume()")
        now = await primary.fetchval("select pg_current_wal_lsn()::text")
        async with asyncio.timeout(60):
            while not await self._run("select pg_last_wal_replay_lsn() >= $1::text::pg_lsn", now):  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    async def _run(self, query: str, *arguments: object) -> object:
        connection = await asyncpg.connect(self.database_url)
        try:
            return await connection.fetchval(query, *arguments)
        finally:
            await connection.close()


@asynccontextmanager
async def standby(info: StackInfo) -> AsyncIterator[Standby]:
    """Keep a replica of a local stack running inside the block."""
    if not info.faults_socket:
        pytest.skip("needs the data folder of the local stack")
    async with AsyncExitStack() as exits:
        primary = await asyncpg.connect(info.database_url)
        exits.push_async_callback(primary.close)
        slot = f"standby_{uuid4().hex[:8]}"
        await primary.execute("select pg_create_physical_replication_slot($1, true)", slot)
        exits.push_async_callback(primary.execute, "select pg_drop_replication_slot($1)", slot)
        folder = Path(exits.enter_context(tempfile.TemporaryDirectory(prefix="standby-")))
        guard = Guard()
        exits.push_async_callback(guard.close)
        guard.remove(folder)
        await _copy(primary, folder / "data", info.database_url, slot)
        service_account().own(folder)
        tools = await install(lambda _: None)
        password = unquote(urlsplit(info.database_url).password or "")
        postgres = Postgres(tools, folder / "data", folder / "postgres.log", password, guard)
        await postgres.start()
        exits.push_async_callback(postgres.stop)
        gateway = await Gateway.launch(tools, guard, folder / "gateway.log")
        exits.push_async_callback(gateway.stop)
        yield Standby(postgres.database_url, await _serve(gateway, info, postgres.database_url))


async def _copy(primary: asyncpg.Connection[asyncpg.Record], target: Path, url: str, slot: str) -> None:
    """Copy the data folder as pg_basebackup does, which the embedded server lacks and Debian's 15 refuses for 17."""
    source = Path(await primary.fetchval("show data_directory"))
    await primary.execute("select pg_backup_start('standby', true)")
    await asyncio.to_thread(_copy_tree, source, target)
    label = await primary.fetchrow("select labelfile from pg_backup_stop(false)")
    assert label is not None
    (target / "backup_label").write_text(label["labelfile"], encoding="ascii")
    (target / "standby.signal").touch()
    address = urlunsplit(urlsplit(url)._replace(query="sslmode=disable"))
    with (target / "postgresql.auto.conf").open("a", encoding="ascii") as settings:
        settings.write(f"\nprimary_conninfo = '{address}'\nprimary_slot_name = '{slot}'\n")


def _copy_tree(source: Path, target: Path) -> None:
    def ignore(folder: str, names: list[str]) -> set[str]:
        left_out = set(LEFT_OUT(folder, names))
        return left_out | set(names) if Path(folder).name in EMPTIED else left_out

    def copy(one: str, other: str) -> None:
        # A file that the server removes meanwhile is none that a backup needs: its removal is in the WAL.
        if Path(one).exists():
            shutil.copy2(one, other)

    shutil.copytree(source, target, ignore=ignore, copy_function=copy, symlinks=True)
    (target / "pg_dynshmem").mkdir(exist_ok=True)
    (target / "pg_wal" / "archive_status").mkdir(exist_ok=True)
    target.chmod(0o700)


async def _serve(gateway: Gateway, info: StackInfo, database_url: str) -> str:
    with socket.create_server(("127.0.0.1", 0)) as nobody:  # it has no Realtime
        realtime_port: int = nobody.getsockname()[1]
    serving = Serving(
        port=0,
        realtime_port=realtime_port,
        database_url=database_url,
        jwt_secret=info.jwt_secret,
        publishable_key=info.publishable_key,
        secret_key=info.secret_key,
        faults=False,
    )
    return f"http://127.0.0.1:{await gateway.serve(serving)}"
