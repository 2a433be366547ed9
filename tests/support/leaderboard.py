"""The leaderboard as the database answers it, for tests of the bridge's core."""

from __future__ import annotations

from collections.abc import Mapping

from realtime_bridge.changes import StreakRow
from realtime_bridge.messages import Place, streak_of


class Asked:
    """Notes that the leaderboard is wanted."""

    def __init__(self) -> None:
        self._wanted = False

    def __call__(self) -> None:
        """Want it."""
        self._wanted = True

    def __bool__(self) -> bool:
        return self._wanted

    def pop(self) -> bool:
        """Whether it was wanted since the last time."""
        wanted, self._wanted = self._wanted, False
        return wanted


def answer_of(
    table: Mapping[str, StreakRow], limit: int, wall: float, hidden: frozenset[str] = frozenset()
) -> list[Place]:
    """What get_streak_leaderboard answers for rows, without those who opted out."""
    live = [row for user, row in table.items() if row.streak_at(wall) and user not in hidden]
    live.sort(key=lambda row: (-row.streak_at(wall), row.user_id))
    places = []
    for row in live[:limit]:
        rank = 1 + sum(other.streak_at(wall) > row.streak_at(wall) for other in live)
        streak = streak_of(row, wall)
        places.append(
            Place(
                rank,
                row.user_id,
                streak.current_streak,
                streak.longest_streak,
                streak.last_active_date,
                streak.is_active_today,
            )
        )
    return places
