"""Fixtures for all tests: one Supabase for the whole session."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from uuid import UUID

import asyncpg
import pytest

from local_supabase.faults import Faults
from local_supabase.stack import StackInfo
from tests.support.stack import connection, insert_user, outside_stack, running_stack


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the switch for the tests that take minutes."""
    parser.addoption("--long", action="store_true", help="also run the tests that take minutes")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the long tests unless asked for them."""
    if config.getoption("--long"):
        return
    long = [item for item in items if item.get_closest_marker("long")]
    config.hook.pytest_deselected(items=long)
    items[:] = [item for item in items if item not in long]


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StackInfo]:
    """A migrated Supabase with fault switches, or the one that SUPABASE_URL and its keys name."""
    outside = outside_stack()
    if outside:
        yield outside
        return
    with running_stack("--faults", folder=tmp_path_factory.mktemp("stack")) as started:
        yield started.info


@pytest.fixture
async def db(stack: StackInfo) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    """A connection to the stack's database as its owner."""
    async with connection(stack) as database:
        yield database


@pytest.fixture
async def new_user(stack: StackInfo) -> AsyncIterator[Callable[[], Awaitable[UUID]]]:
    """A function that makes a user; the users go away with the test, even if the test restarted PostgreSQL."""
    made: list[UUID] = []

    async def make() -> UUID:
        async with connection(stack) as database:
            made.append(await insert_user(database))
        return made[-1]

    yield make
    async with connection(stack) as database:
        await database.execute("delete from auth.users where id = any($1)", made)


@pytest.fixture
async def faults(stack: StackInfo) -> AsyncIterator[Faults]:
    """The fault switches; those of REST and the lasting ones of Realtime end with the test."""
    if not stack.faults_socket:
        pytest.skip("needs the local stack's fault switches")
    switches = Faults(stack.faults_socket)
    yield switches
    await switches.restore()
