"""How long to wait before a failed attempt is made again."""

import asyncio
import random


class BackOff:
    """Pauses that double up to a limit, each with jitter, so that many who failed together do not come back together.

    Args:
        first: The first pause, in seconds.
        longest: The longest, in seconds.
    """

    def __init__(self, first: float = 0.25, longest: float = 10.0) -> None:
        self._first = first
        self._longest = longest
        self._next = first

    def reset(self) -> None:
        """Begin anew: an attempt succeeded."""
        self._next = self._first

    async def pause(self) -> None:
        """Wait before the next attempt."""
        pause, self._next = self._next, min(self._next * 2, self._longest)
        await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - jitter is no secret
