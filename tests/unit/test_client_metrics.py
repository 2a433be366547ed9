"""What a client tells of itself: metrics, spans and logs, none of which names a person or a key."""

import inspect
import logging
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
import respx
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry, generate_latest

from streak_client import (
    AsyncStreakClient,
    DatabaseError,
    InvalidInputError,
    Outbox,
    StreakClient,
    _drain,
    _retry,
    _tracing,
)

URL, KEY = "http://streaks.test", "sb_secret_never_told"
USER = UUID("f8e1edd8-731e-52c8-92cb-a3f4b05e31a7")
STREAK = {
    "current_streak": 3,
    "longest_streak": 5,
    "last_active_date": "2026-11-21",
    "timezone": "Europe/Paris",
    "is_active_today": False,
    "days_since_activity": 1,
    "expires_at": "2099-11-22T23:00:00+00:00",
    "version": 7,
}
UPDATE = {**STREAK, "success": True, "change_type": "STREAK_MAINTAINED", "message": "", "replayed": False}
DOWN = httpx.Response(503, json={"message": "down"})


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries need not wait, and the drainer stays out of the way."""
    monkeypatch.setattr(_retry, "FIRST_DELAY", 0.0)
    for attribute in ("FIRST_PAUSE", "LONGEST_PAUSE"):
        monkeypatch.setattr(_drain, attribute, 3600.0)


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Path]:
    """An outbox that somebody else drains: what is put there stays."""
    path = tmp_path / "outbox.db"
    with Outbox(path).draining() as mine:
        assert mine
        yield path


def play(function: str, *answers: httpx.Response) -> None:
    """Answer a function's calls one after another."""
    respx.post(f"{URL}/rest/v1/rpc/{function}").mock(side_effect=answers)


async def work(client: AsyncStreakClient | StreakClient) -> None:
    """Update with one retry, update in vain, queue, read twice, and ask something wrong."""

    async def done(answer: Any) -> Any:
        return await answer if inspect.isawaitable(answer) else answer

    fine = httpx.Response(200, json=[UPDATE])
    play("update_user_streak_atomic", DOWN, fine, *[DOWN] * 8)
    play("get_user_streak", httpx.Response(200, json=[STREAK]))
    await done(client.update_user_streak(USER, "UTC"))
    with pytest.raises(DatabaseError):
        await done(client.update_user_streak(USER, "UTC"))
    assert (await done(client.handle_problem_solved(USER, "UTC"))).queued
    for _ in range(2):
        await done(client.get_user_streak(USER))
    with pytest.raises(InvalidInputError):
        await done(client.get_calendar("nobody", date(2026, 1, 1), date(2026, 1, 2)))


def samples(registry: CollectorRegistry) -> dict[str, float | None]:
    """Read what the tests look at."""
    prefix = "streak_client_"
    names = ("update_seconds_count", "retries_total", "cache_hits_total", "cache_misses_total", "outbox_depth")
    found = {name: registry.get_sample_value(prefix + name) for name in (*names, "cache_hit_ratio")}
    for code in ("DATABASE_ERROR", "INVALID_INPUT"):
        found[code] = registry.get_sample_value(f"{prefix}errors_total", {"code": code})
    return found


COUNTED = {
    "update_seconds_count": 3,
    "retries_total": 7,
    "cache_hits_total": 1,
    "cache_misses_total": 1,
    "cache_hit_ratio": 0.5,
    "outbox_depth": 1,
    "DATABASE_ERROR": 2,
    "INVALID_INPUT": 1,
}


