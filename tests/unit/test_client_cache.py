"""Cached reads and the rate guard."""

import asyncio
import inspect
import json
import logging
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
import respx

from streak_client import (
    Activity,
    AsyncStreakClient,
    Caching,
    ConfigurationError,
    Gathering,
    InvalidInputError,
    RateLimit,
    RateLimitedError,
    StreakClient,
    StreakError,
    UserStreak,
)
from streak_client._cache import fresh_until

URL = "http://streaks.test"
USER, OTHER = UUID(int=1), UUID(int=2)
START = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
STREAK: dict[str, Any] = {
    "current_streak": 3,
    "longest_streak": 5,
    "last_active_date": "2026-11-22",
    "timezone": "UTC",
    "is_active_today": True,
    "days_since_activity": 0,
    "expires_at": "2026-11-24T00:00:00+00:00",
    "version": 7,
}
UPDATE = {**STREAK, "success": True, "change_type": "STREAK_MAINTAINED", "message": "", "replayed": False}


class Clock:
    """A clock that only the test moves."""

    now = START

    def __call__(self) -> datetime:
        """Tell the time."""
        return self.now


Run = Callable[..., Awaitable[Any]]


@pytest.fixture
def clock() -> Clock:
    """The clock of the clients."""
    return Clock()


@pytest.fixture(params=["async", "sync"])
async def client(request: pytest.FixtureRequest, clock: Clock) -> AsyncIterator[AsyncStreakClient | StreakClient]:
    """An async and a sync client with a small cache."""
    made: AsyncStreakClient | StreakClient
    kind = AsyncStreakClient if request.param == "async" else StreakClient
    made = kind(URL, "sb_secret_x", clock=clock, caching=Caching(size=2), max_retries=0)
    yield made
    await shut(made)


async def done(answer: Any) -> Any:
    """Await an answer, if it is one to be awaited."""
    return await answer if inspect.isawaitable(answer) else answer


async def shut(client: AsyncStreakClient | StreakClient) -> None:
    """Close a client of either kind."""
    if isinstance(client, AsyncStreakClient):
        await client.aclose()
    else:
        client.close()


def reads() -> respx.Route:
    """Answer reads."""
    return respx.post(f"{URL}/rest/v1/rpc/get_user_streak").respond(json=[STREAK])


@respx.mock
async def test_a_read_is_answered_again_for_a_minute(client: AsyncStreakClient | StreakClient, clock: Clock) -> None:
    """Within 60 s the same user costs no second request, after 60 s it does; hits and misses are counted."""
    route = reads()
    first = await done(client.get_user_streak(USER))
    clock.now += timedelta(seconds=59)
    assert await done(client.get_user_streak(str(USER))) == first
    assert (route.call_count, client.cache_info()) == (1, (1, 1, 1, 0))
    clock.now += timedelta(seconds=1)
    await done(client.get_user_streak(USER))
    assert (route.call_count, client.cache_info()) == (2, (1, 2, 1, 0))


WRITES: list[tuple[str, tuple[Any, ...], str, Any]] = [
    ("update_user_streak", (USER,), "update_user_streak_atomic", [UPDATE]),
    ("update_user_streaks", ([Activity(USER)],), "update_user_streaks_batch", [UPDATE]),
    ("recover_user_streak", (USER, date(2026, 1, 1), date(2026, 1, 1), "ill"), "recover_user_streak", [UPDATE]),
    ("import_activity", ([Activity(str(USER), START)],), "import_user_activity", []),
]


@pytest.mark.parametrize("write", WRITES, ids=[write[0] for write in WRITES])
@pytest.mark.parametrize("lost", ["answered", "lost"])
@respx.mock
async def test_every_write_drops_that_users_read(
    client: AsyncStreakClient | StreakClient, write: tuple[str, tuple[Any, ...], str, Any], lost: str
) -> None:
    """After a write, also one whose outcome is unknown, its user is read anew, and others stay cached."""
    method, args, function, answer = write
    route = reads()
    for user in (USER, OTHER):
        await done(client.get_user_streak(user))
    effect = httpx.ReadTimeout("late") if lost == "lost" else httpx.Response(200, json=answer)
    respx.post(f"{URL}/rest/v1/rpc/{function}").mock(side_effect=[effect])
    try:
        await done(getattr(client, method)(*args))
    except StreakError:
        assert lost == "lost"
    await done(client.get_user_streak(OTHER))
    assert route.call_count == 2
    await done(client.get_user_streak(USER))
    assert route.call_count == 3


@respx.mock
async def test_the_cache_is_bounded(client: AsyncStreakClient | StreakClient) -> None:
    """More users than the cache holds push out the one that was read longest ago."""
    route = reads()
    for number in (1, 2, 1, 3, 1, 2):
        await done(client.get_user_streak(UUID(int=number)))
    assert (route.call_count, client.cache_info().size) == (4, 2)


