"""npm packages that only browser tests need, pinned by the lock file beside their package.json."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

from filelock import FileLock

from local_supabase.folders import cache_dir
from local_supabase.node_program import find_node
from tests.support.stack import ROOT

_PINS = ROOT / "tests/browser/packages"
_FILES = ("package.json", "package-lock.json", ".npmrc")
_SECONDS = 180.0


def node_program() -> Path:
    """Return the Node that the packages run on."""
    return find_node().program


def node_modules() -> Path:
    """Install the packages where they are missing, and return their ``node_modules``."""
    digest = hashlib.sha256(b"\0".join((_PINS / name).read_bytes() for name in _FILES)).hexdigest()[:16]
    root = cache_dir() / f"browser-tests-{digest}"
    root.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{root}.lock"):
        if not (root / "installed").exists():
            _install(root)
    return root / "node_modules"


def _install(root: Path) -> None:
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    for name in _FILES:
        shutil.copy(_PINS / name, root)
    node = find_node()
    command = [str(node.program), str(node.npm), "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--no-progress"]
    subprocess.run(command, cwd=root, check=True, capture_output=True, text=True, timeout=_SECONDS)
    (root / "installed").touch()
