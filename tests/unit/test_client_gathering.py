"""Gathering: which calls leave together, and that nobody's answer or error depends on it."""

import asyncio
import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import httpx
import pytest
import respx
from hypothesis import given
from hypothesis import strategies as st

from streak_client import (
    AsyncStreakClient,
    ConfigurationError,
    ConnectionFailedError,
    Gathering,
    InvalidInputError,
    StreakClient,
    StreakError,
    UserNotFoundError,
    _retry,
)
from streak_client._batch import Prepared
from streak_client._gate import Entry, Gate

URL = "http://streaks.test"
NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
USERS = [UUID(int=n) for n in range(1, 8)]
UNKNOWN = UUID(int=99)


def entry(user: UUID, since: float = 0.0) -> Entry:
    """Make a call of a user."""
    return Entry(Prepared(user, NOW, None, "r"), since=since)


def test_an_idle_gate_lets_a_call_out_at_once() -> None:
    """With nothing under way, a call waits for nobody."""
    gate = Gate[Entry](Gathering())
    assert gate.wait(0.0) is None
    gate.add(call := entry(USERS[0]))
    assert gate.wait(0.0) == 0
    assert gate.take(0.0) == [call]


def test_a_busy_gate_waits_for_the_window_or_a_full_batch() -> None:
    """While a request is under way, calls gather until the window is over or the batch is full."""
    gate = Gate[Entry](Gathering(window=0.5, max_batch=3))
    gate.add(entry(USERS[0]))
    gate.take(0.0)
    gate.add(entry(USERS[1], since=1.0))
    gate.add(entry(USERS[2], since=1.2))
    assert gate.wait(1.2) == pytest.approx(0.3)
    assert gate.take(1.2) == []
    gate.add(entry(USERS[3], since=1.25))
    assert gate.wait(1.25) == 0
    assert len(gate.take(1.25)) == 3


def test_the_calls_of_one_user_leave_in_their_order() -> None:
    """While a user's call is under way, their next one stays, and others overtake it."""
    gate = Gate[Entry](Gathering(window=0))
    first, second, third, other = (entry(user) for user in (USERS[0], USERS[0], USERS[0], USERS[1]))
    gate.add(first)
    batch = gate.take(0.0)
    for call in (second, third, other):
        gate.add(call)
    assert gate.take(0.0) == [other]
    assert gate.take(0.0) == []
    gate.finish(batch)
    assert gate.take(0.0) == [second, third]


def test_no_more_requests_leave_than_allowed() -> None:
    """At the limit of requests under way, even a full batch waits for one of them to end."""
    gate = Gate[Entry](Gathering(window=0, max_batch=1, max_in_flight=2))
    for user in USERS[:3]:
        gate.add(entry(user))
    batches = [gate.take(0.0), gate.take(0.0), gate.take(0.0)]
    assert [len(batch) for batch in batches] == [1, 1, 0]
    assert gate.wait(9.0) is None
    gate.finish(batches[0])
    assert len(gate.take(0.0)) == 1


@given(st.data())
def test_every_call_leaves_once_in_order_or_was_dropped(data: st.DataObject) -> None:
    """Whatever comes, ends or is cancelled, and when, no call is lost, doubled or overtaken by its user's next."""
    options = Gathering(window=0, max_batch=data.draw(st.integers(1, 4)), max_in_flight=data.draw(st.integers(1, 3)))
    gate = Gate[Entry](options)
    came, left, flying = list[Entry](), list[Entry](), list[list[Entry]]()
    dropped = set[int]()
    for step in data.draw(st.lists(st.sampled_from("aaatfd"), max_size=60)):
        if step == "a":
            came.append(entry(data.draw(st.sampled_from(USERS[:3]))))
            gate.add(came[-1])
        elif step == "t" and (batch := gate.take(0.0)):
            users = {call.prepared.user_id for call in batch}
            assert not users & {call.prepared.user_id for other in flying for call in other}
            assert len(batch) <= options.max_batch
            left += batch
            flying.append(batch)
        elif step == "f" and flying:
            gate.finish(flying.pop(data.draw(st.integers(0, len(flying) - 1))))
        elif step == "d" and came:
            gate.drop(gone := data.draw(st.sampled_from(came)))
            dropped |= {id(gone)} - {id(call) for call in left}
    while flying or gate.wait(0.0) is not None:
        if batch := gate.take(0.0):
            left += batch
            flying.append(batch)
        else:
            gate.finish(flying.pop())
    assert gate.waiting() == []
    for user in USERS[:3]:
        expected = [call for call in came if call.prepared.user_id == user and id(call) not in dropped]
        assert [call for call in left if call.prepared.user_id == user] == expected


