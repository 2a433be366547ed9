"""A real Redis on a free loopback port, in a process of its own."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

READY_SECONDS = 30.0


@dataclass
class RedisServer:
    """A Redis that runs."""

    url: str
    process: asyncio.subprocess.Process

    async def kill(self) -> None:
        """End it at once."""
        self.process.kill()
        await self.process.wait()


# With these, what Redis has acknowledged is on the disk.
DURABLE = ("--appendonly", "yes", "--appendfsync", "always")


def free_port() -> int:
    """Find a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


@asynccontextmanager
async def redis_server(folder: Path, *options: str, port: int | None = None) -> AsyncIterator[RedisServer]:
    """Keep a Redis running inside the block; skip the test where Redis is not installed, but fail in CI.

    Args:
        folder: Where it keeps its data, if it is told to.
        options: More arguments.
        port: Where it listens; None for any free port.
    """
    program = shutil.which("redis-server")
    if program is None:
        reason = "needs redis-server (Debian's package of that name)"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    port = port or free_port()
    arguments = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder), *options]
    process = await asyncio.create_subprocess_exec(program, *arguments, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        async with asyncio.timeout(READY_SECONDS):
            while b"Ready to accept connections" not in (line := await process.stdout.readline()):
                assert line, "redis-server ended by itself"
        yield RedisServer(f"redis://127.0.0.1:{port}/0", process)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.communicate()
