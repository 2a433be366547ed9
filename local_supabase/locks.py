"""Locks between processes, by lock files. The system lifts a lock when its holder ends, however it ends."""

import asyncio
import contextlib
import fcntl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

_STEP = 0.1


@asynccontextmanager
async def exclusive(file: Path, *, patience: float | None = None) -> AsyncIterator[None]:
    """Hold the lock `file` alone inside the block.

    Args:
        file: The lock file, created if need be. It stays: removing it would let two holders in.
        patience: How many seconds to wait for another holder; None for ever.

    Yields:
        Nothing.

    Raises:
        TimeoutError: Another process still holds it.
    """
    async with _held(file, fcntl.LOCK_EX, patience):
        yield


@asynccontextmanager
async def shared(file: Path) -> AsyncIterator[None]:
    """Hold the lock `file` inside the block, together with others who share it.

    Args:
        file: The lock file, as for `exclusive`.

    Yields:
        Nothing.
    """
    async with _held(file, fcntl.LOCK_SH, None):
        yield


@asynccontextmanager
async def _held(file: Path, operation: int, patience: float | None) -> AsyncIterator[None]:
    with file.open("a") as handle:
        async with asyncio.timeout(patience):
            # In steps, because a thread that blocks in flock() could not be cancelled.
            while True:
                with contextlib.suppress(BlockingIOError):
                    fcntl.flock(handle, operation | fcntl.LOCK_NB)
                    break
                await asyncio.sleep(_STEP)
        yield