@respx.mock
async def test_a_failed_read_is_not_kept(client: AsyncStreakClient | StreakClient) -> None:
    """An error is the answer to one read, not to the next."""
    route = respx.post(f"{URL}/rest/v1/rpc/get_user_streak")
    route.side_effect = [httpx.ConnectError("gone"), httpx.Response(200, json=[STREAK])]
    with pytest.raises(StreakError):
        await done(client.get_user_streak(USER))
    assert (await done(client.get_user_streak(USER))).version == 7


@pytest.mark.parametrize(
    ("zone", "now", "expires_at", "expected"),
    [
        ("UTC", "2026-11-22T12:00:00Z", "2026-11-24T00:00:00Z", "2026-11-22T12:01:00Z"),
        ("UTC", "2026-11-22T23:59:30Z", "2026-11-24T00:00:00Z", "2026-11-23T00:00:00Z"),
        ("Asia/Kathmandu", "2026-11-22T18:14:30Z", None, "2026-11-22T18:15:00Z"),
        ("UTC", "2026-11-22T12:00:00Z", "2026-11-22T12:00:10Z", "2026-11-22T12:00:10Z"),
        ("UTC", "2026-11-22T12:00:00Z", "2020-01-01T00:00:00Z", "2026-11-22T12:01:00Z"),
        ("America/Havana", "2026-11-01T03:59:30Z", None, "2026-11-01T04:00:00Z"),
        ("America/Santiago", "2026-09-06T03:59:30Z", None, "2026-09-06T04:00:00Z"),
        ("Mars/Olympus", "2026-11-22T12:00:00Z", None, "2026-11-22T12:00:00Z"),
    ],
)
def test_no_answer_outlives_the_users_midnight_or_the_streak(
    zone: str, now: str, expires_at: str | None, expected: str
) -> None:
    """An answer holds for a minute, but never past expiry or local midnight, whatever clocks do there."""
    row = {**STREAK, "user_id": str(USER), "timezone": zone, "expires_at": expires_at}
    until = fresh_until(UserStreak.model_validate(row), datetime.fromisoformat(now), 60.0)
    assert datetime.fromtimestamp(until, UTC) == datetime.fromisoformat(expected)


