"""The bridge as a process of its own, which a test may stop and start again at the same address."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from local_supabase.stack import StackInfo
from realtime_bridge.links import operator_link
from realtime_bridge.settings import BridgeSettings
from tests.support.processes import until
from tests.support.stack import ROOT, user_token

START_SECONDS = 60.0
STOP_SECONDS = 20.0


class BridgeProcess:
    """``python -m realtime_bridge`` on a port of its own.

    Args:
        stack: The Supabase that it listens to.
        folder: Where its log is kept.
        **settings: Of `BridgeSettings`, such as ``debounce``.

    Attributes:
        url: Where it serves, the same after every start.
        stack: The Supabase.
    """

    def __init__(self, stack: StackInfo, folder: Path, **settings: Any) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        self.stack = stack
        self.url = f"http://127.0.0.1:{port}"
        self._log = folder / f"bridge-{port}.log"
        self._folder = folder
        names = {"port": port, "reconcile_interval": 1.0, **settings}
        self._env = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "SUPABASE_URL": stack.supabase_url,
            "SUPABASE_SECRET_KEY": stack.secret_key,
            "SUPABASE_JWT_SECRET": stack.jwt_secret,
            "SUPABASE_PUBLISHABLE_KEY": stack.publishable_key,
            **{f"BRIDGE_{name.upper()}": str(value) for name, value in names.items()},
        }
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until changes flow."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "realtime_bridge"], cwd=self._folder, env=self._env, stdout=log, stderr=log
            )
        if not until(self._ready, START_SECONDS):
            self.stop()
            pytest.fail(f"the bridge is not ready; its log:\n{self.log()}")

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End it, if it runs, and wait for its end."""
        if self._process is None:
            return
        self._process.send_signal(number)
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def log(self) -> str:
        """Return what it has said."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def ticket(self) -> str:
        """Return an operator's ticket, good for a minute."""
        answer = httpx.post(f"{self.url}/ticket", headers={"apikey": self.stack.secret_key}, trust_env=False)
        return str(answer.raise_for_status().json()["ticket"])

    def operator_link(self) -> str:
        """Return the URL that opens the dashboard for an operator."""
        settings = BridgeSettings(
            supabase_url=self.stack.supabase_url, supabase_secret_key=SecretStr(self.stack.secret_key)
        )
        return operator_link(self.url, settings)

    def operator_token(self, **claims: Any) -> str:
        """Return an access token of an operator; see `user_token`."""
        operator = "0b5e7a70-0000-4000-8000-000000000001"
        return user_token(self.stack, operator, app_metadata={"streak_operator": True}, **claims)

    def _ready(self) -> bool:
        if self._process is None or self._process.poll() is not None:
            return True  # it ended: no use in waiting; the next request says so
        try:
            return httpx.get(f"{self.url}/readyz", trust_env=False).status_code == 200
        except httpx.HTTPError:
            return False


@contextmanager
def bridge_process(stack: StackInfo, folder: Path, **settings: Any) -> Iterator[BridgeProcess]:
    """Keep a bridge running inside the block; see `BridgeProcess`."""
    bridge = BridgeProcess(stack, folder, **settings)
    try:
        bridge.start()
        yield bridge
    finally:
        bridge.stop()
