"""Pages of the leaderboard that were read lately, so that many who look at it cost the database one read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple

from cachetools import TTLCache

from streak_client.models import LeaderboardOrder

# Anybody who is signed in chooses limit and offset freely, so what is kept is bounded by its size, not by its number.
# A page of a thousand has about 200 kB; an empty one takes what its key takes.
MOST_BYTES = 16 * 1024 * 1024
KEY_BYTES = 512


class Page(NamedTuple):
    """Which part of the leaderboard.

    Attributes:
        limit: The most entries.
        offset: How many places come before it.
        order_by: What makes a streak good.
    """

    limit: int
    offset: int
    order_by: LeaderboardOrder


class Boards:
    """Keeps pages for a while; who asks for a page that is being read waits for that one read.

    Args:
        load: Reads a page, as the bytes to answer with.
        seconds: For how long a page is given again.
    """

    def __init__(self, load: Callable[[Page], Coroutine[Any, Any, bytes]], seconds: float) -> None:
        self._load = load
        self._kept: TTLCache[Page, bytes] = TTLCache(MOST_BYTES, seconds, getsizeof=lambda body: KEY_BYTES + len(body))
        self._loading: dict[Page, asyncio.Task[bytes]] = {}

    async def get(self, page: Page) -> bytes:
        """Give a page.

        Args:
            page: Which one.

        Returns:
            The bytes to answer with.

        Raises:
            StreakError: It could not be read.
        """
        kept = self._kept.get(page)
        if kept is not None:
            return kept
        task = self._loading.get(page)
        if task is None:
            # A task of its own: whoever came first may hang up, and the others still wait.
            task = self._loading[page] = asyncio.create_task(self._read(page))
        return await asyncio.shield(task)

    async def _read(self, page: Page) -> bytes:
        try:
            body = self._kept[page] = await self._load(page)
            return body
        finally:
            del self._loading[page]
