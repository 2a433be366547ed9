"""Outboxes in a file and in a real Redis, and what tests do with them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest
import pytest_asyncio
from redis import Redis

from streak_client import ConnectionFailedError, DatabaseError, Outbox, StreakError, StreakUpdate, UserNotFoundError
from streak_client._batch import Prepared
from streak_client._blame import Answer
from tests.support.redis_server import RedisServer, redis_server

NOW = datetime(2026, 11, 22, 12, 0, 0, 123456, tzinfo=UTC)
DOWN = ConnectionFailedError("gone")
REFUSED = UserNotFoundError("nobody", field="user_id")
ODD = DatabaseError("a constraint")
Boxes = Callable[..., Outbox]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def redis(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RedisServer]:
    """A Redis for the tests of this module."""
    async with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(params=["file", "redis"])
def location(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where the outbox is: an empty place of this test's own."""
    if request.param == "file":
        return str(tmp_path / "outbox.db")
    server: RedisServer = request.getfixturevalue("redis")
    with Redis.from_url(server.url) as client:
        client.flushall()
    return server.url


@pytest.fixture
def boxes(location: str) -> Iterator[Boxes]:
    """Open the outbox any number of times, as several processes do."""
    opened: list[Outbox] = []

    def make(limit: int = 1000) -> Outbox:
        opened.append(Outbox(location, limit))
        return opened[-1]

    yield make
    for box in opened:
        box.close()


@pytest.fixture
def box(boxes: Boxes) -> Outbox:
    """The outbox."""
    return boxes()


def prepared(request_id: str, user: int = 1, at: datetime = NOW, zone: str | None = "Asia/Kathmandu") -> Prepared:
    """Make an activity that passed the checks."""
    return Prepared(UUID(int=user), at, zone, request_id)


def ids(box: Outbox, **which: bool) -> list[str]:
    """List the request ids of what waits."""
    return [entry.request_id for entry in box.entries(**which)]


def settle(box: Outbox, outcome: StreakError | None, *which: str) -> bool:
    """Drain once, with one outcome for some entries."""
    with box.draining() as mine:
        assert mine
        return box.settle({entry.id: answer(outcome) for entry in box.entries() if entry.request_id in which})


def answer(outcome: StreakError | None) -> Answer[StreakUpdate | None]:
    """Say what became of an entry, by its own fault unless the service was down."""
    return Answer(outcome, own=outcome not in (None, DOWN))
