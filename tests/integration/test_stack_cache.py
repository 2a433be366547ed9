"""What stays in the cache folder and what goes."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from local_supabase.cache import in_use, shrink
from local_supabase.folders import cache_dir
from local_supabase.locks import exclusive
from local_supabase.stack import StackInfo

TWO_DAYS_AGO = time.time() - 2 * 24 * 3600


def make(*names: str, folder: Path, used: float = TWO_DAYS_AGO) -> None:
    """Make entries that were last used at a time, with a file in each."""
    for name in names:
        (folder / name).mkdir()
        (folder / name / "file").touch()
        mark = folder / f"{name.partition('.')[0]}.used"
        mark.touch()
        for path in (mark, folder / name):
            os.utime(path, (used, used))


def folders(folder: Path) -> set[str]:
    """Return the names of the folders in a folder."""
    return {entry.name for entry in folder.iterdir() if entry.is_dir()}


async def test_old_entries_go(tmp_path: Path) -> None:
    """Entries that nobody used for a day go, whole or half-done; what is kept, recent or of another kind stays."""
    make("packages-a", "packages-kept", "packages-b.half", "cluster-c", "other", folder=tmp_path)
    make("packages-recent", "packages-d.half", folder=tmp_path, used=time.time())
    (tmp_path / "trash-left").mkdir()
    await shrink(tmp_path, ("packages-", "cluster-"), {tmp_path / "packages-kept"})
    assert folders(tmp_path) == {"packages-kept", "packages-recent", "packages-d.half", "other"}


async def test_entries_without_a_mark(tmp_path: Path) -> None:
    """Entries of a version that left no mark are as old as their folder."""
    make("cluster-old", folder=tmp_path)
    make("cluster-new", folder=tmp_path, used=time.time())
    for name in ("old", "new"):
        (tmp_path / f"cluster-{name}.used").unlink()
    await shrink(tmp_path, ("cluster-",), ())
    assert folders(tmp_path) == {"cluster-new"}


async def test_entries_in_use_stay(tmp_path: Path) -> None:
    """An entry stays as long as anybody uses it, as does what will become it, and counts as used then."""
    make("packages-a", "packages-a.half", folder=tmp_path)
    entry = tmp_path / "packages-a"
    async with in_use(entry):
        assert entry.with_name("packages-a.used").stat().st_mtime > TWO_DAYS_AGO + 1
        os.utime(entry.with_name("packages-a.used"), (TWO_DAYS_AGO, TWO_DAYS_AGO))
        async with in_use(entry):
            os.utime(entry.with_name("packages-a.used"), (TWO_DAYS_AGO, TWO_DAYS_AGO))
        await shrink(tmp_path, ("packages-",), ())
        assert folders(tmp_path) == {"packages-a", "packages-a.half"}
    await shrink(tmp_path, ("packages-",), ())
    assert folders(tmp_path) == set()


async def test_a_stack_uses_its_packages(stack: StackInfo) -> None:
    """A running stack holds its packages and its gateway, so that no other version takes them away."""
    if not stack.faults_socket:
        pytest.skip("needs the local stack")
    held = []
    for mark in (*cache_dir().glob("packages-*.used"), *cache_dir().glob("packages-*/gateway-*.used")):
        try:
            async with exclusive(mark, patience=0):
                pass
        except TimeoutError:
            held.append(mark.name.partition("-")[0])
    assert {"packages", "gateway"} <= set(held)
