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
    """Holds the lock `file` inside the block.

    Args:
        file: The lock file, created if need be. It stays: removing it would let two holders in.
        patience: How many seconds to wait for another holder; None for ever.

    Raises:
        TimeoutError: Another process still holds it.
    """
    with file.open("a") as handle:
        async with asyncio.timeout(patience):
            # In steps, because a thread that blocks in flock() could not be cancelled.
            while True:
                with contextlib.suppress(BlockingIOError):
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                await asyncio.sleep(_STEP)
        yield
