"""Whose fault a request for many was: one bad activity harms no other, and an outage refuses none."""

import asyncio
import inspect
import json
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
import respx

from streak_client import (
    Activity,
    AsyncStreakClient,
    ConcurrentModificationError,
    ConnectionFailedError,
    DatabaseError,
    InvalidInputError,
    Outbox,
    PermissionDeniedError,
    StreakClient,
    StreakError,
    _drain,
    _outbox,
    _retry,
)
from streak_client._batch import Prepared
from tests.support.answers import UPDATE

URL, KEY = "http://streaks.test", "sb_secret_x"
USERS = [UUID(int=n) for n in range(1, 9)]
BAD = USERS[5]
NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
DOWN = ConnectionFailedError("gone")
Refuse = Callable[[Sequence[str]], httpx.Response | None]


def database(status: int, code: str) -> httpx.Response:
    """Refuse a whole request as PostgREST does."""
    return httpx.Response(status, json={"code": code, "message": "no", "details": None, "hint": None})


def page(status: int) -> httpx.Response:
    """Refuse a whole request as a gateway does."""
    return httpx.Response(status, text="<html>not today</html>")


class Rest:
    """Plays the two update functions; `refuse` may answer a request for some users instead."""

    def __init__(self, refuse: Refuse) -> None:
        self.refuse = refuse
        self.taken: list[str] = []
        self.requests = 0
        respx.post(f"{URL}/rest/v1/rpc/update_user_streak_atomic").mock(side_effect=self.single)
        respx.post(f"{URL}/rest/v1/rpc/update_user_streaks_batch").mock(side_effect=self.batch)

    def single(self, request: httpx.Request) -> httpx.Response:
        """Count one activity."""
        return self.answer([json.loads(request.content)["p_user_id"]])

    def batch(self, request: httpx.Request) -> httpx.Response:
        """Count many."""
        return self.answer(json.loads(request.content)["p_user_ids"])

    def answer(self, users: list[str]) -> httpx.Response:
        """Take all or none."""
        self.requests += 1
        if refused := self.refuse(users):
            return refused
        self.taken += users
        return httpx.Response(200, json=[UPDATE] * len(users))


def only(bad: UUID, refusal: httpx.Response) -> Refuse:
    """Refuse every request that holds one user's activity."""
    return lambda users: refusal if str(bad) in users else None


Client = AsyncStreakClient | StreakClient


@pytest.fixture(params=["async", "sync"])
async def client(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Client]:
    """An async and a sync client with an outbox, whose background drainer is not in the way."""
    monkeypatch.setattr(_retry, "FIRST_DELAY", 0.0)
    monkeypatch.setattr(_drain, "FIRST_PAUSE", 3600.0)
    monkeypatch.setattr(_drain, "LONGEST_PAUSE", 3600.0)
    kind = AsyncStreakClient if request.param == "async" else StreakClient
    made: Client = kind(URL, KEY, outbox=tmp_path / "outbox.db", clock=lambda: NOW)
    yield made
    if isinstance(made, AsyncStreakClient):
        await made.aclose()
    else:
        made.close()


@pytest.fixture
def box(tmp_path: Path) -> Outbox:
    """The client's outbox, with an activity of each user."""
    box = Outbox(tmp_path / "outbox.db")
    for user in USERS:
        put(box, user)
    return box


def put(box: Outbox, user: UUID, request_id: str = "r") -> None:
    """Let an activity wait."""
    box.put(Prepared(user, NOW, "UTC", request_id), DOWN, NOW)


async def done(answer: Any) -> Any:
    """Await an answer, if it is one to be awaited."""
    return await answer if inspect.isawaitable(answer) else answer


OUTAGES = [*map(page, (400, 402, 403, 407, 413, 429, 451)), *(database(400, code) for code in ("P0001", "22000"))]


