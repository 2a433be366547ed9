"""The policy that both clients share, against a REST API that respx plays."""

import inspect
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
import respx

from streak_client import (
    Activity,
    AsyncStreakClient,
    ConcurrentModificationError,
    ConfigurationError,
    ConnectionFailedError,
    DatabaseError,
    InvalidInputError,
    InvalidResponseError,
    PermissionDeniedError,
    RateLimitedError,
    RequestTimeoutError,
    StreakClient,
    StreakError,
    UserNotFoundError,
    _retry,
)

URL = "http://streaks.test"
KEY = "sb_secret_unit"
USER = UUID("f8e1edd8-731e-52c8-92cb-a3f4b05e31a7")
NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
UPDATE = {
    "success": True,
    "current_streak": 3,
    "longest_streak": 5,
    "last_active_date": "2026-11-22",
    "change_type": "STREAK_INCREMENT",
    "message": "3 days in a row",
    "timezone": "Europe/Paris",
    "version": 7,
    "expires_at": "2026-11-23 23:00:00+00",
    "replayed": False,
}
STREAK = {
    "current_streak": 3,
    "longest_streak": 5,
    "last_active_date": "2026-11-22",
    "timezone": "Europe/Paris",
    "is_active_today": True,
    "days_since_activity": 0,
    "expires_at": "2026-11-23T23:00:00+00:00",
    "version": 7,
}

Run = Callable[..., Awaitable[Any]]


@pytest.fixture(params=["async", "sync"])
async def run(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Run]:
    """Call a method of the async and of the sync client, without waiting between attempts."""
    monkeypatch.setattr(_retry, "FIRST_DELAY", 0.0)
    client: AsyncStreakClient | StreakClient
    if request.param == "async":
        client = AsyncStreakClient(URL, KEY, clock=lambda: NOW)
    else:
        client = StreakClient(URL, KEY, clock=lambda: NOW)

    async def call(method: str, *args: Any, **kwargs: Any) -> Any:
        result = getattr(client, method)(*args, **kwargs)
        if inspect.isasyncgen(result):
            return [entry async for entry in result]
        if inspect.isgenerator(result):
            return list(result)
        return await result if inspect.isawaitable(result) else result

    yield call
    await client.aclose() if isinstance(client, AsyncStreakClient) else client.close()


def rpc(name: str) -> respx.Route:
    """Match the calls of one database function."""
    return respx.post(f"{URL}/rest/v1/rpc/{name}")


def sent(route: respx.Route, index: int = -1) -> Any:
    """Read what a call carried."""
    return json.loads(route.calls[index].request.content)


def refusal(status: int, code: str, details: str | None = None, message: str = "no") -> httpx.Response:
    """Make an error as PostgREST words it."""
    return httpx.Response(status, json={"code": code, "message": message, "details": details, "hint": None})


@respx.mock
async def test_an_update_carries_the_four_parameters_and_the_key(run: Run) -> None:
    """An update names the parameters of the contract, and sends the secret key as the API key."""
    route = rpc("update_user_streak_atomic").respond(json=[UPDATE])
    at = datetime(2026, 11, 22, 9, 0, tzinfo=UTC)
    answer = await run("update_user_streak", str(USER), "Europe/Paris", request_id="r-1", activity_at=at)
    assert sent(route) == {
        "p_user_id": str(USER),
        "p_timezone": "Europe/Paris",
        "p_request_id": "r-1",
        "p_activity_at": "2026-11-22T09:00:00+00:00",
    }
    assert route.calls.last.request.headers["apikey"] == KEY
    assert (answer.current_streak, answer.last_active_date) == (3, date(2026, 11, 22))
    assert answer.expires_at == datetime(2026, 11, 23, 23, tzinfo=UTC)


@respx.mock
async def test_every_retry_repeats_the_request_id_and_the_time(run: Run) -> None:
    """A call that is retried carries the same request id and activity time in each attempt."""
    answers: list[httpx.Response | Exception] = [
        httpx.ReadTimeout("late"),
        refusal(409, "PT409", "CONCURRENT_MODIFICATION"),
        httpx.Response(503, text="busy"),
        httpx.Response(200, json=[UPDATE]),
    ]
    route = rpc("update_user_streak_atomic").mock(side_effect=answers)
    assert (await run("update_user_streak", USER)).version == 7
    bodies = [sent(route, index) for index in range(4)]
    assert bodies == [bodies[0]] * 4
    assert UUID(bodies[0]["p_request_id"]).version == 4
    assert bodies[0]["p_activity_at"] == NOW.isoformat()


