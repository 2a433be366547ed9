"""One PostgreSQL server: its data folder, its start, its end."""

import asyncio
import contextlib
import ctypes
import signal
import socket
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import asyncpg

from local_supabase.accounts import service_account
from local_supabase.database_errors import DATABASE_ERRORS
from local_supabase.errors import PartFailedError
from local_supabase.node import Toolchain
from local_supabase.processes import Child, Guard, log_tail, open_log

_ATTEMPTS = 5
_START_SECONDS = 60.0

_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",  # nothing to leave behind
    "dynamic_shared_memory_type": "mmap",  # in the data folder, where it goes away with it even after SIGKILL
    "huge_pages": "off",
    "wal_level": "logical",
    "max_connections": "300",
    "max_wal_senders": "30",
    "max_replication_slots": "30",
    "max_slot_wal_keep_size": "1GB",  # a listener that hangs must not fill the disk
    "shared_preload_libraries": "pg_stat_statements",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
# Data that nobody keeps need not survive a crash of the machine. It does survive a crash of PostgreSQL.
_THROW_AWAY = {"fsync": "off", "full_page_writes": "off"}
_ACCESS = """\
host all all 127.0.0.1/32 scram-sha-256
host replication all 127.0.0.1/32 scram-sha-256
"""


@dataclass
class Postgres:
    """A server on one data folder.

    Args:
        tools: Where the programs are.
        data: The data folder (`PGDATA`).
        log: The file for the server's messages.
        password: Of the superuser `postgres`.
        guard: Ends the server if we vanish.
        durable: Whether the data must survive a crash of the machine.
        avoid_ports: Ports not to choose.
    """

    tools: Toolchain
    data: Path
    log: Path
    password: str = field(repr=False)
    guard: Guard
    durable: bool = False
    avoid_ports: frozenset[int] = frozenset()
    port: int = 0
    child: Child | None = None
    killed: bool = False
    """Whether it is down on purpose (a fault switch)."""

    @property
    def database_url(self) -> str:
        """The address with the password; for libpq, asyncpg and postgres.js."""
        return f"postgresql://postgres:{self.password}@127.0.0.1:{self.port}/postgres"

    async def create(self) -> None:
        """Fill the empty data folder; nobody can connect before `set_password`.

        Raises:
            PartFailedError: `initdb` failed.
        """
        locale = ["--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
        await self._run("initdb", "-D", str(self.data), "--username=postgres", "--auth=reject", "--no-sync", *locale)
        (self.data / "pg_hba.conf").write_text(_ACCESS, encoding="ascii")

    async def set_password(self) -> None:
        """Give the superuser our password, before anybody can connect.

        Raises:
            PartFailedError: The data folder cannot be opened.
        """
        statement = f"alter role postgres password '{self.password}'\n"
        await self._run("postgres", "--single", "-D", str(self.data), "postgres", given=statement)

    async def _run(self, program: str, *arguments: str, given: str = "") -> None:
        with open_log(self.log) as log:
            process = await asyncio.create_subprocess_exec(
                self.tools.postgres / program,
                *arguments,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=log,
                cwd="/",
                start_new_session=True,
                **service_account().popen_options(),  # type: ignore[arg-type]
            )
            await process.communicate(given.encode())
        if process.returncode:
            raise PartFailedError(f"{program} failed{log_tail(self.log)}")

    async def start(self) -> None:
        """Start the server and wait until it accepts connections.

        The first start chooses a free port; later ones keep it.

        Raises:
            PartFailedError: It ended, or did not answer in time.
        """
        for attempt in range(_ATTEMPTS):
            chosen = self.port or _free_port(self.avoid_ports)
            self.child = await self._launch(chosen)
            try:
                await self._ready(self.child, chosen)
            except _PortTakenError:
                if self.port or attempt == _ATTEMPTS - 1:
                    raise
                continue
            except BaseException:
                await self.child.stop()
                raise
            self.port, self.killed = chosen, False
            return

    async def _launch(self, port: int) -> Child:
        settings = _SETTINGS | ({} if self.durable else _THROW_AWAY) | {"port": str(port)}
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        return await Child.start(
            "PostgreSQL",
            [str(self.tools.postgres / "postgres"), "-D", str(self.data), *options],
            account=service_account(),
            guard=self.guard,
            log=self.log,
            stop_signal=signal.SIGINT,  # "fast": ends the sessions, keeps everything committed
        )

    async def _ready(self, child: Child, port: int) -> None:
        ended = asyncio.ensure_future(child.wait())
        try:
            async with asyncio.timeout(_START_SECONDS):
                while not await self._answers(port):
                    await asyncio.wait([ended], timeout=0.03)
                    if ended.done():
                        taken = "Address already in use" in log_tail(self.log)
                        raise (_PortTakenError if taken else PartFailedError)(str(child.ended()))
        except TimeoutError:
            raise child.failure(f"did not answer within {_START_SECONDS:.0f} s") from None
        finally:
            ended.cancel()

    async def _answers(self, port: int) -> bool:
        # The port alone proves nothing (it may be another program's): our password must open it.
        try:
            connection = await asyncpg.connect(
                ssl=False,
                host="127.0.0.1",
                port=port,
                user="postgres",
                password=self.password,
                database="postgres",
                timeout=10,
            )
        except DATABASE_ERRORS:
            return False
        await connection.close()
        return True

    async def stop(self) -> None:
        """End the server in good order, or by force after 10 s."""
        if self.child is not None:
            await self.child.stop()
            release_shared_memory(self.data)

    async def kill(self) -> None:
        """End the server as a crash would (SIGKILL)."""
        self.killed = True
        if self.child is not None:
            self.child.kill()
            await self.child.wait()


class _PortTakenError(PartFailedError):
    """Another program took the port between our look and PostgreSQL's."""


def _free_port(avoid: frozenset[int]) -> int:
    for _ in range(100):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port: int = probe.getsockname()[1]
        if port not in avoid:
            return port
    raise PartFailedError("no free port for PostgreSQL")


def release_shared_memory(data: Path) -> None:
    """Remove the segment that a killed server left; a server that ended in good order has left none.

    Args:
        data: The server's data folder.
    """
    pid_file = data / "postmaster.pid"
    with contextlib.suppress(OSError, ValueError, IndexError):
        identifier = int(pid_file.read_text(encoding="ascii").splitlines()[6].split()[1])
        ctypes.CDLL(None).shmctl(identifier, 0, None)  # 0 is IPC_RMID
