"""A PostgreSQL of Debian's with plpgsql_check, which `supabase db lint` needs and the embedded one lacks."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from local_supabase.accounts import service_account

PACKAGE = "postgresql-15-plpgsql-check"
SETTINGS = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "fsync": "off"}


def programs() -> Path:
    """The folder of a server that has the extension; in CI there must be one."""
    for control in sorted(Path("/usr/share/postgresql").glob("*/extension/plpgsql_check.control")):
        found = Path("/usr/lib/postgresql") / control.parts[-3] / "bin"
        if (found / "initdb").is_file():
            return found
    if os.environ.get("CI"):
        pytest.fail(f"plpgsql_check is missing: apt-get install {PACKAGE}")
    pytest.skip(f"needs plpgsql_check: apt-get install {PACKAGE}")


async def answers(url: str) -> bool:
    """Whether a server is ready."""
    try:
        await (await asyncpg.connect(url)).close()
    except (OSError, asyncpg.PostgresError):
        return False
    return True


async def until_ready(url: str, server: subprocess.Popen[bytes]) -> None:
    """Return when the server answers; the test's time limit ends this."""
    while not await answers(url):
        assert server.poll() is None, "the server has ended"
        await asyncio.sleep(0.05)


@pytest.fixture(scope="module")
def checked_server() -> Iterator[str]:
    """The URL of an empty server with plpgsql_check."""
    account = service_account()
    with tempfile.TemporaryDirectory() as name, socket.socket() as probe:
        folder = Path(name)
        account.own(folder)
        data = folder / "data"
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        options = account.popen_options()
        initdb = [programs() / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync"]
        subprocess.run(initdb, check=True, stdout=subprocess.DEVNULL, cwd="/", **options)  # type: ignore[call-overload]
        given = [word for key, value in SETTINGS.items() for word in ("-c", f"{key}={value}")]
        server: subprocess.Popen[bytes] = subprocess.Popen(  # type: ignore[call-overload]
            [programs() / "postgres", "-D", data, "-p", str(port), *given],
            stderr=subprocess.DEVNULL,
            cwd="/",
            **options,
        )
        url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
        try:
            asyncio.run(until_ready(url, server))
            yield url
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(30)
