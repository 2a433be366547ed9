"""Programs that tests need and that the system brings."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest


def program(name: str, package: str) -> str:
    """Return the program's path; skip the test where it is not installed, but fail in CI."""
    found = shutil.which(name)
    if found is None:
        reason = f"needs {name} (Debian's package {package})"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found


def output_of(*command: str | Path, cwd: Path | None = None) -> str:
    """Run a program that must succeed, and return all that it prints."""
    done = subprocess.run(
        command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stdout
    return done.stdout
