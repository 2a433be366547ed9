"""The PostgreSQL server of the database benchmark: `local_supabase`'s, with the settings of a machine of its own."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from local_supabase import cluster
from local_supabase.accounts import service_account
from local_supabase.folders import data_home, new_run_dir
from local_supabase.keys import kept_keys
from local_supabase.node import install
from local_supabase.postgres import Postgres
from local_supabase.processes import Child, Guard
from local_supabase.progress import Progress

GIGABYTE = 1 << 30

_COMMON = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "dynamic_shared_memory_type": "mmap",
    "huge_pages": "off",
    "max_connections": "300",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "30min",
    "random_page_cost": "1.1",
    "autovacuum": "off",
    "jit": "off",
}
# Without any WAL for what is loaded into a table that the same transaction emptied.
_LOADING = {
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "fsync": "off",
    "full_page_writes": "off",
    "maintenance_work_mem": "1GB",
    "max_parallel_maintenance_workers": "1",
}
# As on Supabase, but for two things. autovacuum would hit one peer and spare the other. full_page_writes: with users at
# random, the first touch of each page after a checkpoint costs every peer the same 8 kB, which hides what differs.
_MEASURING = {"wal_level": "logical", "full_page_writes": "off", "maintenance_work_mem": "256MB"}


def shared_buffers() -> str:
    """A quarter of the memory, at most 4 GB, in MB."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return f"{min(memory // 4, 4 * GIGABYTE) >> 20}MB"


@dataclass
class TunedPostgres(Postgres):
    """A server with settings of our own.

    Args:
        settings: What `postgres -c` is given.
    """

    settings: Mapping[str, str] = field(default_factory=dict)

    async def _launch(self, port: int) -> Child:
        settings = {**self.settings, "port": str(port)}
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return await Child.start(
            "PostgreSQL",
            [str(self.tools.postgres / "postgres"), "-D", str(self.data), *options],
            account=service_account(),
            guard=self.guard,
            log=self.log,
            stop_signal=signal.SIGINT,
        )


@dataclass
class Server:
    """A running server that can be turned from loading to measuring.

    Args:
        postgres: The running server.
        fsync: Whether measured commits reach the disk.
    """

    postgres: TunedPostgres
    fsync: bool

    @property
    def url(self) -> str:
        """The address of the database `postgres`, with the password."""
        return self.postgres.database_url

    @property
    def settings(self) -> str:
        """The settings that decide what a commit costs, for people."""
        found = self.postgres.settings
        names = ("shared_buffers", "fsync", "full_page_writes", "wal_level", "autovacuum", "max_wal_size")
        return ", ".join(f"{name} {found[name]}" for name in names)

    async def load(self) -> None:
        """Restarts for loading: fast, and safe only once `measure` has been called."""
        await self._restart(_COMMON | {"shared_buffers": shared_buffers()} | _LOADING)

    async def measure(self) -> None:
        """Restarts for measuring, with everything that was loaded on the disk."""
        fsync = "on" if self.fsync else "off"
        await self._restart(_COMMON | {"shared_buffers": shared_buffers(), "fsync": fsync} | _MEASURING)

    async def _restart(self, settings: Mapping[str, str]) -> None:
        await self.postgres.stop()
        os.sync()  # what a server without fsync wrote
        self.postgres = replace(self.postgres, settings=settings, child=None)
        await self.postgres.start()


@asynccontextmanager
async def running_server(data_dir: Path | None, progress: Progress, *, fsync: bool) -> AsyncIterator[Server]:
    """Runs a server on loopback inside the block, ready to measure; it ends with us, however we end.

    Args:
        data_dir: Keeps the data; None for data that go away at the end.
        progress: Told each step.
        fsync: Whether measured commits reach the disk.
    """
    guard, run_dir = Guard(), new_run_dir()
    guard.remove(run_dir)
    try:
        async with data_home(data_dir, run_dir) as home:
            tools = await install(progress.say)
            password = kept_keys(home / "keys.json").database_password
            log = run_dir / "postgres.log"
            postgres = TunedPostgres(tools, home / "postgres", log, password, guard, settings=_COMMON | _MEASURING)
            await cluster.open_data(postgres, home, progress.say)
            server = Server(postgres, fsync)
            try:
                await server.measure()
                yield server
            finally:
                await server.postgres.stop()
    finally:
        shutil.rmtree(run_dir, ignore_errors=True)
        await guard.close()
