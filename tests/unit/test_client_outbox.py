"""The outbox: what could not be sent is kept, and leaves in order with its first request id and time."""

import asyncio
import inspect
import json
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
import respx

from streak_client import (
    AsyncStreakClient,
    ConnectionFailedError,
    InvalidInputError,
    Outbox,
    PermissionDeniedError,
    ProblemSolved,
    StreakClient,
    UserNotFoundError,
    _drain,
    _retry,
)
from streak_client._batch import Prepared
from tests.support.answers import UPDATE

URL, KEY = "http://streaks.test", "sb_secret_never_on_disk"
USERS = [UUID(int=n) for n in range(1, 6)]
NOBODY = UUID(int=99)
NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
DOWN = ConnectionFailedError("gone")


class Service:
    """Plays the functions that take activities; down until told otherwise."""

    def __init__(self) -> None:
        self.up = False
        self.got: list[tuple[str, str, str | None]] = []
        self.counted: set[str] = set()
        for function, answer in (
            ("update_user_streak_atomic", self.single),
            ("update_user_streaks_batch", self.batch),
            ("import_user_activity", self.imports),
        ):
            respx.post(f"{URL}/rest/v1/rpc/{function}").mock(side_effect=answer)

    def body(self, request: httpx.Request) -> dict[str, Any]:
        """Read a request, if the service is up."""
        if not self.up:
            raise httpx.ConnectError("gone")
        body: dict[str, Any] = json.loads(request.content)
        return body

    def single(self, request: httpx.Request) -> httpx.Response:
        """Count one activity."""
        body = self.body(request)
        self.got.append((body["p_user_id"], body["p_activity_at"], body["p_request_id"]))
        return httpx.Response(200, json=[UPDATE])

    def batch(self, request: httpx.Request) -> httpx.Response:
        """Count many; what is older than seven days only gets its first answer again."""
        body = self.body(request)
        answers: list[dict[str, Any]] = []
        for user, at, name in zip(body["p_user_ids"], body["p_activity_ats"], body["p_request_ids"], strict=True):
            if name not in self.counted and datetime.fromisoformat(at) < NOW - timedelta(days=7):
                answers.append({"error": "ACTIVITY_TOO_OLD"})
                continue
            self.got.append((user, at, name))
            answers.append({"error": "USER_NOT_FOUND"} if user == str(NOBODY) else UPDATE)
        return httpx.Response(200, json=answers)

    def imports(self, request: httpx.Request) -> httpx.Response:
        """Import activities; one in 1971 spoils the request."""
        body = self.body(request)
        if any(at.startswith("1971") for at in body["p_activity_ats"]):
            return httpx.Response(400, json={"code": "22023", "message": "no", "details": "ACTIVITY_TOO_OLD"})
        self.got += [(user, at, None) for user, at in zip(body["p_user_ids"], body["p_activity_ats"], strict=True)]
        row = {"error": None, "days_added": 1, "current_streak": 0, "longest_streak": 1, "last_active_date": None}
        return httpx.Response(200, json=[{"user_id": user, **row} for user in dict.fromkeys(body["p_user_ids"])])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the outbox is."""
    return tmp_path / "outbox.db"


@pytest.fixture(params=["async", "sync"])
async def client(
    request: pytest.FixtureRequest, path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[AsyncStreakClient | StreakClient]:
    """An async and a sync client with an outbox, whose background drainer is not in the way."""
    monkeypatch.setattr(_retry, "FIRST_DELAY", 0.0)
    monkeypatch.setattr(_drain, "FIRST_PAUSE", 3600.0)
    monkeypatch.setattr(_drain, "LONGEST_PAUSE", 3600.0)
    kind = AsyncStreakClient if request.param == "async" else StreakClient
    made: AsyncStreakClient | StreakClient = kind(URL, KEY, outbox=path, clock=lambda: NOW)
    yield made
    if isinstance(made, AsyncStreakClient):
        await made.aclose()
    else:
        made.close()


async def done(answer: Any) -> Any:
    """Await an answer, if it is one to be awaited."""
    return await answer if inspect.isawaitable(answer) else answer


async def drained(client: AsyncStreakClient | StreakClient) -> int:
    """Drain until the background drainer is out of the way, and tell what is left."""
    async with asyncio.timeout(10):
        while left := await done(client.drain_outbox()):  # noqa: ASYNC110 - a file has no event
            await asyncio.sleep(0.01)
    return int(left)


def prepared(user: UUID, request_id: str, at: datetime = NOW) -> Prepared:
    """Make an activity."""
    return Prepared(user, at, "UTC", request_id)


@respx.mock
async def test_what_could_not_be_sent_is_sent_later_unchanged_and_in_order(
    client: AsyncStreakClient | StreakClient, path: Path
) -> None:
    """During an outage nothing raises; afterwards every activity arrives once, in order, with its first id and time."""
    service = Service()
    answers = [
        await done(
            client.handle_problem_solved(user, "UTC", request_id=f"r{n}", activity_at=NOW - timedelta(minutes=n))
        )
        for n, user in enumerate(USERS)
    ]
    assert all(answer.queued and answer.result is None for answer in answers)
    assert {type(answer.error) for answer in answers} == {ConnectionFailedError}
    service.up = True
    assert await drained(client) == 0
    assert service.got == [
        (str(user), (NOW - timedelta(minutes=n)).isoformat(), f"r{n}") for n, user in enumerate(USERS)
    ]
    assert Outbox(path).depth() == 0


@respx.mock
async def test_a_service_that_is_up_needs_no_outbox(client: AsyncStreakClient | StreakClient) -> None:
    """When all is well, the answer is the answer, and nothing is queued."""
    Service().up = True
    answer: ProblemSolved = await done(client.handle_problem_solved(USERS[0]))
    assert answer.result is not None
    assert (answer.result.current_streak, answer.queued, answer.error) == (3, False, None)


@respx.mock
async def test_old_activities_leave_through_the_import(client: AsyncStreakClient | StreakClient, path: Path) -> None:
    """What the database calls too old goes through the import, so no outage is too long."""
    service, box = Service(), Outbox(path)
    old, new = NOW - timedelta(days=7, seconds=1), NOW - timedelta(days=7)
    box.put(prepared(USERS[0], "new", new), DOWN, NOW)
    box.put(prepared(USERS[1], "old", old), DOWN, NOW)
    service.up = True
    assert await drained(client) == 0
    assert service.got == [(str(USERS[1]), old.isoformat(), None), (str(USERS[0]), new.isoformat(), "new")]


@respx.mock
async def test_what_was_counted_before_the_answer_was_lost_is_never_imported(
    client: AsyncStreakClient | StreakClient, path: Path
) -> None:
    """However old it is, an activity whose first try counted gets that answer, and no import counts it once more."""
    service, box = Service(), Outbox(path)
    old = NOW - timedelta(days=30)
    service.counted.add("lost")
    box.put(prepared(USERS[0], "lost", old), DOWN, NOW)
    service.up = True
    assert await drained(client) == 0
    assert service.got == [(str(USERS[0]), old.isoformat(), "lost")]


@respx.mock
async def test_what_another_sent_meanwhile_does_not_wait(client: AsyncStreakClient | StreakClient, path: Path) -> None:
    """`drain_outbox` counts what waits when it gives up, not what waited when it began."""
    box = Outbox(path)
    for user in USERS:
        box.put(prepared(user, "r"), DOWN, NOW)

    def sent_by_another(_: httpx.Request) -> httpx.Response:
        for entry in box.entries()[1:]:
            box.remove(entry.id)
        raise httpx.ConnectError("gone")

    respx.post(f"{URL}/rest/v1/rpc/update_user_streaks_batch").mock(side_effect=sent_by_another)
    assert await done(client.drain_outbox()) == 1


@respx.mock
async def test_a_refused_entry_holds_up_nobody(
    client: AsyncStreakClient | StreakClient, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Entries that the database refuses, alone or within an import, are kept aside and logged; the others arrive."""
    service, box = Service(), Outbox(path)
    ancient = datetime(1971, 1, 1, tzinfo=UTC)
    for user, at in (
        (NOBODY, NOW),
        (USERS[0], NOW),
        (USERS[1], ancient),
        (USERS[2], NOW - timedelta(days=30)),
        (USERS[3], NOW - timedelta(days=40)),
    ):
        box.put(prepared(user, f"r{user.int}", at), DOWN, NOW)
    service.up = True
    assert await drained(client) == 0
    assert {user for user, _, _ in service.got} - {str(NOBODY)} == {str(USERS[0]), str(USERS[2]), str(USERS[3])}
    refused = box.entries(refused=True)
    assert [entry.user_id for entry in refused] == [NOBODY, USERS[1]]
    assert "USER_NOT_FOUND" in (refused[0].error or "")
    assert "REFUSED" in caplog.text