@pytest.mark.parametrize("answer", OUTAGES, ids=lambda answer: f"{answer.status_code}")
@respx.mock
async def test_an_outage_refuses_nothing_whatever_it_answers(
    client: Client, box: Outbox, answer: httpx.Response, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While everything is refused, by a gateway or by the database, no activity is; afterwards all arrive, in order."""
    monkeypatch.setattr(_outbox, "ATTEMPTS", 1)
    rest = Rest(lambda _: answer)
    for _ in range(4):
        assert await done(client.drain_outbox()) == len(USERS)
    assert box.entries(refused=True) == []
    rest.refuse = lambda _: None
    assert await done(client.drain_outbox()) == 0
    assert rest.taken == [str(user) for user in USERS]


@respx.mock
async def test_a_refusal_of_everything_is_no_flood(client: Client) -> None:
    """When nothing of a thousand activities is taken, that takes some dozens of requests to find out, not thousands."""
    rest = Rest(lambda _: database(400, "P0001"))
    outcomes = await done(client.update_user_streaks([Activity(USERS[0])] * 1000))
    assert {type(outcome.error) for outcome in outcomes} == {DatabaseError}
    assert 1 < rest.requests < 60


CONCERNS_ALL = [
    page(401),
    page(404),
    page(429),
    page(502),
    database(401, "PGRST301"),
    database(403, "42501"),
    database(404, "42883"),
    database(500, "57014"),
    database(503, "53300"),
]


@pytest.mark.parametrize("answer", CONCERNS_ALL)
@respx.mock
async def test_what_concerns_all_is_not_asked_again_in_parts(client: Client, answer: httpx.Response) -> None:
    """A failure of the service, the key or the rate is not made worse by sending the halves."""
    rest = Rest(lambda _: answer)
    await done(client.update_user_streaks([Activity(user) for user in USERS]))
    assert rest.requests in (1, 4)


POISON = [
    (database(409, "23505"), ConcurrentModificationError),
    (database(409, "PT409"), ConcurrentModificationError),
    (database(400, "P0001"), DatabaseError),
    (database(400, "22008"), InvalidInputError),
    (database(500, "XX001"), DatabaseError),
    (database(500, "SUP"), DatabaseError),
    (page(403), PermissionDeniedError),
]


@pytest.mark.parametrize(("refusal", "kind"), POISON)
@respx.mock
async def test_one_poisoned_element_harms_no_other(
    client: Client, refusal: httpx.Response, kind: type[StreakError]
) -> None:
    """When one activity makes a whole batch fail, it alone has the error, and all others their answers, in order."""
    rest = Rest(only(BAD, refusal))
    outcomes = await done(client.update_user_streaks([Activity(user) for user in USERS]))
    assert [type(outcome.error) for outcome in outcomes] == [kind if user == BAD else type(None) for user in USERS]
    assert rest.taken == [str(user) for user in USERS if user != BAD]


@respx.mock
async def test_one_poisoned_caller_harms_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the callers who share a request, only the one who makes it fail gets the error that would be theirs alone."""
    monkeypatch.setattr(_retry, "FIRST_DELAY", 0.0)
    Rest(only(BAD, database(409, "23505")))
    async with AsyncStreakClient(URL, KEY) as client:
        answers = await asyncio.gather(*map(client.update_user_streak, USERS), return_exceptions=True)
        with pytest.raises(ConcurrentModificationError) as alone:
            await client.update_user_streak(BAD)
    (error,) = (answer for answer in answers if isinstance(answer, BaseException))
    assert answers.index(error) == USERS.index(BAD)
    assert isinstance(error, ConcurrentModificationError)
    assert (error.message, error.sqlstate, error.status) == (alone.value.message, "23505", 409)


@pytest.mark.parametrize("refusal", [database(409, "23505"), database(400, "P0001")])
@respx.mock
async def test_a_poisoned_entry_of_the_outbox_holds_up_nobody(
    client: Client, box: Outbox, refusal: httpx.Response, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An entry that always fails lets all others leave, and is refused once it has used up its own attempts."""
    monkeypatch.setattr(_outbox, "ATTEMPTS", 1)
    rest = Rest(only(BAD, refusal))
    assert await done(client.drain_outbox()) == 1
    assert rest.taken == [str(user) for user in USERS if user != BAD]
    assert [entry.user_id for entry in box.entries()] == [BAD]
    put(box, USERS[0], "another")
    assert await done(client.drain_outbox()) == 0
    assert [entry.user_id for entry in box.entries(refused=True)] == [BAD]


@respx.mock
async def test_a_conflict_that_never_ends_holds_up_nobody(
    client: Client, box: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An entry that meets a conflict in every attempt lets all others leave, and is refused in the end."""
    monkeypatch.setattr(_outbox, "ATTEMPTS", 2)
    conflict = {"error": "CONCURRENT_MODIFICATION"}
    Rest(lambda users: httpx.Response(200, json=[conflict if user == str(BAD) else UPDATE for user in users]))
    assert await done(client.drain_outbox()) == 1
    assert [entry.user_id for entry in box.entries()] == [BAD]
    assert await done(client.drain_outbox()) == 0
    assert [entry.user_id for entry in box.entries(refused=True)] == [BAD]


@respx.mock
async def test_an_entry_that_the_database_cannot_read_is_refused_alone(client: Client, box: Outbox) -> None:
    """An activity that the database calls invalid is set aside at once, and it alone."""
    Rest(only(BAD, database(400, "22008")))
    assert await done(client.drain_outbox()) == 0
    assert [entry.user_id for entry in box.entries(refused=True)] == [BAD]


@respx.mock
async def test_a_gateway_that_takes_less_gets_less(client: Client, box: Outbox) -> None:
    """Where requests may hold no more than a few activities, all arrive all the same, in order."""
    rest = Rest(lambda users: page(413) if len(users) > 3 else None)
    assert await done(client.drain_outbox()) == 0
    assert rest.taken == [str(user) for user in USERS]
    assert box.entries(refused=True) == []


@respx.mock
async def test_a_gateways_page_is_not_the_callers_mistake(client: Client, tmp_path: Path) -> None:
    """An activity that a gateway turns away, for its size or whatever, waits in the outbox and raises nothing."""
    Rest(lambda _: page(413))
    answer = await done(client.handle_problem_solved(USERS[0], request_id="r"))
    assert (answer.queued, answer.result, type(answer.error)) == (True, None, DatabaseError)
    assert [entry.request_id for entry in Outbox(tmp_path / "outbox.db").entries()] == ["r"]
