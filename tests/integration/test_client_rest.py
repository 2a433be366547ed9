"""The REST API over the real stack: what it answers, to whom, and with which status."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from pydantic import SecretStr

from local_supabase.faults import Faults
from local_supabase.stack import StackInfo
from realtime_bridge.links import Links
from realtime_bridge.settings import BridgeSettings
from streak_client import RateLimit, Settings
from streak_client.rest.serving import rest_app
from tests.support.stack import user_token

NewUser = Callable[[], Awaitable[UUID]]
Serve = Callable[..., Awaitable[httpx.AsyncClient]]


@pytest.fixture
async def serve(stack: StackInfo) -> AsyncIterator[Serve]:
    """Make the API with options, and a client of it that sends no key by itself."""
    opened: list[Any] = []

    async def make(**options: Any) -> httpx.AsyncClient:
        settings = Settings(stack.supabase_url, stack.secret_key)
        context = rest_app(settings, jwt_secret=stack.jwt_secret, **options)
        app = await context.__aenter__()
        opened.append(context)
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        return httpx.AsyncClient(transport=transport, base_url="http://api.test")

    yield make
    for context in opened:
        await context.__aexit__(None, None, None)


@pytest.fixture
async def api(serve: Serve) -> AsyncIterator[httpx.AsyncClient]:
    """The API as it is served by default."""
    async with await serve() as client:
        yield client


def key(stack: StackInfo) -> dict[str, str]:
    """Sign in as the service."""
    return {"Authorization": f"Bearer {stack.secret_key}"}


def token(stack: StackInfo, user: UUID, **claims: Any) -> dict[str, str]:
    """Sign in as a user."""
    return {"Authorization": f"Bearer {user_token(stack, user, **claims)}"}


def assert_problem(response: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """Check that an answer is a problem."""
    assert (response.status_code, response.headers["content-type"]) == (status, "application/problem+json"), (
        response.text
    )
    body: dict[str, Any] = response.json()
    assert (body["status"], body["code"]) == (status, code)
    assert "Traceback" not in response.text
    return body


async def test_the_originals_endpoints(api: httpx.AsyncClient, stack: StackInfo, new_user: NewUser) -> None:
    """The three endpoints of the original take its names and answer with its fields."""
    user, at = await new_user(), datetime.now(UTC) - timedelta(days=1)
    body = {"userId": str(user), "timezone": "UTC", "requestId": "r", "activityAt": at.isoformat()}
    first = (await api.post("/api/streak/update", json=body, headers=key(stack))).json()
    assert (first["current_streak"], first["change_type"]) == (1, "FIRST_ACTIVITY")
    second = await api.post("/api/streak/update", json={"userId": str(user)}, headers=key(stack))
    assert second.json()["current_streak"] == 2
    again = await api.post("/api/streak/update", json=body, headers=key(stack))
    assert again.json() == {**first, "replayed": True}
    streak = (await api.get(f"/api/streak/{user}", headers={"apikey": stack.secret_key})).json()
    assert (streak["current_streak"], streak["is_active_today"]) == (2, True)
    board = (await api.get("/api/streak/leaderboard?limit=1000", headers=key(stack))).json()
    assert str(user) in {entry["user_id"] for entry in board}


async def test_metrics(api: httpx.AsyncClient, stack: StackInfo, new_user: NewUser) -> None:
    """`/metrics` tells what passed, and of whom it does not."""
    user = await new_user()
    await api.post("/api/streak/update", json={"userId": str(user)}, headers=key(stack))
    text = (await api.get("/metrics")).text
    assert "streak_client_update_seconds_count 1.0" in text
    assert str(user) not in text


async def test_batch_history_and_calendar(api: httpx.AsyncClient, stack: StackInfo, new_user: NewUser) -> None:
    """A batch answers each activity in order with a result or a problem; history and calendar tell what happened."""
    user, today = await new_user(), datetime.now(UTC).date()
    activities = [{"userId": str(user), "timezone": "UTC"}, {"userId": str(uuid4())}]
    good, bad = (await api.post("/api/streak/batch", json={"activities": activities}, headers=key(stack))).json()
    assert (good["result"]["current_streak"], good["error"]) == (1, None)
    assert (bad["error"]["status"], bad["error"]["code"]) == (404, "USER_NOT_FOUND")
    (entry,) = (await api.get(f"/api/streak/{user}/history", headers=token(stack, user))).json()
    assert entry["change_type"] == "FIRST_ACTIVITY"
    url = f"/api/streak/{user}/calendar?from={today - timedelta(days=9)}&to={today}"
    assert [day["kind"] for day in (await api.get(url, headers=token(stack, user))).json()] == ["active"]


async def test_who_may_do_what(api: httpx.AsyncClient, stack: StackInfo, new_user: NewUser) -> None:
    """Nobody without a token; a user reads only that user's streak; only the service counts activities."""
    user, stranger = await new_user(), uuid4()
    body = {"userId": str(user)}
    assert_problem(await api.get(f"/api/streak/{user}"), 401, "TOKEN_REQUIRED")
    assert_problem(await api.get(f"/api/streak/{user}", headers={"apikey": "nonsense"}), 401, "INVALID_TOKEN")
    if stack.publishable_key:
        for headers in ({"apikey": stack.publishable_key}, {"Authorization": f"Bearer {stack.publishable_key}"}):
            assert_problem(await api.get(f"/api/streak/{user}", headers=headers), 401, "INVALID_TOKEN")
            assert_problem(await api.post("/api/streak/update", json=body, headers=headers), 401, "INVALID_TOKEN")
    expired = token(stack, user, expires_in=-60.0)
    assert_problem(await api.get(f"/api/streak/{user}", headers=expired), 401, "TOKEN_EXPIRED")
    anonymous = token(stack, user, role="anon")
    assert_problem(await api.get("/api/streak/leaderboard", headers=anonymous), 403, "FORBIDDEN")
    assert_problem(await api.get(f"/api/streak/{user}", headers=token(stack, stranger)), 403, "FORBIDDEN")
    for path in (f"/api/streak/{user}/history", f"/api/streak/{user}/calendar?from=2026-01-01&to=2026-01-02"):
        assert_problem(await api.get(path, headers=token(stack, stranger)), 403, "FORBIDDEN")
    assert_problem(await api.post("/api/streak/update", json=body, headers=token(stack, user)), 403, "FORBIDDEN")
    batch = await api.post("/api/streak/batch", json={"activities": []}, headers=token(stack, user))
    assert_problem(batch, 403, "FORBIDDEN")
    assert (await api.get(f"/api/streak/{user}", headers=token(stack, user))).json()["version"] == 0


