"""The reads that go straight to the database, async."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from datetime import date
from uuid import UUID

from streak_client import _calls
from streak_client._async_driver import AsyncDriver
from streak_client.models import (
    CalendarDay,
    HistoryEntry,
    LeaderboardEntry,
    LeaderboardOrder,
    StreakExplanation,
    UserStreak,
)


class AsyncLookups:
    """Reads of many users, of the leaderboard, of histories and calendars."""

    _driver: AsyncDriver

    async def get_user_streaks(self, user_ids: Iterable[UUID | str]) -> dict[UUID, UserStreak]:
        """Read many users' streaks in as few requests as possible.

        Args:
            user_ids: Whose.

        Returns:
            Each user's streak by user id.

        Raises:
            StreakError: The call failed; see `streak_client.errors`.
        """
        return await self._driver.run(_calls.get_user_streaks(user_ids))

    async def get_leaderboard(
        self,
        limit: int = 100,
        offset: int = 0,
        order_by: LeaderboardOrder | str = LeaderboardOrder.CURRENT_STREAK,
    ) -> list[LeaderboardEntry]:
        """Read a page of the leaderboard.

        Args:
            limit: The most entries to return, 1 to 1,000.
            offset: How many entries to skip.
            order_by: ``"current_streak"`` (users without one are left out) or ``"longest_streak"``.

        Returns:
            The entries, best first.

        Raises:
            StreakError: The call failed; see `streak_client.errors`.
        """
        return await self._driver.run(_calls.get_leaderboard(limit, offset, order_by))

    def iter_leaderboard(
        self, order_by: LeaderboardOrder | str = LeaderboardOrder.CURRENT_STREAK, *, page_size: int = 1000
    ) -> AsyncIterator[LeaderboardEntry]:
        """Read the whole leaderboard page by page.

        It ends with the page that begins at place 1,000,001 at the latest: the database skips no more.

        Args:
            order_by: ``"current_streak"`` (users without one are left out) or ``"longest_streak"``.
            page_size: Entries per request, 1 to 1,000.

        Returns:
            An iterator over the entries, best first.

        Raises:
            StreakError: A call failed; see `streak_client.errors`.
        """
        return self._driver.pages(_calls.leaderboard_pages(order_by, page_size))

    async def get_history(
        self, user_id: UUID | str, limit: int = 100, *, before_id: int | None = None
    ) -> list[HistoryEntry]:
        """Read the latest changes of a user's streak.

        Args:
            user_id: Whose.
            limit: The most entries to return, 1 to 1,000.
            before_id: Return only entries older than the one with this `id`.

        Returns:
            The entries, newest first.

        Raises:
            StreakError: The call failed; see `streak_client.errors`.
        """
        return await self._driver.run(_calls.get_history(user_id, limit, before_id))

    def iter_history(self, user_id: UUID | str, *, page_size: int = 1000) -> AsyncIterator[HistoryEntry]:
        """Read the whole history of a user's streak page by page.

        Args:
            user_id: Whose.
            page_size: Entries per request, 1 to 1,000.

        Returns:
            An iterator over the entries, newest first.

        Raises:
            StreakError: A call failed; see `streak_client.errors`.
        """
        return self._driver.pages(_calls.history_pages(user_id, page_size))

    async def get_calendar(self, user_id: UUID | str, first_day: date, last_day: date) -> list[CalendarDay]:
        """Read the days that count for a user.

        Args:
            user_id: Whose.
            first_day: The first local day of the range.
            last_day: The last local day of the range, included.

        Returns:
            The days that are in the ledger, oldest first.

        Raises:
            StreakError: The call failed; see `streak_client.errors`.
        """
        return await self._driver.run(_calls.get_calendar(user_id, first_day, last_day))

    async def explain_user_streak(self, user_id: UUID | str) -> StreakExplanation:
        """Ask why a user's streak is what it is: which local day, which zone and which rule made it so.

        Args:
            user_id: Whose.

        Returns:
            The explanation in plain words, with its evidence.

        Raises:
            StreakError: The call failed; see `streak_client.errors`.
        """
        return await self._driver.run(_calls.explain_user_streak(user_id))