@pytest.mark.parametrize(
    "options", [{"window": -1}, {"window": 2}, {"max_batch": 0}, {"max_batch": 1001}, {"max_in_flight": 0}]
)
def test_impossible_options_are_refused(options: dict[str, Any]) -> None:
    """Options that could never send, or that the database would refuse, are errors."""
    with pytest.raises((ConfigurationError, InvalidInputError)):
        Gathering(**options)


class Rest:
    """Plays the two update functions, and counts requests and activities."""

    def __init__(self) -> None:
        self.requests: list[list[str]] = []
        self.hold: Callable[[], Any] = lambda: None
        respx.post(f"{URL}/rest/v1/rpc/update_user_streak_atomic").mock(side_effect=self.single)
        respx.post(f"{URL}/rest/v1/rpc/update_user_streaks_batch").mock(side_effect=self.batch)

    def single(self, request: httpx.Request) -> Any:
        """Answer one activity."""
        body = json.loads(request.content)
        self.requests.append([body["p_user_id"]])
        if body["p_user_id"] == str(UNKNOWN):
            answer = httpx.Response(409, json={"code": "23503", "message": "no", "details": "USER_NOT_FOUND"})
        else:
            answer = httpx.Response(200, json=[self.row(body["p_user_id"])])
        return self.hold() or answer

    def batch(self, request: httpx.Request) -> httpx.Response:
        """Answer many."""
        users = json.loads(request.content)["p_user_ids"]
        self.requests.append(users)
        self.hold()
        return httpx.Response(200, json=[self.row(user) for user in users])

    @staticmethod
    def row(user: str) -> dict[str, Any]:
        """Answer with the user's number as the streak."""
        if user == str(UNKNOWN):
            return {"error": "USER_NOT_FOUND"}
        return {
            "success": True,
            "current_streak": UUID(user).int,
            "longest_streak": 9,
            "last_active_date": "2026-11-22",
            "change_type": "STREAK_INCREMENT",
            "message": "",
            "timezone": "UTC",
            "version": 1,
            "expires_at": "2026-11-24T00:00:00+00:00",
            "replayed": False,
        }


async def gather(client: AsyncStreakClient, users: list[UUID]) -> list[Any]:
    """Update many users at the same time."""
    return await asyncio.gather(*(client.update_user_streak(user) for user in users), return_exceptions=True)


@respx.mock
async def test_simultaneous_calls_share_a_request_and_keep_their_answers() -> None:
    """A hundred calls at once make one request; each caller gets its own user's answer, the unknown one its error."""
    rest, users = Rest(), [UUID(int=n) for n in range(1, 101)]
    async with AsyncStreakClient(URL, "sb_secret_x") as client:
        answers = await gather(client, users)
    assert [type(answer) is UserNotFoundError for answer in answers] == [user == UNKNOWN for user in users]
    known = [(answer.current_streak, user.int) for answer, user in zip(answers, users, strict=True) if user != UNKNOWN]
    assert all(streak == number for streak, number in known)
    assert len(rest.requests) == 1


@respx.mock
async def test_gathering_can_be_switched_off() -> None:
    """Without gathering, each call is a request of its own."""
    rest = Rest()
    async with AsyncStreakClient(URL, "sb_secret_x", gathering=None) as client:
        await gather(client, USERS)
    assert [len(users) for users in rest.requests] == [1] * len(USERS)


@respx.mock
async def test_a_lost_batch_gives_each_caller_an_error_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """When a shared request fails, every caller gets its own exception with the cause."""
    monkeypatch.setattr(_retry, "FIRST_DELAY", 0.0)
    failure = httpx.ConnectError("gone")
    respx.post(f"{URL}/rest/v1/rpc/update_user_streaks_batch").mock(side_effect=failure)
    async with AsyncStreakClient(URL, "sb_secret_x") as client:
        errors = await gather(client, USERS)
    assert {type(error) for error in errors} == {ConnectionFailedError}
    assert len({id(error) for error in errors}) == len(USERS)
    assert {error.__cause__ for error in errors} == {failure}


