"""What root's folders and masks would shut off from the account without rights that PostgreSQL runs under."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from local_supabase.accounts import service_account
from local_supabase.folders import CACHE_VARIABLE, cache_dir
from local_supabase.node_program import find_node
from local_supabase.processes import open_log
from tests.support.processes import descendants, one
from tests.support.stack import running_stack

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user's programs run as that user")


@pytest.fixture
def root_folder() -> Iterator[Path]:
    """A folder that every account can pass through, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix="local-supabase-test-", dir="/tmp"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


def give_packages(cache: Path) -> None:
    """Put the installed packages, and nothing made from them, into another cache."""
    for packages in cache_dir().glob("packages-*"):
        if packages.is_dir():
            ours = shutil.ignore_patterns("gateway-*")
            shutil.copytree(packages, cache / packages.name, symlinks=True, copy_function=os.link, ignore=ours)


def closed_node(folder: Path) -> Path:
    """Put a recent Node with its npm below a folder that only root can enter, and return the folder of programs."""
    node = find_node()
    programs = folder / "closed/bin"
    programs.mkdir(parents=True)
    programs.parent.chmod(0o700)
    shutil.copy(node.program, programs / "node")
    (programs / "npm").symlink_to(node.npm)
    return programs


@pytest.fixture
def strict_umask() -> Iterator[None]:
    """A umask that shuts everybody else out."""
    mask = os.umask(0o077)
    yield
    os.umask(mask)


@pytest.mark.usefixtures("strict_umask")
def test_node_out_of_reach(tmp_path: Path, root_folder: Path) -> None:
    """Under a strict umask, a Node that only root can reach serves all the same, and the logs are for root alone."""
    cache, temporary = root_folder / "cache", root_folder / "temporary"
    for folder in (cache, temporary):
        folder.mkdir()
        folder.chmod(0o711)
    give_packages(cache)
    path = f"{closed_node(root_folder)}{os.pathsep}{os.environ['PATH']}"
    env = {"LOCAL_SUPABASE_CACHE_DIR": str(cache), "PATH": path, "TMPDIR": str(temporary)}
    with running_stack("--data-dir", str(root_folder / "kept/data"), folder=tmp_path, env=env) as stack:
        children = descendants(stack.process.pid)
        assert children[one(children, "server.mjs")].startswith(f"{cache}/node-v")
        answer = httpx.get(f"{stack.info.supabase_url}/rest/v1/user_streaks", headers={"apikey": stack.info.secret_key})
        assert (answer.status_code, answer.json()) == (200, [])
        modes = {log.name: stat.S_IMODE(log.stat().st_mode) for log in temporary.glob("*/*.log")}
        assert modes.keys() >= {"postgres.log", "gateway.log"}
        assert set(modes.values()) == {0o600}


def test_logs_are_for_root_alone(tmp_path: Path) -> None:
    """Under the usual umask no other account can read the logs either."""
    log = tmp_path / "new.log"
    with open_log(log) as stream:
        stream.write(b"first\n")
    with open_log(log) as stream:
        stream.write(b"second\n")
    assert (stat.S_IMODE(log.stat().st_mode), log.read_text()) == (0o600, "first\nsecond\n")


@pytest.mark.usefixtures("strict_umask")
def test_cache_folder_under_a_strict_umask(root_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache folder that root makes under a strict umask is one that the other account can pass through."""
    monkeypatch.setenv(CACHE_VARIABLE, str(root_folder / "new/cache"))
    service_account().require_passage(cache_dir() / "x")
