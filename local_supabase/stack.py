"""The whole local Supabase: starts the parts in order, watches them, and ends them in every case."""

import asyncio
import contextlib
import shutil
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from local_supabase import cluster, migrations
from local_supabase.errors import LocalSupabaseError, PartFailedError
from local_supabase.faults import fault_socket
from local_supabase.folders import bundled_project, data_home, new_run_dir
from local_supabase.keys import Keys, kept_keys
from local_supabase.node import install, kept
from local_supabase.postgres import Postgres
from local_supabase.processes import Child, Guard
from local_supabase.realtime import RealtimeServer
from local_supabase.rest import Gateway, Serving, require_free
from local_supabase.switches import Switches

_REALTIME_STOP_SECONDS = 5.0


@dataclass(frozen=True)
class StackConfig:
    """What to start.

    Attributes:
        port: The origin's port on 127.0.0.1; 0 for any free one. PostgreSQL's own port is always a free one.
        data_dir: Keeps data and keys; None for data that go away at the end.
        faults: Whether to open the socket with the fault switches.
        project_dir: The folder that holds `supabase/`; None for this project's own.
    """

    port: int = 54321
    data_dir: Path | None = None
    faults: bool = False
    project_dir: Path | None = None


@dataclass(frozen=True)
class StackInfo:
    """How to reach a running stack. The keys and the URL with the password are secrets."""

    supabase_url: str
    secret_key: str = field(repr=False)
    publishable_key: str
    jwt_secret: str = field(repr=False)
    database_url: str = field(repr=False)
    faults_socket: str | None = None

    def environment(self) -> dict[str, str]:
        """Return the same as the environment variables that READY prints.

        Returns:
            `SUPABASE_URL`, the keys and `DATABASE_URL`, and `FAULTS_SOCKET` if there is one.
        """
        variables = {
            "SUPABASE_URL": self.supabase_url,
            "SUPABASE_SECRET_KEY": self.secret_key,
            "SUPABASE_PUBLISHABLE_KEY": self.publishable_key,
            "SUPABASE_JWT_SECRET": self.jwt_secret,
            "DATABASE_URL": self.database_url,
        }
        return variables | ({"FAULTS_SOCKET": self.faults_socket} if self.faults_socket else {})