@respx.mock
async def test_a_cancelled_caller_harms_no_other() -> None:
    """Of the callers that wait, the cancelled one is not sent, and the others get their answers."""
    rest, started, release = Rest(), asyncio.Event(), asyncio.Event()

    async def slow(request: httpx.Request) -> httpx.Response:
        started.set()
        await release.wait()
        answer: httpx.Response = rest.single(request)
        return answer

    respx.post(f"{URL}/rest/v1/rpc/update_user_streak_atomic").mock(side_effect=slow)
    async with AsyncStreakClient(URL, "sb_secret_x", gathering=Gathering(max_in_flight=1)) as client:
        first = asyncio.ensure_future(client.update_user_streak(USERS[0]))
        await started.wait()
        tasks = [asyncio.ensure_future(client.update_user_streak(user)) for user in USERS[1:]]
        await asyncio.sleep(0)
        tasks[2].cancel()
        await asyncio.wait([tasks[2]])
        release.set()
        answers = await asyncio.gather(first, *tasks, return_exceptions=True)
    assert isinstance(answers[3], asyncio.CancelledError)
    assert [answer.current_streak for answer in answers if not isinstance(answer, BaseException)] == [1, 2, 3, 5, 6, 7]
    assert rest.requests == [[str(USERS[0])], [str(user) for user in USERS[1:] if user != USERS[3]]]


@respx.mock
async def test_a_full_house_holds_callers_back_and_serves_them_all() -> None:
    """More callers than may wait are held back, and all are served in the end."""
    Rest()
    options = Gathering(max_batch=2, max_waiting=3)
    async with AsyncStreakClient(URL, "sb_secret_x", gathering=options) as client:
        answers = await gather(client, USERS * 5)
    assert [answer.current_streak for answer in answers] == [user.int for user in USERS * 5]


@respx.mock
async def test_closing_waits_for_what_is_under_way() -> None:
    """A client that is closed while it sends hands over the answers first."""
    rest, started = Rest(), asyncio.Event()
    rest.hold = started.set
    client = AsyncStreakClient(URL, "sb_secret_x", gathering=Gathering(max_batch=2))
    tasks = [asyncio.ensure_future(client.update_user_streak(user)) for user in USERS]
    await started.wait()
    await client.aclose()
    assert [(await task).current_streak for task in tasks] == [user.int for user in USERS]


@respx.mock
def test_threads_share_requests_too() -> None:
    """While one thread's request is under way, the calls of all others gather into one."""
    rest, release = Rest(), threading.Event()
    rest.hold = lambda: release.wait(10) and None
    users = [UUID(int=n) for n in range(1, 21)]
    with (
        StreakClient(URL, "sb_secret_x", gathering=Gathering(max_in_flight=1)) as client,
        ThreadPoolExecutor(20) as pool,
    ):
        futures = [pool.submit(client.update_user_streak, users[0])]
        while not rest.requests:
            release.wait(0.001)
        futures += [pool.submit(client.update_user_streak, user) for user in users[1:]]
        gate = getattr(client._sender, "_gate", None)  # noqa: SLF001 - to know when all have come
        while gate is None or len(gate.waiting()) < 19:
            release.wait(0.001)
        release.set()
        assert [future.result(10).current_streak for future in futures] == list(range(1, 21))
    assert [len(request) for request in rest.requests] == [1, 19]


@respx.mock
def test_threads_get_their_own_errors() -> None:
    """Under many threads, a user's error reaches that user's caller and no other."""
    Rest()
    users = ([*USERS, UNKNOWN] * 10)[:64]

    def update(client: StreakClient, user: UUID) -> object:
        try:
            return client.update_user_streak(user).current_streak
        except StreakError as error:
            return type(error)

    with StreakClient(URL, "sb_secret_x") as client, ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda user: update(client, user), users))
    assert answers == [UserNotFoundError if user == UNKNOWN else user.int for user in users]