@respx.mock
async def test_bad_input_is_the_callers_and_is_never_queued(
    client: AsyncStreakClient | StreakClient, path: Path
) -> None:
    """What waiting would not mend raises: a wrong argument, an unknown user."""
    with pytest.raises(InvalidInputError):
        await done(client.handle_problem_solved("nobody"))
    error = httpx.Response(409, json={"code": "23503", "message": "no", "details": "USER_NOT_FOUND"})
    respx.post(f"{URL}/rest/v1/rpc/update_user_streak_atomic").mock(return_value=error)
    with pytest.raises(UserNotFoundError):
        await done(client.handle_problem_solved(NOBODY))
    assert Outbox(path).depth() == 0


@respx.mock
async def test_a_wrong_key_is_a_fault_of_the_service_too(client: AsyncStreakClient | StreakClient, path: Path) -> None:
    """While a key is being changed, activities wait instead of being lost."""
    respx.post(f"{URL}/rest/v1/rpc/update_user_streak_atomic").respond(401, json={"message": "Invalid API key"})
    answer = await done(client.handle_problem_solved(USERS[0]))
    assert answer.queued
    assert isinstance(answer.error, PermissionDeniedError)
    assert Outbox(path).depth() == 1


@respx.mock
async def test_without_an_outbox_the_loss_is_loud(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without an outbox the answer says that nothing is queued, and an error is logged."""
    monkeypatch.setattr(_retry, "FIRST_DELAY", 0.0)
    Service()
    with StreakClient(URL, KEY) as client:
        answer = client.handle_problem_solved(USERS[0])
        assert (answer.queued, answer.result, client.drain_outbox()) == (False, None, 0)
    assert "LOST" in caplog.text


@respx.mock
async def test_the_background_drainer_needs_no_call(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the service is back, the outbox empties by itself, in tasks and in threads."""
    for attribute in ("FIRST_PAUSE", "LONGEST_PAUSE"):
        monkeypatch.setattr(_drain, attribute, 0.01)
    monkeypatch.setattr(_retry, "FIRST_DELAY", 0.0)
    service, box = Service(), Outbox(path)
    async with AsyncStreakClient(URL, KEY, outbox=path) as asynchronous:
        await asynchronous.handle_problem_solved(USERS[0])
        service.up = True
        async with asyncio.timeout(10):
            while box.depth():  # noqa: ASYNC110 - a file has no event
                await asyncio.sleep(0.01)
    service.up = False
    with StreakClient(URL, KEY, outbox=path) as synchronous:
        synchronous.handle_problem_solved(USERS[1])
        service.up = True
        async with asyncio.timeout(10):
            while box.depth():  # noqa: ASYNC110 - a file has no event
                await asyncio.sleep(0.01)
    assert [user for user, _, _ in service.got] == [str(USERS[0]), str(USERS[1])]


@respx.mock
async def test_a_drain_that_is_broken_off_lets_others_drain(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At whichever of its steps a caller of `drain_outbox` is cancelled, the outbox can be drained again."""

    async def in_two_steps(function: Callable[..., object], *arguments: object) -> object:
        await asyncio.sleep(0)
        result = function(*arguments)
        await asyncio.sleep(0)
        return result

    monkeypatch.setattr(asyncio, "to_thread", in_two_steps)  # a thread takes its own time, this takes always the same
    Service().up = True
    box, cancelled = Outbox(path), 0
    client = AsyncStreakClient(URL, KEY, outbox=path)  # not entered: it drains when it is told to, only
    for steps in range(120):
        box.put(prepared(USERS[0], f"r{steps}"), DOWN, NOW)
        task = asyncio.create_task(client.drain_outbox())
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        cancelled += task.cancelled()
        with box.draining() as mine:
            assert mine, steps
    assert 10 < cancelled < 120
    await client.aclose()
    box.close()
