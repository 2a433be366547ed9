"""Listeners of the leaderboard on a real stack, compared with get_streak_leaderboard."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from local_supabase.faults import Faults
from local_supabase.stack import StackInfo
from realtime_bridge import Bridge, ServedBridge, serve
from tests.support.bridge import Connection, bridge_settings, in_process, over_sse, over_websocket
from tests.support.stack import user_token

NewUser = Callable[[], Awaitable[UUID]]
TOP = 5
DAYS = """
insert into public.user_streaks (user_id, current_streak, longest_streak, last_active_date, timezone)
select id, n, n, (now() at time zone 'UTC')::date, 'UTC' from unnest($1::uuid[], $2::int[]) u(id, n)
"""
RAISE = "update public.user_streaks set run_length = $2, current_streak = $2, longest_streak = $2 where user_id = $1"
EXPIRE = """
update public.user_streaks set expires_at = now() + interval '1.5 seconds' where user_id = $1 returning version
"""


@dataclass
class Board:
    """A page with a leaderboard."""

    name: str
    messages: list[dict[str, Any]] = field(default_factory=list)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def board(self) -> list[dict[str, Any]] | None:
        """What it shows."""
        return next((message["board"] for message in reversed(self.messages) if message["type"] == "board"), None)

    async def run(self, source: AsyncIterator[dict[str, Any]]) -> None:
        """Listen."""
        async for message in source:
            self.messages.append(message)
            self.news.set()


async def answer(db: Connection, top: int = TOP) -> list[dict[str, Any]]:
    """What the database says."""
    rows = await db.fetch("select row_to_json(l)::text as place from public.get_streak_leaderboard($1) l", top)
    return [json.loads(row["place"]) for row in rows]


async def agree(boards: list[Board], db: Connection) -> list[dict[str, Any]]:
    """Wait until every board is the database's."""
    expected = await answer(db)
    async with asyncio.timeout(60):
        for board in boards:
            while board.board != (expected := await answer(db)):
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(board.news.wait(), 1)
                board.news.clear()
    return expected


@contextlib.asynccontextmanager
async def listening(boards: dict[str, AsyncIterator[dict[str, Any]]]) -> AsyncIterator[list[Board]]:
    """Boards that listen while the block runs."""
    made = [Board(name) for name in boards]
    tasks = [asyncio.create_task(board.run(boards[board.name])) for board in made]
    try:
        yield made
    finally:
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert not [error for error in results if isinstance(error, Exception)]


@pytest.fixture
async def served(stack: StackInfo) -> AsyncIterator[ServedBridge]:
    """A bridge that is live, with its server."""
    async with serve(bridge_settings(stack)) as running_bridge:
        await running_bridge.bridge.wait_live(60)
        yield running_bridge


@pytest.fixture
async def runners(db: Connection, new_user: NewUser) -> list[UUID]:
    """Thirty users with streaks of 5001 to 5030 days, longer than anybody else's."""
    users = [await new_user() for _ in range(30)]
    await db.execute(DAYS, users, [5001 + number for number in range(30)])
    return users


async def test_boards_on_every_surface_are_the_databases(
    served: ServedBridge, stack: StackInfo, db: Connection, runners: list[UUID]
) -> None:
    """In process, SSE, WebSocket: a board is what get_streak_leaderboard answers, through every kind of change."""
    operator = user_token(stack, runners[0], app_metadata={"streak_operator": True})
    sources = {
        "in process": in_process(served.bridge, None, debounce=0, top=TOP),
        "SSE": over_sse(served.url, operator, None, debounce=0, top=TOP),
        "WebSocket": over_websocket(served.url, stack.secret_key, None, debounce=0.2, max_wait=0.5, top=TOP),
    }
    async with listening(sources) as boards:
        first = await agree(boards, db)
        assert [place["user_id"] for place in first] == [str(user) for user in runners[:-6:-1]]
        await db.execute(RAISE, runners[0], 6000)  # from outside
        await agree(boards, db)
        for board in boards:
            last = board.messages[-1]
            assert (last["entered"], last["left"]) == ([str(runners[0])], [str(runners[25])])
        await db.execute(RAISE, runners[29], 6000)  # a tie
        assert [place["rank"] for place in await agree(boards, db)] == [1, 1, 3, 4, 5]
        await db.execute(RAISE, runners[0], 5)  # far behind what was read
        await db.execute("delete from public.user_streaks where user_id = $1", runners[28])
        await agree(boards, db)
        await db.execute(RAISE, runners[1], 7000)
        await db.execute("update public.user_profiles set leaderboard_opt_out = true where user_id = $1", runners[29])
        await db.execute(
            "insert into public.user_profiles (user_id, leaderboard_opt_out) values ($1, true) on conflict do nothing",
            runners[29],
        )
        ended = await agree(boards, db)
        assert str(runners[29]) not in {place["user_id"] for place in ended}
        assert all("entered" not in board.messages[0] for board in boards)


