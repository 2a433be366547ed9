"""Where reads in pages end."""

from typing import cast

import pytest

from streak_client import LeaderboardEntry, _calls
from streak_client._steps import Flow, Rpc


@pytest.mark.parametrize(("page_size", "last"), [(1_000, 1_000_000), (999, 999_999)])
def test_the_leaderboards_iterator_ends_where_the_database_ends(page_size: int, last: int) -> None:
    """Of a leaderboard that goes on, the iterator asks for no page that the database refuses."""
    pages = _calls.leaderboard_pages("current_streak", page_size)
    asked, full = list[int](), cast("list[LeaderboardEntry]", [None] * page_size)
    flow: Flow[list[LeaderboardEntry]] | None = pages.first
    while flow is not None and len(asked) < 1_100:
        request = next(flow).request()
        assert isinstance(request, Rpc)
        asked.append(request.params["p_offset"])
        flow = pages.following(full)
    assert asked == list(range(0, last + 1, page_size))