@pytest.mark.parametrize("self_update", [False, True])
async def test_who_may_only_look_counts_nothing(
    serve: Serve, stack: StackInfo, new_user: NewUser, *, self_update: bool
) -> None:
    """An operator reads every streak and counts for nobody else; the token of a dashboard's link opens nothing here."""
    user = await new_user()
    operator = token(stack, uuid4(), app_metadata={"streak_operator": True})
    project = BridgeSettings(supabase_url=stack.supabase_url, supabase_secret_key=SecretStr(stack.secret_key))
    link = {"Authorization": f"Bearer {Links(project).make()}"}
    paths = ("update", "batch", f"{user}", "leaderboard")
    async with await serve(self_update=self_update) as api:
        for headers, statuses in ((operator, [403, 403, 200, 200]), (link, [401] * 4)):
            answers = [
                await api.post("/api/streak/update", json={"userId": str(user)}, headers=headers),
                await api.post("/api/streak/batch", json={"activities": [{"userId": str(user)}]}, headers=headers),
                *[await api.get(f"/api/streak/{path}", headers=headers) for path in paths[2:]],
            ]
            assert dict(zip(paths, (answer.status_code for answer in answers), strict=True)) == dict(
                zip(paths, statuses, strict=True)
            )
        assert (await api.get(f"/api/streak/{user}", headers=key(stack))).json()["version"] == 0


