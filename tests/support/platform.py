"""The examples' platform on a real bridge of its own, for browser tests of the widget."""

from __future__ import annotations

import importlib.util
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import UUID

from local_supabase.stack import StackInfo
from streak_client import RateLimit, Settings
from streak_client.rest.serving import rest_app, serve_app
from tests.support.bridge_process import BridgeProcess
from tests.support.npm_packages import node_program
from tests.support.stack import ROOT

EXAMPLES = ROOT / "examples"


@dataclass(frozen=True)
class Platform:
    """A platform that serves.

    Attributes:
        url: Where.
        bridge: Its bridge, which allows this origin and which a test may stop.
        users: Ids by name, as `sign-in` takes them.
    """

    url: str
    bridge: BridgeProcess
    users: Mapping[str, UUID]


def free_port() -> int:
    """Return a port of this machine that nobody uses now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


@asynccontextmanager
async def running_platform(
    stack: StackInfo, folder: Path, users: Mapping[str, UUID], **of_bridge: Any
) -> AsyncIterator[Platform]:
    """Serve the examples as ``examples/server.py`` does, with its bridge in a process of its own."""
    port = free_port()
    bridge = BridgeProcess(stack, folder, allowed_origins=f"http://127.0.0.1:{port}", **of_bridge)
    program = _program()
    settings, limit = Settings(stack.supabase_url, stack.secret_key), RateLimit("1000/minute")
    try:
        bridge.start()
        async with rest_app(settings, jwt_secret=stack.jwt_secret, self_update=True, rate_limit=limit) as api:
            app = program.Platform(bridge.url, stack.jwt_secret, users, folder).app(api)
            async with serve_app(app, "127.0.0.1", port) as served:
                yield Platform(served.url, bridge, users)
    finally:
        bridge.stop()


def bundle_react(npm: Path, target: Path) -> None:
    """Bundle the React example with the packages of the tests, by the command that its package.json names."""
    widget = ROOT / "realtime_bridge/web/streak-widget.js"
    source = EXAMPLES / "react/main.jsx"
    options = ["--bundle", "--format=esm", "--jsx=automatic", "--minify", f"--alias:streak-widget={widget}"]
    subprocess.run(
        [node_program(), npm / "esbuild/bin/esbuild", source, *options, f"--outfile={target / 'main.js'}"],
        check=True,
        capture_output=True,
        text=True,
        env={"NODE_PATH": str(npm)},
        timeout=60,
    )


def _program() -> ModuleType:
    """Load ``examples/server.py``, which is no package."""
    spec = importlib.util.spec_from_file_location("examples_server", EXAMPLES / "server.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module
