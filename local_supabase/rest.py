"""The Node gateway: REST and Auth by @supabase/lite, and the one origin in front of Realtime."""

import asyncio
import contextlib
import itertools
import json
import socket
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from local_supabase.accounts import service_account
from local_supabase.errors import LocalSupabaseError, PartFailedError
from local_supabase.node import Toolchain
from local_supabase.processes import Child, Guard

_ANSWER_SECONDS = 60.0
_POOL = 20
# What hosted projects give the API's login role.
_STATEMENT_TIMEOUT_MS = 8000
# A request waits for a connection and runs one statement.
_ANSWER_MS = 20_000


@dataclass(frozen=True)
class Serving:
    """What the gateway serves.

    Attributes:
        port: The port to listen on; 0 for any.
        realtime_port: Where the stand-in for Realtime listens.
        database_url: With the superuser's password.
        jwt_secret: Signs and checks the users' tokens (HS256).
        publishable_key: Opens the API as `anon`.
        secret_key: Opens it as `service_role`.
        faults: Whether fault switches are obeyed.
    """

    port: int
    realtime_port: int
    database_url: str = field(repr=False)
    jwt_secret: str = field(repr=False)
    publishable_key: str
    secret_key: str = field(repr=False)
    faults: bool


def require_free(port: int) -> None:
    """Find out early that a port is taken; the gateway itself does so for certain, but later.

    Args:
        port: On 127.0.0.1.

    Raises:
        LocalSupabaseError: It is taken.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise _port_taken(port) from error


def _port_taken(port: int) -> LocalSupabaseError:
    return LocalSupabaseError(f"port {port} on 127.0.0.1 is in use: choose another with --port, or 0 for any free one")


class Gateway:
    """A running gateway; what it is told goes through its standard input, which no other program can read."""

    def __init__(self, child: Child) -> None:
        self.child = child
        self._ids = itertools.count(1)
        self._waiting: dict[int | None, asyncio.Future[dict[str, Any]]] = {}
        self._loaded = self._expect(None)
        self._reader = asyncio.create_task(self._read())

    @classmethod
    async def launch(cls, tools: Toolchain, guard: Guard, log: Path) -> "Gateway":
        """Start Node, which loads lite while other parts start.

        Args:
            tools: Where Node and the gateway are.
            guard: Ends the gateway if we vanish.
            log: The file for its messages.

        Returns:
            The gateway, which serves nothing yet.

        Raises:
            PartFailedError: Node cannot be started.
        """
        child = await Child.start(
            "The REST and Auth gateway",
            [str(tools.node), str(tools.server)],
            account=service_account(),
            guard=guard,
            log=log,
            pipes=True,
            # Nothing of our environment: Node and lite read many variables, and some of ours may be secrets.
            env={"NODE_ENV": "production", "DO_NOT_TRACK": "1", "LITE_TELEMETRY": "0", "TZ": "UTC"},
        )
        return cls(child)

    async def provision(self, database_url: str) -> None:
        """Let lite create the schema `auth`.

        Args:
            database_url: With the superuser's password.

        Raises:
            PartFailedError: It could not.
        """
        await self._ask(
            "provision",
            databaseUrl=database_url,
            jwtSecret="-" * 32,
            publishableKey="-",
            secretKey="--",
            poolSize=1,
            statementTimeoutMs=0,
        )

    async def serve(self, what: Serving) -> int:
        """Start to serve.

        Args:
            what: What to serve, and where.

        Returns:
            The port.

        Raises:
            LocalSupabaseError: The port is taken.
            PartFailedError: Something else went wrong.
        """
        config = {_camel(name): value for name, value in asdict(what).items()}
        limits = {"poolSize": _POOL, "statementTimeoutMs": _STATEMENT_TIMEOUT_MS, "answerMs": _ANSWER_MS}
        answer = await self._ask("serve", **config, **limits)
        port: int = answer["port"]
        return port

    async def fault(self, **command: Any) -> None:
        """Set or lift a fault of REST.

        Args:
            **command: Its `kind` and arguments.

        Raises:
            PartFailedError: The gateway knows no such fault.
        """
        await self._ask("fault", **command)

    async def database_back(self) -> None:
        """Return when requests are answered again, after PostgreSQL was away and is back.

        Raises:
            PartFailedError: They are not.
        """
        await self._ask("await_database")

    async def _ask(self, kind: str, /, **arguments: Any) -> dict[str, Any]:
        await self._loaded
        number = next(self._ids)
        answer = self._expect(number)
        assert self.child.process.stdin is not None  # noqa: S101 - started with pipes
        with contextlib.suppress(ConnectionError):  # then its end is near, and the reader says so
            self.child.process.stdin.write(json.dumps({"type": kind, "id": number, **arguments}).encode() + b"\n")
            await self.child.process.stdin.drain()
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                reply = await answer
        except TimeoutError:
            raise self.child.failure(f"did not answer within {_ANSWER_SECONDS:.0f} s") from None
        if reply["ok"]:
            return reply
        if reply["code"] == "EADDRINUSE":
            raise _port_taken(arguments["port"])
        raise PartFailedError(f"{self.child.name} refused to {kind}: {reply['error']}")

    def _expect(self, number: int | None) -> asyncio.Future[dict[str, Any]]:
        self._waiting[number] = asyncio.get_running_loop().create_future()
        return self._waiting[number]

    async def _read(self) -> None:
        assert self.child.process.stdout is not None  # noqa: S101 - started with pipes
        async for line in self.child.process.stdout:
            with contextlib.suppress(ValueError):  # a library that prints must not cut us off
                message = json.loads(line)
                waiting = self._waiting.pop(message.get("id"), None)
                if waiting and not waiting.done():
                    waiting.set_result(message)
        await self.child.wait()
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(self.child.ended())
                waiting.exception()  # fetched here, so that one nobody waits for is no warning

    async def stop(self) -> None:
        """End the gateway."""
        await self.child.stop(timeout=3.0)
        await self._reader


def _camel(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join(word.capitalize() for word in rest)