@respx.mock
async def test_two_calls_have_two_request_ids(run: Run) -> None:
    """Each logical call has a request id of its own."""
    route = rpc("update_user_streak_atomic").respond(json=[UPDATE])
    await run("update_user_streak", USER)
    await run("update_user_streak", USER)
    assert sent(route, 0)["p_request_id"] != sent(route, 1)["p_request_id"]


FAILURES: list[tuple[Any, type[StreakError], str, int]] = [
    (refusal(409, "PT409", "CONCURRENT_MODIFICATION"), ConcurrentModificationError, "CONCURRENT_MODIFICATION", 4),
    (refusal(500, "40001"), ConcurrentModificationError, "CONCURRENT_MODIFICATION", 4),
    (refusal(500, "40P01"), ConcurrentModificationError, "CONCURRENT_MODIFICATION", 4),
    (refusal(409, "23505"), ConcurrentModificationError, "CONCURRENT_MODIFICATION", 4),
    (refusal(409, "23503", "USER_NOT_FOUND"), UserNotFoundError, "USER_NOT_FOUND", 1),
    (refusal(400, "22023", "ACTIVITY_TOO_OLD"), InvalidInputError, "INVALID_INPUT", 1),
    (refusal(400, "22P02"), InvalidInputError, "INVALID_INPUT", 1),
    (httpx.Response(413, text="too large"), DatabaseError, "DATABASE_ERROR", 1),
    (refusal(403, "42501"), PermissionDeniedError, "PERMISSION_DENIED", 1),
    (httpx.Response(401, json={"message": "Invalid API key"}), PermissionDeniedError, "PERMISSION_DENIED", 1),
    (refusal(404, "PGRST202"), ConfigurationError, "CONFIGURATION", 1),
    (httpx.Response(404, text="not here"), ConfigurationError, "CONFIGURATION", 1),
    (httpx.Response(302, headers={"location": "/login"}), ConfigurationError, "CONFIGURATION", 1),
    (httpx.Response(429, text="slow down"), RateLimitedError, "RATE_LIMITED", 1),
    (refusal(500, "SUP"), DatabaseError, "DATABASE_ERROR", 4),
    (httpx.Response(502, text="<html>bad gateway</html>"), DatabaseError, "DATABASE_ERROR", 4),
    (refusal(500, "57014"), RequestTimeoutError, "TIMEOUT", 4),
    (httpx.Response(504, text="late"), RequestTimeoutError, "TIMEOUT", 4),
    (httpx.ReadTimeout("late"), RequestTimeoutError, "TIMEOUT", 4),
    (httpx.ConnectTimeout("late"), RequestTimeoutError, "TIMEOUT", 4),
    (httpx.ConnectError("refused"), ConnectionFailedError, "CONNECTION_FAILED", 4),
    (httpx.RemoteProtocolError("hung up mid-body"), ConnectionFailedError, "CONNECTION_FAILED", 4),
    (httpx.LocalProtocolError("bad header"), ConfigurationError, "CONFIGURATION", 1),
    (httpx.DecodingError("bad gzip"), InvalidResponseError, "INVALID_RESPONSE", 1),
    (httpx.Response(200, text="<html>sign in</html>"), InvalidResponseError, "INVALID_RESPONSE", 1),
    (httpx.Response(200, content=b'"\xff"'), InvalidResponseError, "INVALID_RESPONSE", 1),
    (httpx.Response(200, json=[]), InvalidResponseError, "INVALID_RESPONSE", 1),
    (httpx.Response(200, json=[UPDATE, UPDATE]), InvalidResponseError, "INVALID_RESPONSE", 1),
    (
        httpx.Response(200, json=[{**UPDATE, "expires_at": "2026-11-23 23:00"}]),
        InvalidResponseError,
        "INVALID_RESPONSE",
        1,
    ),
    (httpx.Response(200, json=["no row"]), InvalidResponseError, "INVALID_RESPONSE", 1),
    (httpx.Response(204), InvalidResponseError, "INVALID_RESPONSE", 1),
]