async def test_a_lapse_leaves_every_board(served: ServedBridge, db: Connection, runners: list[UUID]) -> None:
    """At expires_at a streak goes from the board without any change of its row."""
    async with listening({"in process": in_process(served.bridge, None, debounce=0, top=TOP)}) as boards:
        await agree(boards, db)
        version = await db.fetchval(EXPIRE, runners[29])
        async with asyncio.timeout(60):
            while str(runners[29]) in {place["user_id"] for place in boards[0].board or []}:
                await boards[0].news.wait()
                boards[0].news.clear()
        await agree(boards, db)
        assert (
            boards[0].messages[-1]["left"] == [str(runners[29])] or str(runners[29]) in boards[0].messages[-2]["left"]
        )
        assert version == await db.fetchval("select version from public.user_streaks where user_id = $1", runners[29])


async def test_a_board_is_right_after_a_gap(
    stack: StackInfo, db: Connection, runners: list[UUID], faults: Faults
) -> None:
    """What the stream lost, the board has after the resynchronisation: who came, who went, who was deleted."""
    async with Bridge(bridge_settings(stack, reconcile_interval=3600.0)) as bridge:
        await bridge.wait_live(60)
        async with listening({"in process": in_process(bridge, None, debounce=0, top=TOP)}) as boards:
            await agree(boards, db)
            before = (await faults.stats())["changes_dropped"]
            await faults.drop_changes(3)
            await db.execute(RAISE, runners[0], 6000)
            await db.execute(RAISE, runners[29], 10)
            await db.execute("delete from public.user_streaks where user_id = $1", runners[28])
            async with asyncio.timeout(60):
                while (await faults.stats())["changes_dropped"] < before + 3:
                    await db.execute("select 1")
            assert boards[0].board != await answer(db)
            await faults.abort()
            await agree(boards, db)


async def test_many_listeners_cost_no_more_reads(stack: StackInfo, db: Connection, runners: list[UUID]) -> None:
    """Two hundred boards take as many reads of the database as one, at the start and for every change."""
    async with Bridge(bridge_settings(stack, reconcile_interval=3600.0)) as bridge:
        await bridge.wait_live(60)
        names = {str(number): in_process(bridge, None, debounce=0, top=TOP) for number in range(200)}
        async with listening(names) as boards:
            await agree(boards, db)
            await db.execute(RAISE, runners[0], 6000)
            await agree(boards, db)
            assert bridge.counters.board_reads <= 5


async def test_who_may_see_the_board(served: ServedBridge, stack: StackInfo) -> None:
    """Only an operator and the service hear of the leaderboard; a wrong `top` is refused by its name."""
    key = {"apikey": stack.secret_key}
    own = {"Authorization": f"Bearer {user_token(stack, uuid4())}"}
    cases: list[tuple[dict[str, str], dict[str, str], int]] = [
        (own, {"top": "5"}, 403),
        (key, {"top": "0"}, 400),
        (key, {"top": "1001"}, 400),
        (key, {"top": "-1"}, 400),
        (key, {"top": "ten"}, 400),
        (key, {"top": "9" * 5000}, 400),
        (key, {"top": "5", "user_id": str(uuid4())}, 400),
    ]
    async with httpx.AsyncClient(base_url=served.url) as http:
        for headers, params, status in cases:
            refused = await http.get("/events", headers=headers, params=params)
            assert refused.status_code == status, params
            assert status != 400 or refused.json()["error"]["field"] == "top"
    for wrong in (0, 1001):
        with pytest.raises(ValueError, match="top must be"):
            served.bridge.listen(top=wrong)
    with pytest.raises(ValueError, match="exclude"):
        served.bridge.listen(top=1, user_ids=[uuid4()])
