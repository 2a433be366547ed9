"""A local Supabase as people start it: `python -m local_supabase` in a process of its own, known by its READY line."""

from __future__ import annotations

import json
import os
import selectors
import signal
import site
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any
from uuid import UUID, uuid4

import asyncpg
import jwt
import pytest

from local_supabase.stack import StackInfo

ROOT = Path(__file__).parents[2]
# The first start on a machine downloads PostgreSQL, lite and the CLI.
READY_SECONDS = 240.0
STOP_SECONDS = 30.0


@dataclass
class RunningStack:
    """A stack in a process of its own."""

    process: subprocess.Popen[str]
    stderr_file: Path
    info: StackInfo = field(init=False)

    def await_ready(self) -> None:
        """Read the READY line; fail with what the stack printed when it ends or takes too long."""
        assert self.process.stdout is not None
        line = _line_within(self.process.stdout, READY_SECONDS)
        if not line.startswith("READY "):
            self.stop()
            pytest.fail(f"no READY line but {line!r}; standard error:\n{self.stderr()}")
        self.info = parse_ready(line)

    def stderr(self) -> str:
        """Return what the stack has said on standard error."""
        return self.stderr_file.read_text(encoding="utf-8", errors="replace")

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Signal the stack if it runs, wait for its end, and return its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            status = self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            pytest.fail(f"the stack did not end within {STOP_SECONDS} s; standard error:\n{self.stderr()}")
        if self.process.stdout is not None:
            self.process.stdout.close()
        return status


def parse_ready(line: str) -> StackInfo:
    """Read the line that says how to reach a stack."""
    values = json.loads(line.removeprefix("READY "))
    return StackInfo(
        supabase_url=values["SUPABASE_URL"],
        secret_key=values["SUPABASE_SECRET_KEY"],
        publishable_key=values["SUPABASE_PUBLISHABLE_KEY"],
        jwt_secret=values["SUPABASE_JWT_SECRET"],
        database_url=values["DATABASE_URL"],
        faults_socket=values.get("FAULTS_SOCKET"),
    )


def launch(
    *arguments: str,
    folder: Path,
    env: Mapping[str, str] | None = None,
    cwd: Path = ROOT,
    python: str = sys.executable,
    options: Mapping[str, Any] | None = None,
) -> RunningStack:
    """Start a stack on a free port and return at once.

    Args:
        arguments: Of `python -m local_supabase`, after `--port 0`.
        folder: Where its standard error is kept.
        env: Variables on top of ours.
        cwd: Its working folder.
        python: The interpreter, which finds our packages even if it is another one.
        options: More arguments of Popen.
    """
    stderr_file = folder / f"stderr-{uuid4().hex[:8]}.log"
    with stderr_file.open("w") as stderr:
        process = subprocess.Popen(
            [python, "-m", "local_supabase", "--port", "0", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            cwd=cwd,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *site.getsitepackages()]), **(env or {})},
            **(options or {}),
        )
    return RunningStack(process, stderr_file)


@contextmanager
def running_stack(*arguments: str, folder: Path, **how: Any) -> Iterator[RunningStack]:
    """Keep a stack running inside the block; see `launch`."""
    stack = launch(*arguments, folder=folder, **how)
    try:
        stack.await_ready()
        yield stack
    finally:
        stack.stop()


def outside_stack(env: Mapping[str, str] = os.environ) -> StackInfo | None:
    """Return the Supabase that the environment names, if it names one: `supabase start`, or a hosted project."""
    if not all(env.get(name) for name in ("SUPABASE_URL", "SUPABASE_SECRET_KEY", "DATABASE_URL")):
        return None
    return StackInfo(
        supabase_url=env["SUPABASE_URL"],
        secret_key=env["SUPABASE_SECRET_KEY"],
        publishable_key=env.get("SUPABASE_PUBLISHABLE_KEY", ""),
        jwt_secret=env.get("SUPABASE_JWT_SECRET", ""),
        database_url=env["DATABASE_URL"],
    )


def user_token(
    info: StackInfo,
    user_id: UUID | str,
    *,
    role: str = "authenticated",
    app_metadata: Mapping[str, Any] | None = None,
    expires_in: float = 3600.0,
) -> str:
    """Return an access token (HS256) as Auth would give it to a user.

    Args:
        info: The stack whose secret signs it.
        user_id: The `sub`.
        role: The database role.
        app_metadata: What the server, not the user, says about the user.
        expires_in: Seconds from now; negative for an expired token.
    """
    if not info.jwt_secret:
        pytest.skip("needs SUPABASE_JWT_SECRET to sign tokens for users")
    now = time.time()
    claims = {
        "iss": f"{info.supabase_url}/auth/v1",
        "aud": "authenticated",
        "sub": str(user_id),
        "role": role,
        "iat": int(min(now, now + expires_in)),
        "exp": int(now + expires_in),
        "app_metadata": dict(app_metadata or {}),
        "user_metadata": {},
        "session_id": str(uuid4()),
    }
    return jwt.encode(claims, info.jwt_secret, algorithm="HS256")


@asynccontextmanager
async def connection(info: StackInfo) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """Open a connection to a stack's database as its owner."""
    database = await asyncpg.connect(info.database_url)
    try:
        yield database
    finally:
        await database.close()


async def insert_user(connection: asyncpg.Connection[asyncpg.Record], user_id: UUID | None = None) -> UUID:
    """Insert a user into `auth.users` and return the id."""
    user_id = user_id or uuid4()
    await connection.execute(
        "insert into auth.users (id, aud, role, email, raw_app_meta_data, raw_user_meta_data, created_at, updated_at)"
        " values ($1, 'authenticated', 'authenticated', $2, '{}', '{}', now(), now())",
        user_id,
        f"{user_id}@example.test",
    )
    return user_id


def _line_within(stream: IO[str], seconds: float) -> str:
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        return stream.readline() if selector.select(seconds) else ""