class LocalSupabase:
    """A local Supabase, running inside the `async with` block.

    Args:
        config: What to start.
        say: Told each step of the start.

    Raises:
        LocalSupabaseError: On entering the block, when it cannot start; nothing is left behind.
    """

    info: StackInfo

    def __init__(self, config: StackConfig, say: Callable[[str], None] = lambda _: None) -> None:
        self._config = config
        self._say = say
        self._exits = AsyncExitStack()
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._watchers: set[asyncio.Task[None]] = set()
        self._children: list[Child] = []
        self._stopping = False

    async def __aenter__(self) -> Self:
        try:
            self.info = await self._start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def wait(self) -> None:
        """Wait until the stack was stopped.

        Raises:
            PartFailedError: A part ended by itself.
        """
        await asyncio.shield(self._failed)

    async def stop(self) -> None:
        """End everything that runs; may be called again, and goes on to the end when cancelled."""
        self._stopping = True
        closing = asyncio.ensure_future(self._exits.aclose())
        cancelled = False
        while not closing.done():
            try:
                await asyncio.shield(closing)
            except asyncio.CancelledError:
                cancelled = True
        if not self._failed.done():
            self._failed.set_result(None)
        self._failed.exception()  # whoever waits has it; nobody waiting is no warning
        closing.result()
        if cancelled:
            raise asyncio.CancelledError

    def hurry(self) -> None:
        """End the programs by force, for people who press Ctrl-C twice; `stop` still has to finish."""
        for child in self._children:
            child.kill()

    async def _start(self) -> StackInfo:
        require_free(self._config.port)
        project = self._config.project_dir / "supabase" if self._config.project_dir else bundled_project()
        reserved = migrations.reserved_port(project)
        guard = Guard()
        self._exits.push_async_callback(guard.close)
        run_dir = new_run_dir()
        guard.remove(run_dir)
        self._exits.callback(shutil.rmtree, run_dir, ignore_errors=True)
        tools = await install(self._say)
        await self._exits.enter_async_context(kept(tools))
        home = await self._exits.enter_async_context(data_home(self._config.data_dir, run_dir))
        keys = kept_keys(home / "keys.json")
        postgres = Postgres(
            tools,
            data=home / "postgres",
            log=run_dir / "postgres.log",
            password=keys.database_password,
            guard=guard,
            durable=self._config.data_dir is not None,
            avoid_ports=frozenset({reserved, self._config.port}),
        )
        await self._start_postgres(postgres, home)
        gateway = await Gateway.launch(tools, guard, run_dir / "gateway.log")
        self._exits.push_async_callback(gateway.stop)
        self._watch(gateway.child.name, self._until_ended(gateway.child))
        self._say("Applying the migrations (supabase db push)")
        await migrations.push(tools, project, postgres.port, keys.database_password, run_dir)
        return await self._open(postgres, gateway, keys, run_dir)

    async def _start_postgres(self, postgres: Postgres, home: Path) -> None:
        await cluster.open_data(postgres, home, self._say)
        self._exits.push_async_callback(postgres.stop)
        self._watch_postgres(postgres)
        if not cluster.up_to_date(postgres, home):
            self._say("Updating the schema auth")
            await cluster.update(postgres, home)

    async def _open(self, postgres: Postgres, gateway: Gateway, keys: Keys, run_dir: Path) -> StackInfo:
        self._say("Starting Realtime, REST and Auth")
        faults = self._config.faults
        realtime = RealtimeServer(
            database_url=postgres.database_url,
            jwt_secret=keys.jwt_secret,
            secret_key=keys.secret_key,
            publishable_key=keys.publishable_key,
            host="127.0.0.1",
            port=0,
            faults=faults,
        )
        await realtime.start()
        self._exits.push_async_callback(_within, _REALTIME_STOP_SECONDS, realtime.stop)
        self._watch("Realtime", realtime.wait())
        serving = Serving(
            port=self._config.port,
            realtime_port=realtime.port,
            database_url=postgres.database_url,
            jwt_secret=keys.jwt_secret,
            publishable_key=keys.publishable_key,
            secret_key=keys.secret_key,
            faults=faults,
        )
        port = await gateway.serve(serving)
        socket = None
        if faults:
            switches = Switches(postgres, gateway, realtime, restarted=lambda: self._watch_postgres(postgres))
            socket = await self._exits.enter_async_context(fault_socket(switches.turn, run_dir))
        return StackInfo(
            supabase_url=f"http://127.0.0.1:{port}",
            secret_key=keys.secret_key,
            publishable_key=keys.publishable_key,
            jwt_secret=keys.jwt_secret,
            database_url=postgres.database_url,
            faults_socket=socket,
        )

    def _watch_postgres(self, postgres: Postgres) -> None:
        assert postgres.child is not None  # noqa: S101 - it was started
        child = postgres.child

        async def until_crash() -> None:
            await self._until_ended(child, expected=lambda: postgres.killed)

        self._watch(child.name, until_crash())

    async def _until_ended(self, child: Child, expected: Callable[[], bool] = lambda: False) -> None:
        self._children.append(child)
        await child.wait()
        self._children.remove(child)
        if not expected():
            raise child.ended()

    def _watch(self, name: str, part: Coroutine[Any, Any, None]) -> None:
        """Fails the stack when `part` raises, unless it is being stopped anyway."""

        async def watch() -> None:
            try:
                await part
            except Exception as error:  # noqa: BLE001 - whatever ended a part ends the stack
                if not self._stopping and not self._failed.done():
                    known = isinstance(error, LocalSupabaseError)
                    self._failed.set_exception(error if known else PartFailedError(f"{name} failed: {error!r}"))

        task = asyncio.create_task(watch())
        self._watchers.add(task)
        task.add_done_callback(self._watchers.discard)


async def _within(seconds: float, stop: Callable[[], Awaitable[None]]) -> None:
    """Does not let a part that hangs keep the others from being stopped."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop()