async def test_self_update_is_as_of_now_and_for_oneself(serve: Serve, stack: StackInfo, new_user: NewUser) -> None:
    """Where users may count their own activities, a time they send is ignored, and nobody else's can be counted."""
    user, other = await new_user(), await new_user()
    async with await serve(self_update=True) as api:
        body = {"userId": str(user), "timezone": "UTC", "activityAt": "2000-01-01T00:00:00Z"}
        answer = await api.post("/api/streak/update", json=body, headers=token(stack, user))
        assert answer.json()["current_streak"] == 1
        refused = await api.post("/api/streak/update", json={"userId": str(other)}, headers=token(stack, user))
        assert_problem(refused, 403, "FORBIDDEN")


BAD_BODIES: list[tuple[Any, str]] = [
    ({}, "userId"),
    ({"userId": None}, "userId"),
    ({"userId": "nobody"}, "userId"),
    ({"userId": str(UUID(int=1)), "requestId": "x" * 101}, "requestId"),
    ({"userId": str(UUID(int=1)), "requestId": "a\x00b"}, "requestId"),
    ({"userId": str(UUID(int=1)), "activityAt": "2026-11-22T00:00:00"}, "activityAt"),
    ({"userId": str(UUID(int=1)), "activityAt": "2999-01-01T00:00:00Z"}, "activityAt"),
    ({"userId": str(UUID(int=1)), "timezone": 7}, "timezone"),
    ({"userId": str(UUID(int=1)), "extra": 1}, "extra"),
]


@pytest.mark.parametrize(("body", "field"), BAD_BODIES)
async def test_bad_bodies_are_problems_that_name_the_field(
    api: httpx.AsyncClient, stack: StackInfo, body: Any, field: str
) -> None:
    """What is wrong with a body is a 422 that names the field."""
    response = await api.post("/api/streak/update", json=body, headers=key(stack))
    assert assert_problem(response, 422, "INVALID_INPUT")["field"] == field


@pytest.mark.parametrize("zone", ["Europe/" + "x" * 5_000, "a\x00b", "\ud800", ""])
async def test_a_zone_that_is_none_costs_no_day(
    api: httpx.AsyncClient, stack: StackInfo, new_user: NewUser, zone: str
) -> None:
    """However a zone is wrong, the day counts, alone and in a batch, in the zone that would count without it."""
    headers = {**key(stack), "Content-Type": "application/json"}
    for path in ("update", "batch"):
        body: dict[str, Any] = {"userId": str(await new_user()), "timezone": zone}
        content = json.dumps(body if path == "update" else {"activities": [body]})  # httpx would not send a surrogate
        answer = await api.post(f"/api/streak/{path}", content=content, headers=headers)
        assert answer.status_code == 200, answer.text
        result = answer.json() if path == "update" else answer.json()[0]["result"]
        assert (result["current_streak"], result["timezone"]) == (1, "UTC")


async def test_other_mistakes_have_their_status(api: httpx.AsyncClient, stack: StackInfo, new_user: NewUser) -> None:
    """Unknown users, paths, methods, broken JSON and huge bodies are each a problem with the right status."""
    user = await new_user()
    unknown = await api.post("/api/streak/update", json={"userId": str(uuid4())}, headers=key(stack))
    assert_problem(unknown, 404, "USER_NOT_FOUND")
    old = {"userId": str(user), "activityAt": "2020-01-01T00:00:00Z"}
    answer = await api.post("/api/streak/update", json=old, headers=key(stack))
    assert assert_problem(answer, 422, "INVALID_INPUT")["field"] == "activityAt"
    assert_problem(await api.get("/nowhere"), 404, "NOT_FOUND")
    assert_problem(await api.put("/api/streak/update"), 405, "METHOD_NOT_ALLOWED")
    broken = await api.post("/api/streak/update", content=b"{", headers=key(stack))
    assert_problem(broken, 422, "INVALID_INPUT")
    huge = await api.post("/api/streak/update", content=b" " * (1024 * 1024 + 1), headers=key(stack))
    assert_problem(huge, 413, "TOO_LARGE")
    long = await api.get(f"/api/streak/{user}/calendar?from=2020-01-01&to=2026-01-01", headers=key(stack))
    assert assert_problem(long, 422, "INVALID_INPUT")["field"] == "to"