@respx.mock
async def test_simultaneous_reads_of_one_user_share_a_request(clock: Clock) -> None:
    """A stampede is one request, and a caller who leaves takes nobody along."""
    route = reads()
    async with AsyncStreakClient(URL, "sb_secret_x", clock=clock) as client:
        tasks = [asyncio.ensure_future(client.get_user_streak(USER)) for _ in range(50)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(answers[0], asyncio.CancelledError)
    assert {answer.version for answer in answers[1:] if isinstance(answer, UserStreak)} == {7}
    assert route.call_count == 1


@respx.mock
def test_threads_share_a_read(clock: Clock) -> None:
    """Threads that ask for one user at the same time make one request."""
    release, arrived = threading.Event(), threading.Barrier(9)

    def answer(_: httpx.Request) -> httpx.Response:
        release.wait(10)
        return httpx.Response(200, json=[STREAK])

    route = respx.post(f"{URL}/rest/v1/rpc/get_user_streak").mock(side_effect=answer)
    with StreakClient(URL, "sb_secret_x", clock=clock) as client, ThreadPoolExecutor(8) as pool:

        def read() -> UserStreak:
            arrived.wait(10)
            return client.get_user_streak(USER)

        futures = [pool.submit(read) for _ in range(8)]
        arrived.wait(10)
        while client.cache_info().misses < 8:
            time.sleep(0.001)
        release.set()
        assert {future.result(10).version for future in futures} == {7}
    assert route.call_count == 1


@respx.mock
async def test_a_read_that_a_write_overtook_is_not_kept(clock: Clock) -> None:
    """What was read before a write is not what later callers get."""
    version = 7
    asked, release = asyncio.Event(), asyncio.Event()

    async def answer(_: httpx.Request) -> httpx.Response:
        row = {**STREAK, "version": version}
        asked.set()
        await release.wait()
        return httpx.Response(200, json=[row])

    respx.post(f"{URL}/rest/v1/rpc/get_user_streak").mock(side_effect=answer)
    respx.post(f"{URL}/rest/v1/rpc/update_user_streak_atomic").respond(json=[UPDATE])
    async with AsyncStreakClient(URL, "sb_secret_x", clock=clock) as client:
        early = asyncio.ensure_future(client.get_user_streak(USER))
        await asked.wait()
        await client.update_user_streak(USER)
        version = 8
        release.set()
        assert (await early).version == 7
        assert (await client.get_user_streak(USER)).version == 8


@pytest.mark.parametrize("gathering", [Gathering(), None])
@respx.mock
async def test_an_update_whose_caller_left_drops_the_read_when_it_ends(
    clock: Clock, gathering: Gathering | None
) -> None:
    """What is read while a cancelled update is still under way is read anew once the update has counted."""
    version = 7
    sent, release = asyncio.Event(), asyncio.Event()

    async def count() -> httpx.Response:
        nonlocal version
        await release.wait()
        version = 8
        return httpx.Response(200, json=[UPDATE])

    async def answer(_: httpx.Request) -> httpx.Response:
        sent.set()
        return await asyncio.shield(server)  # the database counts whether or not anybody waits for the answer

    server = asyncio.ensure_future(count())
    respx.post(f"{URL}/rest/v1/rpc/update_user_streak_atomic").mock(side_effect=answer)
    row = respx.post(f"{URL}/rest/v1/rpc/get_user_streak")
    row.mock(side_effect=lambda _: httpx.Response(200, json=[{**STREAK, "version": version}]))
    async with AsyncStreakClient(URL, "sb_secret_x", clock=clock, gathering=gathering) as client:
        left = asyncio.ensure_future(client.update_user_streak(USER))
        await sent.wait()
        left.cancel()
        await asyncio.wait([left])
        assert (left.cancelled(), (await client.get_user_streak(USER)).version) == (True, 7)
        release.set()
        async with asyncio.timeout(60):
            while (await client.get_user_streak(USER)).version == 7:  # noqa: ASYNC110 - nobody tells when it has ended
                await asyncio.sleep(0.001)


@respx.mock
async def test_caching_can_be_switched_off() -> None:
    """Without a cache, each read asks."""
    route = reads()
    with StreakClient(URL, "sb_secret_x", caching=None) as client:
        client.get_user_streak(USER)
        client.get_user_streak(USER)
        assert client.cache_info() == (0, 0, 0, 0)
    assert route.call_count == 2


@pytest.mark.parametrize("options", [{"ttl": 0}, {"ttl": 4000}, {"size": 0}])
def test_impossible_caches_are_refused(options: dict[str, Any]) -> None:
    """A cache that would keep nothing, or keep it too long, is an error."""
    with pytest.raises((ConfigurationError, InvalidInputError)):
        Caching(**options)


@pytest.mark.parametrize("kind", [AsyncStreakClient, StreakClient])
@respx.mock
async def test_the_guard_lets_through_so_many_updates_of_each_user(
    kind: type[AsyncStreakClient | StreakClient],
) -> None:
    """The eleventh update of a user within a minute is refused with the time to wait; other users are not affected."""
    respx.post(f"{URL}/rest/v1/rpc/update_user_streak_atomic").respond(json=[UPDATE])
    client = kind(URL, "sb_secret_x", rate_limit=RateLimit())
    for _ in range(10):
        await done(client.update_user_streak(USER))
    with pytest.raises(RateLimitedError) as caught:
        await done(client.update_user_streak(USER))
    assert 0 < (caught.value.retry_after or 0) <= 60
    await done(client.update_user_streak(OTHER))
    assert respx.calls.call_count == 11
    await shut(client)


@respx.mock
async def test_without_a_guard_nothing_is_refused() -> None:
    """By default a client lets any number of updates through."""
    respx.post(f"{URL}/rest/v1/rpc/update_user_streak_atomic").respond(json=[UPDATE])
    with StreakClient(URL, "sb_secret_x") as client:
        for _ in range(30):
            client.update_user_streak(USER)
    bodies = [json.loads(call.request.content) for call in respx.calls]
    assert len(bodies) == 30


@pytest.mark.parametrize("kind", [AsyncStreakClient, StreakClient])
@respx.mock
async def test_a_store_that_is_down_costs_nobody_the_day(
    kind: type[AsyncStreakClient | StreakClient], caplog: pytest.LogCaptureFixture
) -> None:
    """When the guard's Redis cannot be reached, the update is let through with a warning that shows no password."""
    respx.post(f"{URL}/rest/v1/rpc/update_user_streak_atomic").respond(json=[UPDATE])
    guard = RateLimit(store="redis://:hunter2@127.0.0.1:9/0")
    client = kind(URL, "sb_secret_x", rate_limit=guard)
    with caplog.at_level(logging.WARNING, "streak_client"):
        await done(client.update_user_streak(USER))
    assert "let through" in caplog.text
    assert "hunter2" not in caplog.text + repr(guard)
    await shut(client)


@pytest.mark.parametrize("options", [{"limit": "often"}, {"store": "memcached://x"}, {"store": "nonsense"}])
async def test_impossible_guards_are_refused(options: dict[str, str]) -> None:
    """A limit or a store that cannot work is an error when the client is made."""
    for kind in (AsyncStreakClient, StreakClient):
        with pytest.raises(ConfigurationError):
            kind(URL, "sb_secret_x", rate_limit=RateLimit(**options))
