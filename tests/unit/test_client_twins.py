"""The two clients are one: what the sync client says is what the async client says, without `await`."""

import inspect
import re
from types import ModuleType

import pytest

from streak_client import (
    AsyncStreakClient,
    StreakClient,
    _async_drainer,
    _async_driver,
    _async_lookups,
    _async_shared_reads,
    _drainer,
    _driver,
    _lookups,
    _shared_reads,
    async_client,
    client,
)
from streak_client._async_guard import AsyncGuard
from streak_client._guard import Guard
from streak_client.replicas import AsyncReplicaReader, ReplicaReader

_TO_SYNC = (
    (r"\basync ", ""),
    (r"\bawait ", ""),
    (
        r"\bAsync(StreakClient|Iterator|Driver|Gatherer|(?:Shared)?Reads|Guard|Drainer|Worker|Lookups|ReplicaReader|SingleSender)",
        r"\1",
    ),
    (r"__a(enter|exit)__", r"__\1__"),
    (r"\baclose\b", "close"),
    (r"\b(open|_http\.open)_async\b", r"\1_sync"),
    (r"\basync_retrying\b", "retrying"),
    (r"\basyncio\.sleep\b", "time.sleep"),
    (r"\bAsyncOutbox\(outbox\)", "outbox"),  # it is the outbox in threads
    (r"\bAwaitable\[(\w+)\]", r"\1"),
    (r"\bCoroutine\[Any, Any, UserStreak\]", "UserStreak"),
    (r"for coroutines", "for threads"),
    (r"from coroutines", "from ordinary code"),
    (r"tasks of one event loop", "threads"),
    (r"  # noqa: \w+ - .*", ""),
    (r"\s+", ""),  # lines are broken elsewhere
    (r",\)", ")"),
)


def _as_sync(twin: ModuleType | type) -> str:
    source = inspect.getsource(twin)
    if inspect.ismodule(twin):
        source = source[source.index("\nclass ") :]  # imports are sorted by names that differ
    for pattern, replacement in _TO_SYNC:
        source = re.sub(pattern, replacement, source)
    return source


TWINS = [
    (async_client, client),
    (_async_drainer, _drainer),
    (_async_driver, _driver),
    (_async_lookups, _lookups),
    (_async_shared_reads, _shared_reads),
    (AsyncGuard, Guard),
    (AsyncReplicaReader, ReplicaReader),
]


@pytest.mark.parametrize(("asynchronous", "synchronous"), TWINS)
def test_the_sync_client_is_the_async_one_without_await(
    asynchronous: ModuleType | type, synchronous: ModuleType | type
) -> None:
    """The two clients and their parts differ in async, await and a few names: no second policy can creep in."""
    assert _as_sync(asynchronous) == _as_sync(synchronous)


def test_both_clients_have_the_same_methods_and_docstrings() -> None:
    """Every public method exists in both clients with the same parameters and the same docstring."""
    names = {"close" if name == "aclose" else name for name in dir(AsyncStreakClient) if not name.startswith("_")}
    assert names == {name for name in dir(StreakClient) if not name.startswith("_")}
    for name in names - {"close"}:
        twins = getattr(AsyncStreakClient, name), getattr(StreakClient, name)
        assert len({str(inspect.signature(twin).parameters) for twin in twins}) == 1, name
        assert len({inspect.getdoc(twin) for twin in twins}) == 1, name