@pytest.mark.parametrize(("headers", "most_read"), [({}, 1025), ({"content-length": "2048000"}, 0)])
async def test_a_body_that_is_too_long_is_not_read(
    api: httpx.AsyncClient, stack: StackInfo, headers: dict[str, str], most_read: int
) -> None:
    """A long body is refused unread if it says its length, and as soon as it is too long if it does not."""
    read = 0

    async def long() -> AsyncIterator[bytes]:
        nonlocal read
        for _ in range(2_000):
            read += 1
            yield b" " * 1024

    answer = await api.post("/api/streak/update", content=long(), headers={**key(stack), **headers})
    assert_problem(answer, 413, "TOO_LARGE")
    assert read <= most_read


async def test_too_many_updates_are_429(serve: Serve, stack: StackInfo, new_user: NewUser) -> None:
    """Ten updates a minute and user pass by default; the eleventh is told when to come back."""
    user, other = await new_user(), await new_user()
    async with await serve() as api:
        statuses = [
            (await api.post("/api/streak/update", json={"userId": str(user)}, headers=key(stack))).status_code
            for _ in range(10)
        ]
        assert set(statuses) == {200}
        refused = await api.post("/api/streak/update", json={"userId": str(user)}, headers=key(stack))
        assert_problem(refused, 429, "RATE_LIMITED")
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        passed = await api.post("/api/streak/update", json={"userId": str(other)}, headers=key(stack))
        assert passed.status_code == 200


async def test_a_fault_of_the_service_is_a_problem_without_details(
    api: httpx.AsyncClient, stack: StackInfo, faults: Faults
) -> None:
    """When Supabase fails, the answer is a 5xx problem that tells strangers nothing about it."""
    await faults.rest_error(500, path="/rpc/")
    problem = assert_problem(await api.get(f"/api/streak/{uuid4()}", headers=key(stack)), 502, "DATABASE_ERROR")
    assert problem["detail"] == "Streaks cannot be reached now; try later."


async def test_the_leaderboard_is_cached(api: httpx.AsyncClient, stack: StackInfo, faults: Faults) -> None:
    """A page of the leaderboard that was read once needs no database for five minutes."""
    first = (await api.get("/api/streak/leaderboard", headers=key(stack))).json()
    await faults.rest_error(503, path="/rpc/")
    assert (await api.get("/api/streak/leaderboard", headers=key(stack))).json() == first
    assert_problem(await api.get("/api/streak/leaderboard?limit=7", headers=key(stack)), 502, "DATABASE_ERROR")


async def test_a_thousand_requests_a_hundred_at_a_time(serve: Serve, stack: StackInfo, new_user: NewUser) -> None:
    """The original's load test: 1,000 updates of ten users, 100 at a time, none fails, and each day counts once."""
    users = [await new_user() for _ in range(10)]
    room = asyncio.Semaphore(100)
    async with await serve(rate_limit=RateLimit("100000/minute")) as api:

        async def one(user: UUID) -> dict[str, Any]:
            async with room:
                response = await api.post("/api/streak/update", json={"userId": str(user)}, headers=key(stack))
                assert response.status_code == 200, response.text
                answer: dict[str, Any] = response.json()
                return answer

        answers = await asyncio.gather(*(one(user) for user in users * 100))
    assert {answer["current_streak"] for answer in answers} == {1}
    assert sum(answer["change_type"] == "FIRST_ACTIVITY" for answer in answers) == 10