@pytest.mark.parametrize(("failure", "kind", "code", "attempts"), FAILURES)
@respx.mock
async def test_each_failure_has_its_class_its_code_and_its_number_of_attempts(
    run: Run, failure: Any, kind: type[StreakError], code: str, attempts: int
) -> None:
    """A fault becomes one error class, and only conflicts, time-outs, lost connections and 5xx are tried again."""
    effect = [failure] * 9 if isinstance(failure, httpx.Response) else failure
    route = rpc("update_user_streak_atomic").mock(side_effect=effect)
    with pytest.raises(StreakError) as caught:
        await run("update_user_streak", USER)
    assert type(caught.value) is kind
    assert caught.value.code == code
    assert route.call_count == attempts
    if isinstance(failure, Exception):
        assert caught.value.__cause__ is failure
    assert KEY not in f"{caught.value!r} {caught.value}"


@respx.mock
async def test_the_error_carries_what_the_database_said(run: Run) -> None:
    """An error keeps message, word, SQLSTATE, status, field and cause."""
    rpc("update_user_streak_atomic").mock(return_value=refusal(400, "22023", "ACTIVITY_TOO_OLD", "older than 7 days"))
    with pytest.raises(InvalidInputError) as caught:
        await run("update_user_streak", USER)
    error = caught.value
    assert (error.message, error.detail, error.sqlstate) == ("older than 7 days", "ACTIVITY_TOO_OLD", "22023")
    assert (error.status, error.field, error.retryable) == (400, "activity_at", False)
    assert error.__cause__ is not None


@respx.mock
async def test_a_rate_limit_says_when_to_come_back(run: Run) -> None:
    """A 429 becomes an error that carries the seconds of Retry-After."""
    rpc("get_user_streak").respond(429, headers={"retry-after": "7"}, text="slow down")
    with pytest.raises(RateLimitedError) as caught:
        await run("get_user_streak", USER)
    assert (caught.value.retry_after, caught.value.retryable) == (7.0, True)


@respx.mock
async def test_a_read_fills_in_the_user(run: Run) -> None:
    """A streak says whose it is, although the function for one user does not."""
    rpc("get_user_streak").respond(json=[STREAK])
    assert (await run("get_user_streak", USER)).user_id == USER


@respx.mock
async def test_many_reads_are_cut_into_requests_of_a_thousand(run: Run) -> None:
    """Reading 1,001 users, some named twice, takes two requests and answers for each user once."""
    route = rpc("get_user_streaks").mock(
        side_effect=lambda request: httpx.Response(
            200, json=[{"user_id": user, **STREAK} for user in json.loads(request.content)["p_user_ids"]]
        )
    )
    users = [uuid4() for _ in range(1001)]
    answer = await run("get_user_streaks", [*users, str(users[0])])
    assert list(answer) == users
    assert [len(sent(route, index)["p_user_ids"]) for index in range(route.call_count)] == [1000, 1]


