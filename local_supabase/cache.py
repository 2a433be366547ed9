"""What may go from the cache folder: entries that nobody uses and that another version of ours has replaced.

An entry is a folder whose name is a kind and a key (`packages-...`). It is whole or absent, since it is made beside its
place and renamed. Whoever uses one holds its file `<entry>.used`, and the file's time says when that last began.
"""

import asyncio
import os
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from local_supabase.locks import exclusive, shared

_DAY = 24 * 3600.0
_TRASH = "trash-"


@asynccontextmanager
async def in_use(entry: Path) -> AsyncIterator[None]:
    """Keep an entry from being removed inside the block; it need not exist yet.

    Args:
        entry: The entry's folder.

    Yields:
        Nothing.
    """
    mark = _mark(entry)
    async with shared(mark):
        os.utime(mark)
        yield


async def shrink(folder: Path, kinds: Collection[str], keep: Collection[Path]) -> None:
    """Remove what nobody has used for a day.

    Args:
        folder: The folder with the entries.
        kinds: What their names begin with, such as `packages-`.
        keep: Entries that stay however old they are.
    """
    for entry, found in _replaced(folder, kinds, keep):
        with suppress(TimeoutError):
            async with exclusive(_mark(entry), patience=0):
                _discard(found)
    await asyncio.to_thread(_remove_trash, folder)


def _replaced(folder: Path, kinds: Collection[str], keep: Collection[Path]) -> list[tuple[Path, Path]]:
    """Return the entries that may go, each with its folder or with one that a killed start left half-done."""
    found = [place for kind in kinds for place in sorted(folder.glob(f"{kind}*")) if place.is_dir()]
    # `<entry>.<random>` was to become `<entry>`.
    pairs = [(place.with_name(place.name.partition(".")[0]), place) for place in found]
    return [(entry, place) for entry, place in pairs if entry not in keep and _unused_seconds(entry, place) > _DAY]


def _mark(entry: Path) -> Path:
    return entry.with_name(f"{entry.name}.used")


def _unused_seconds(entry: Path, found: Path) -> float:
    mark = _mark(entry)
    return time.time() - (mark if mark.exists() else found).stat().st_mtime


def _discard(folder: Path) -> None:
    # Renamed first: removing takes a while, and half an entry must never look like a whole one.
    trash = Path(tempfile.mkdtemp(prefix=_TRASH, dir=folder.parent))
    folder.rename(trash / folder.name)


def _remove_trash(folder: Path) -> None:
    for trash in folder.glob(f"{_TRASH}*"):
        shutil.rmtree(trash, ignore_errors=True)