@respx.mock
@pytest.mark.parametrize("gathered", [True, False])
@pytest.mark.parametrize("kind", [AsyncStreakClient, StreakClient])
async def test_everything_is_counted_once(
    box: Path, kind: type[AsyncStreakClient | StreakClient], *, gathered: bool
) -> None:
    """Latency, retries, errors by code, cache and outbox are counted alike by both clients, and outlive a client."""
    registry = CollectorRegistry()
    options: dict[str, Any] = {} if gathered else {"gathering": None}
    client = kind(URL, KEY, outbox=box, registry=registry, **options)
    await work(client)
    assert samples(registry) == COUNTED
    if isinstance(client, AsyncStreakClient):
        await client.aclose()
    else:
        client.close()
    assert samples(registry) == {**COUNTED, "outbox_depth": 0}
    text = generate_latest(registry).decode()
    assert str(USER) not in text
    assert KEY not in text


@respx.mock
def test_clients_share_a_registry() -> None:
    """Any number of clients can have one registry, whose figures are their sums."""
    registry = CollectorRegistry()
    play("get_user_streak", *[httpx.Response(200, json=[STREAK])] * 2)
    with StreakClient(URL, KEY, registry=registry) as first, StreakClient(URL, KEY, registry=registry) as second:
        first.get_user_streak(USER)
        second.get_user_streak(USER)
        assert samples(registry)["cache_misses_total"] == 2


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """What OpenTelemetry's own SDK exports, as a program sets it up."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    # The program's provider can be set once in a process; the tests after this one have none.
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    return exporter


@respx.mock
@pytest.mark.parametrize("kind", [AsyncStreakClient, StreakClient])
async def test_updates_and_requests_are_spans(
    spans: InMemorySpanExporter, kind: type[AsyncStreakClient | StreakClient]
) -> None:
    """An update is a span whose children are its requests, each with its name and the code of its error alone."""
    play("update_user_streak_atomic", DOWN, httpx.Response(200, json=[UPDATE]), *[DOWN] * 4)
    client = kind(URL, KEY, gathering=None)
    await done(client.update_user_streak, USER)
    with pytest.raises(DatabaseError):
        await done(client.update_user_streak, USER)
    await done(client.aclose if isinstance(client, AsyncStreakClient) else client.close)
    finished = spans.get_finished_spans()
    updates = [each for each in finished if each.name == "update_user_streak"]
    requests = [each for each in finished if each.name == "rpc update_user_streak_atomic"]
    assert (len(updates), len(requests), len(finished)) == (2, 6, 8)
    parents = [next(n for n, update in enumerate(updates) if is_child(each, update)) for each in requests]
    assert parents == [0, 0, 1, 1, 1, 1]
    codes = [dict(each.attributes or {}) for each in (*requests, *updates)]
    failed = {"error.type": "DATABASE_ERROR"}
    assert codes == [failed, {}, failed, failed, failed, failed, {}, failed]
    text = "".join(each.to_json() for each in finished)
    assert str(USER) not in text
    assert KEY not in text


def is_child(each: ReadableSpan, other: ReadableSpan) -> bool:
    """Tell whether a span was opened directly within another."""
    return each.parent is not None and other.context is not None and each.parent.span_id == other.context.span_id


async def done(call: Any, *args: Any) -> Any:
    """Call a method of either client."""
    answer = call(*args)
    return await answer if inspect.isawaitable(answer) else answer


@respx.mock
def test_without_opentelemetry_nothing_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program without the tracing extra works as ever."""
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    assert _tracing.find_opentelemetry() is None
    monkeypatch.setattr(_tracing, "_trace", None)
    play("update_user_streak_atomic", httpx.Response(200, json=[UPDATE]))
    with StreakClient(URL, KEY) as client:
        assert client.update_user_streak(USER).version == 7


@respx.mock
async def test_the_log_names_nobody(box: Path, caplog: pytest.LogCaptureFixture) -> None:
    """At INFO and above the log holds neither a user's id nor the key, whatever goes wrong."""
    with caplog.at_level(logging.INFO, "streak_client"):
        async with AsyncStreakClient(URL, KEY, outbox=box) as client:
            await work(client)
    ours = [record.getMessage() for record in caplog.records if record.name == "streak_client"]
    assert any("trying again" in line for line in ours)
    assert not any(str(USER) in line or KEY in line for line in ours)