@respx.mock
async def test_a_zone_that_the_database_ignored_is_logged(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    """A wrong zone costs no day, and a warning names it."""
    rpc("update_user_streak_atomic").respond(json=[{**UPDATE, "message": 'Time zone "Mars/Olympus" is unknown.'}])
    with caplog.at_level(logging.WARNING, "streak_client"):
        await run("update_user_streak", USER, "Mars/Olympus")
    assert "Mars/Olympus" in caplog.text


@respx.mock
async def test_a_zone_outvoted_by_another_is_not_logged(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    """A valid zone that lost to a nearby activity's is no mistake, and brings no warning."""
    rpc("update_user_streak_atomic").respond(json=[UPDATE])
    with caplog.at_level(logging.WARNING, "streak_client"):
        await run("update_user_streak", USER, "Asia/Tokyo")
    assert not caplog.records


@respx.mock
async def test_a_zone_that_cannot_travel_counts_as_none(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    """A zone with a NUL is dropped with a warning, and the day still counts."""
    route = rpc("update_user_streak_atomic").respond(json=[UPDATE])
    with caplog.at_level(logging.WARNING, "streak_client"):
        await run("update_user_streak", USER, "Europe/\x00Paris")
    assert sent(route)["p_timezone"] is None
    assert "ignored" in caplog.text


def batch_answer(request: httpx.Request, errors: dict[str, str]) -> httpx.Response:
    """Answer a batch; `errors` gives some request ids an error."""
    body = json.loads(request.content)
    rows = []
    for index, (user, request_id) in enumerate(zip(body["p_user_ids"], body["p_request_ids"], strict=True)):
        row = {"index": index, "user_id": user, "error": errors.get(request_id)}
        rows.append(row | (dict.fromkeys(UPDATE) if row["error"] else UPDATE))
    return httpx.Response(200, json=rows)


@respx.mock
async def test_one_bad_element_harms_no_other(run: Run) -> None:
    """In a batch, a wrong argument and an unknown user have errors of their own, and the rest counts."""
    route = rpc("update_user_streaks_batch").mock(side_effect=lambda call: batch_answer(call, {"x": "USER_NOT_FOUND"}))
    given = [Activity(USER, request_id="a"), Activity("nobody"), Activity(USER, request_id="x"), Activity(USER)]
    outcomes = await run("update_user_streaks", given)
    assert [outcome.activity for outcome in outcomes] == given
    assert [type(outcome.error) for outcome in outcomes] == [
        type(None),
        InvalidInputError,
        UserNotFoundError,
        type(None),
    ]
    assert outcomes[1].error.field == "activities[1].user_id"
    assert outcomes[0].unwrap().version == 7
    with pytest.raises(UserNotFoundError):
        outcomes[2].unwrap()
    assert len(sent(route)["p_user_ids"]) == 3


@respx.mock
async def test_only_the_elements_in_conflict_are_sent_again(run: Run) -> None:
    """A conflict of one element repeats that element alone, with its id and time."""
    conflicts = [{"b": "CONCURRENT_MODIFICATION"}, {}]
    route = rpc("update_user_streaks_batch").mock(side_effect=lambda call: batch_answer(call, conflicts.pop(0)))
    outcomes = await run("update_user_streaks", [Activity(USER, request_id=name) for name in "abc"])
    assert [sent(route, index)["p_request_ids"] for index in range(2)] == [["a", "b", "c"], ["b"]]
    assert all(outcome.unwrap() for outcome in outcomes)


@respx.mock
async def test_a_conflict_that_stays_is_that_elements_error(run: Run) -> None:
    """An element whose conflict outlasts the retries has the error, and the others keep their answers."""
    route = rpc("update_user_streaks_batch").mock(
        side_effect=lambda call: batch_answer(call, {"b": "CONCURRENT_MODIFICATION"})
    )
    outcomes = await run("update_user_streaks", [Activity(USER, request_id=name) for name in "ab"])
    assert outcomes[0].unwrap().version == 7
    assert isinstance(outcomes[1].error, ConcurrentModificationError)
    assert route.call_count == 4


@respx.mock
async def test_a_lost_batch_fails_only_its_own_elements(run: Run) -> None:
    """When the second request of a large batch is lost, the first thousand outcomes are still handed over."""
    answers = [None, *[httpx.ConnectError("gone")] * 4]

    def answer(request: httpx.Request) -> httpx.Response:
        failure = answers.pop(0)
        if failure is not None:
            raise failure
        return batch_answer(request, {})

    rpc("update_user_streaks_batch").mock(side_effect=answer)
    outcomes = await run("update_user_streaks", [Activity(USER)] * 1001)
    assert all(outcome.result for outcome in outcomes[:1000])
    assert isinstance(outcomes[1000].error, ConnectionFailedError)


@respx.mock
async def test_a_batch_answer_of_another_length_is_refused(run: Run) -> None:
    """Rows that cannot be matched to the activities are an error for each, never someone else's answer."""
    rpc("update_user_streaks_batch").respond(json=[])
    (outcome,) = await run("update_user_streaks", [Activity(USER)])
    assert isinstance(outcome.error, InvalidResponseError)


@respx.mock
async def test_a_batch_row_that_does_not_fit_is_that_elements_error(run: Run) -> None:
    """A row without the contract's columns fails its element alone."""
    rpc("update_user_streaks_batch").respond(json=[{**UPDATE, "error": None}, {"error": None}])
    good, bad = await run("update_user_streaks", [Activity(USER), Activity(USER)])
    assert good.result is not None
    assert isinstance(bad.error, InvalidResponseError)


@respx.mock
async def test_the_leaderboard_is_paged(run: Run) -> None:
    """The leaderboard's iterator asks page after page until one is not full."""
    entry = {
        "rank": 1,
        "user_id": str(USER),
        "current_streak": 1,
        "longest_streak": 1,
        "last_active_date": "2026-11-22",
        "is_active_today": True,
    }
    pages = [[entry] * 2, [entry] * 2, [entry]]
    route = rpc("get_streak_leaderboard").mock(side_effect=lambda _: httpx.Response(200, json=pages.pop(0)))
    assert len(await run("iter_leaderboard", "longest_streak", page_size=2)) == 5
    assert [sent(route, index)["p_offset"] for index in range(3)] == [0, 2, 4]
    assert sent(route) == {"p_limit": 2, "p_offset": 4, "p_order_by": "longest_streak"}


@respx.mock
async def test_the_history_is_paged_by_id(run: Run) -> None:
    """The history's iterator goes on below the last id it saw, so that new entries shift nothing."""
    entry = {
        "id": 9,
        "user_id": str(USER),
        "change_type": "STREAK_LAPSED",
        "activity_date": "2026-11-22",
        "last_active_date": None,
        "new_last_active_date": "2026-11-22",
        "old_current_streak": 1,
        "new_current_streak": 0,
        "old_longest_streak": 1,
        "new_longest_streak": 1,
        "timezone": "UTC",
        "version_before": 1,
        "version_after": 2,
        "request_id": None,
        "activity_at": None,
        "expires_at": None,
        "duration_ms": None,
        "reason": None,
        "created_at": "2026-11-22 09:46:48.715809+00",
    }
    pages = [[entry, {**entry, "id": 8}], [{**entry, "id": 3}]]
    route = respx.get(f"{URL}/rest/v1/streak_history").mock(
        side_effect=lambda _: httpx.Response(200, json=pages.pop(0))
    )
    assert [row.id for row in await run("iter_history", USER, page_size=2)] == [9, 8, 3]
    query = dict(route.calls.last.request.url.params)
    assert query == {"select": "*", "user_id": f"eq.{USER}", "id": "lt.8", "order": "id.desc", "limit": "2"}


def imported(request: httpx.Request) -> httpx.Response:
    """Answer an import: one day for each user, but the user of all zeros is unknown."""
    users = dict.fromkeys(json.loads(request.content)["p_user_ids"])
    nobody = str(UUID(int=0))
    rows = [
        {
            "user_id": user,
            "error": "USER_NOT_FOUND" if user == nobody else None,
            "days_added": None if user == nobody else 1,
            "current_streak": 0,
            "longest_streak": 1,
            "last_active_date": "2020-01-01",
        }
        for user in users
    ]
    return httpx.Response(200, json=rows)


@respx.mock
async def test_an_import_is_cut_by_events_and_reports_its_progress(run: Run) -> None:
    """An import goes in chunks, keeps a user's events together, and reports after each chunk."""
    route = rpc("import_user_activity").mock(side_effect=imported)
    users, steps = [UUID(int=1), UUID(int=2)], []
    given = [Activity(users[n % 2], NOW - timedelta(days=n), "UTC") for n in range(5)]
    summary = await run("import_activity", given, chunk_size=3, progress=lambda *step: steps.append(step))
    assert steps == [(3, 5), (5, 5)]
    assert (summary.events, summary.users, summary.days_added, summary.refused) == (5, 2, 2, {})
    bodies = [sent(route, index) for index in range(2)]
    assert [len(set(body["p_user_ids"])) for body in bodies] == [1, 1]
    assert bodies[0].keys() == {"p_user_ids", "p_activity_ats", "p_timezones"}


@respx.mock
async def test_an_import_never_asks_for_more_rows_than_the_api_returns(run: Run) -> None:
    """However large a chunk may be, one request holds a thousand users at most."""
    route = rpc("import_user_activity").mock(side_effect=imported)
    given = [Activity(uuid4(), NOW) for _ in range(1001)]
    assert (await run("import_activity", given, chunk_size=10_000)).users == 1001
    assert [len(sent(route, index)["p_user_ids"]) for index in range(route.call_count)] == [1000, 1]


@respx.mock
async def test_an_import_names_the_users_it_could_not_enter(run: Run) -> None:
    """An unknown user is reported with the reason, and the others are imported."""
    rpc("import_user_activity").mock(side_effect=imported)
    nobody = UUID(int=0)
    summary = await run("import_activity", [Activity(USER, NOW), Activity(nobody, NOW)])
    assert summary.users == 1
    assert isinstance(summary.refused[nobody], UserNotFoundError)


@respx.mock
async def test_an_import_that_breaks_off_says_how_far_it_came(run: Run) -> None:
    """The error of an import says how much was entered, and that repeating is safe."""
    failures = iter([None, refusal(400, "XX000")])
    rpc("import_user_activity").mock(side_effect=lambda request: next(failures) or imported(request))
    with pytest.raises(DatabaseError) as caught:
        await run("import_activity", [Activity(uuid4(), NOW) for _ in range(4)], chunk_size=3)
    assert caught.value.__notes__ == ["3 of 4 activities were imported; importing all of them again is safe."]


async def test_an_import_of_nothing_sends_nothing(run: Run) -> None:
    """An empty import succeeds without a request."""
    assert (await run("import_activity", [])).events == 0


@respx.mock
async def test_a_long_calendar_is_read_in_parts(run: Run) -> None:
    """A range of more than a thousand days takes several requests that touch without overlapping."""
    day = {"day": "2020-01-01", "kind": "active", "activity_at": None, "timezone": "UTC"}
    route = rpc("get_streak_calendar").respond(json=[day])
    assert len(await run("get_calendar", USER, date(2020, 1, 1), date(2022, 9, 27))) == 2
    ranges = [(sent(route, index)["p_from"], sent(route, index)["p_to"]) for index in range(2)]
    assert ranges == [("2020-01-01", "2022-09-26"), ("2022-09-27", "2022-09-27")]


BAD_CALLS: list[tuple[str, tuple[Any, ...], dict[str, Any], str]] = [
    ("update_user_streak", (None,), {}, "user_id"),
    ("update_user_streak", ("",), {}, "user_id"),
    ("update_user_streak", ("not-a-uuid",), {}, "user_id"),
    ("update_user_streak", (f"{{{USER}}}",), {}, "user_id"),
    ("update_user_streak", (7,), {}, "user_id"),
    ("update_user_streak", (str(USER).encode(),), {}, "user_id"),
    ("update_user_streak", ("0" * 1_000_000,), {}, "user_id"),
    ("update_user_streak", (f"{USER}\n",), {}, "user_id"),
    ("update_user_streak", (str(USER).replace("-", "\x00"),), {}, "user_id"),
    ("update_user_streak", ("\ud800" * 36,), {}, "user_id"),
    ("update_user_streak", (USER, 7), {}, "timezone"),
    ("update_user_streak", (USER,), {"request_id": ""}, "request_id"),
    ("update_user_streak", (USER,), {"request_id": "x" * 101}, "request_id"),
    ("update_user_streak", (USER,), {"request_id": "a\nb"}, "request_id"),
    ("update_user_streak", (USER,), {"request_id": "a\x00b"}, "request_id"),
    ("update_user_streak", (USER,), {"request_id": "\ud800"}, "request_id"),
    ("update_user_streak", (USER,), {"request_id": 7}, "request_id"),
    ("update_user_streak", (USER,), {"activity_at": datetime(2026, 11, 22)}, "activity_at"),  # noqa: DTZ001
    ("update_user_streak", (USER,), {"activity_at": "2026-11-22"}, "activity_at"),
    ("update_user_streak", (USER,), {"activity_at": date(2026, 11, 22)}, "activity_at"),
    ("update_user_streak", (USER,), {"activity_at": NOW + timedelta(minutes=5, seconds=1)}, "activity_at"),
    ("update_user_streak", (USER,), {"activity_at": datetime.max.replace(tzinfo=UTC)}, "activity_at"),
    ("handle_problem_solved", (None,), {}, "user_id"),
    ("handle_problem_solved", ("x",), {}, "user_id"),
    ("handle_problem_solved", (USER, b"UTC"), {}, "timezone"),
    ("handle_problem_solved", (USER,), {"activity_at": datetime(2026, 11, 22)}, "activity_at"),  # noqa: DTZ001
    ("handle_problem_solved", (USER,), {"activity_at": NOW + timedelta(days=1)}, "activity_at"),
    ("handle_problem_solved", (USER,), {"request_id": "x" * 101}, "request_id"),
    ("update_user_streaks", ("abc",), {}, "activities"),
    ("update_user_streaks", (None,), {}, "activities"),
    ("update_user_streaks", ([USER],), {}, "activities[0]"),
    ("get_user_streak", ("x",), {}, "user_id"),
    ("get_user_streaks", (str(USER),), {}, "user_ids"),
    ("get_user_streaks", ([USER, None],), {}, "user_ids[1]"),
    ("get_leaderboard", (0,), {}, "limit"),
    ("get_leaderboard", (1001,), {}, "limit"),
    ("get_leaderboard", (True,), {}, "limit"),
    ("get_leaderboard", (10, -1), {}, "offset"),
    ("get_leaderboard", (10, 2**31), {}, "offset"),
    ("get_leaderboard", (10, 0.5), {}, "offset"),
    ("get_leaderboard", (10, 0, "rank"), {}, "order_by"),
    ("get_history", (USER, 0), {}, "limit"),
    ("get_history", (USER,), {"before_id": -1}, "before_id"),
    ("get_history", (USER,), {"before_id": 2**63}, "before_id"),
    ("get_history", ("x",), {}, "user_id"),
    ("get_calendar", (None, date(2026, 1, 1), date(2026, 1, 31)), {}, "user_id"),
    ("get_calendar", (USER, "2026-01-01", date(2026, 1, 31)), {}, "first_day"),
    ("get_calendar", (USER, date(2026, 2, 1), date(2026, 1, 31)), {}, "last_day"),
    ("get_calendar", (USER, NOW, date(2026, 1, 31)), {}, "first_day"),
    ("recover_user_streak", (USER, date(2026, 1, 1), date(2026, 1, 1), " "), {}, "reason"),
    ("recover_user_streak", (USER, date(2026, 1, 1), "2026-01-01", "ill"), {}, "last_day"),
    ("recover_user_streak", ("x", date(2026, 1, 1), date(2026, 1, 1), "ill"), {}, "user_id"),
    ("recover_user_streak", (USER, date(2026, 1, 1), date(2026, 1, 1), "x" * 501), {}, "reason"),
    ("recover_user_streak", (USER, date(2026, 1, 2), date(2026, 1, 1), "ill"), {}, "last_day"),
    ("import_activity", ([Activity(USER)],), {}, "activities[0].activity_at"),
    ("import_activity", ([Activity(USER, datetime(2026, 11, 22))],), {}, "activities[0].activity_at"),  # noqa: DTZ001
    ("import_activity", ([Activity(USER, NOW, 7)],), {}, "activities[0].timezone"),  # type: ignore[arg-type]
    ("import_activity", (7,), {}, "activities"),
    ("import_activity", ([Activity(USER, NOW), Activity("x", NOW)],), {}, "activities[1].user_id"),
    ("import_activity", ([Activity(USER, NOW)],), {"chunk_size": 0}, "chunk_size"),
    ("import_activity", ([Activity(USER, datetime.min.replace(tzinfo=UTC))],), {}, "activities[0].activity_at"),
]


@pytest.mark.parametrize(("method", "args", "kwargs", "field"), BAD_CALLS)
@respx.mock
async def test_bad_input_is_refused_before_anything_is_sent(
    run: Run, method: str, args: tuple[Any, ...], kwargs: dict[str, Any], field: str
) -> None:
    """Each wrong argument is an error that names it, and no request leaves."""
    with pytest.raises(InvalidInputError) as caught:
        await run(method, *args, **kwargs)
    assert caught.value.field == field
    assert field in str(caught.value)
    assert not respx.calls


@respx.mock
async def test_an_old_activity_is_left_to_the_database(run: Run) -> None:
    """An old time is sent: the request may have been answered before the activity grew old."""
    route = rpc("update_user_streak_atomic").respond(json=[{**UPDATE, "replayed": True}])
    assert (await run("update_user_streak", USER, request_id="r", activity_at=NOW - timedelta(days=30))).replayed
    assert route.call_count == 1


async def test_a_closed_client_says_so() -> None:
    """A call after closing is an error of this package."""
    asynchronous, synchronous = AsyncStreakClient(URL, KEY), StreakClient(URL, KEY)
    async with asynchronous:
        pass
    with synchronous:
        pass
    with pytest.raises(ConfigurationError, match="closed"):
        await asynchronous.get_user_streak(USER)
    with pytest.raises(ConfigurationError, match="closed"):
        synchronous.get_user_streak(USER)
