"""What the bridge makes of answers of the database that hold what Python cannot."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import UUID

import httpx
import pytest

from realtime_bridge.metrics import Counters
from realtime_bridge.reader import Reader, ReadError

USERS = [str(UUID(int=number)) for number in range(1, 6)]
ODD = USERS[1]


def record(user_id: str, **values: Any) -> dict[str, Any]:
    """A row as PostgREST sends it."""
    return {
        "id": user_id,
        "user_id": user_id,
        "version": 1,
        "run_length": 1,
        "longest_streak": 1,
        "last_active_date": "2026-03-03",
        "timezone": "UTC",
        "expires_at": "2026-03-05T00:00:00+00:00",
        "last_activity_at": "2026-03-03T10:00:00+00:00",
        **values,
    }


ROWS = {user: record(user) for user in USERS}


def answer(request: httpx.Request) -> httpx.Response:
    """PostgREST, as far as the reader uses it."""
    params = dict(request.url.params)
    if request.url.path.endswith("/rpc/get_user_streaks"):
        asked = json.loads(request.content)["p_user_ids"]
        return httpx.Response(200, json=[{"user_id": u, "timezone": "UTC", "version": int(u in ROWS)} for u in asked])
    if request.url.path.endswith("/rpc/get_streak_leaderboard"):
        places = [{**row, "rank": 1, "current_streak": 1, "is_active_today": False} for row in ROWS.values()]
        return httpx.Response(200, json=places)
    wanted = params.get("user_id", "gt.")
    rows = [row for user, row in ROWS.items() if (user > wanted[3:] if wanted.startswith("gt.") else user in wanted)]
    return httpx.Response(200, json=rows[: int(params.get("limit", 1000))])


@pytest.fixture
async def reader() -> AsyncIterator[Reader]:
    """A reader of those rows."""
    made = Reader("http://127.0.0.1:1", "sb_secret_unit", timeout=1, counters=Counters())
    await made.http.aclose()
    made.http = httpx.AsyncClient(transport=httpx.MockTransport(answer), base_url="http://127.0.0.1:1/rest/v1")
    async with made:
        yield made


ODD_VALUES = (
    {"last_active_date": "20260-03-03"},
    {"last_active_date": "0044-03-15 BC"},
    {"last_active_date": "infinity"},
    {"expires_at": "20260-03-05T00:00:00+00:00"},
    {"expires_at": "9999-12-31T23:59:59-01:00"},
    {"last_activity_at": "0044-03-15T10:00:00+00:00 BC"},
)


async def test_one_odd_row_stops_no_other(
    reader: Reader, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows read with one that Python cannot hold come all the same; its user is named, and reported once."""
    stranger = str(UUID(int=99))
    for values in ODD_VALUES:
        monkeypatch.setitem(ROWS, ODD, record(ODD, **values))
        found = await reader.find([*USERS, stranger])
        assert set(found.rows) == set(USERS) - {ODD}
        assert found.zones == {stranger: "UTC"}
        assert found.unreadable == {ODD}
    (line,) = caplog.messages
    assert ODD in line
    assert not any(value in line for values in ODD_VALUES for value in values.values())


async def test_pages_go_on_behind_an_odd_row(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading page by page finds every other row, and no page but the last is short."""
    monkeypatch.setitem(ROWS, ODD, record(ODD, **ODD_VALUES[0]))
    for limit in (1, 2, 4, 1000):
        seen: list[str] = []
        while page := await reader.page(seen[-1] if seen else None, limit):
            seen += [row.user_id for row in page]
            if len(page) < limit:
                break
        assert seen == [user for user in USERS if user != ODD]


async def test_the_leaderboard_survives_an_odd_row(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has a date that Python cannot hold keeps the place without it."""
    monkeypatch.setitem(ROWS, ODD, record(ODD, **ODD_VALUES[0]))
    assert [place.user_id for place in await reader.leaderboard(10)] == USERS


@pytest.mark.parametrize("read", [lambda one: one.find(USERS), lambda one: one.page(None, 10)])
async def test_what_is_no_row_at_all_is_a_failed_read(
    reader: Reader, read: Callable[[Reader], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer that does not even name users is refused as a whole, with what to do."""
    monkeypatch.setitem(ROWS, ODD, {"hint": "a proxy's page"})
    with pytest.raises(ReadError) as caught:
        await read(reader)
    assert caught.value.fault.remedy is not None
