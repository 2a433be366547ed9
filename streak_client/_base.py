"""What both clients share besides the flows: settings, clock, representation, and the way a select is built."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypedDict, TypeVar
from uuid import UUID

from postgrest.base_request_builder import BaseSelectRequestBuilder

from streak_client import _inputs
from streak_client._cache import CacheInfo, Caching
from streak_client._gate import Gathering
from streak_client._guard import RateLimit
from streak_client._metrics import Metrics
from streak_client._outbox import Outbox
from streak_client._steps import Select
from streak_client.errors import ConfigurationError, InvalidInputError, StreakError
from streak_client.models import ActivityOutcome
from streak_client.settings import Settings

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

DEFAULT_MAX_RETRIES = 3
DEFAULT_TIMEOUT = 10.0
DEFAULT_GATHERING = Gathering()
DEFAULT_CACHING = Caching()

Clock = Callable[[], datetime]
SelectBuilder = TypeVar("SelectBuilder", bound=BaseSelectRequestBuilder[Any])


def utc_now() -> datetime:
    """Read the clock.

    Returns:
        The present instant.
    """
    return datetime.now(UTC)


def narrow(builder: SelectBuilder, select: Select) -> SelectBuilder:
    """Add conditions, order and limit to a select of postgrest, sync or async.

    Args:
        builder: A select without conditions.
        select: What is wanted.

    Returns:
        The same builder, for chaining.
    """
    for column, operator, value in select.filters:
        builder = builder.filter(column, operator, value)
    return builder.order(select.order_by, desc=select.descending).limit(select.limit)


class ClientOptions(TypedDict, total=False):
    """The keywords of both clients."""

    max_retries: int
    timeout: float
    gathering: Gathering | None
    caching: Caching | None
    rate_limit: RateLimit | None
    outbox: str | Path | None
    registry: CollectorRegistry | None
    clock: Clock


class CachedReads(Protocol):
    """What both caches of streaks offer."""

    def info(self) -> CacheInfo:
        """Count hits, misses and size."""


class ClientBase:
    """The part of a client that does no I/O.

    Args:
        settings: Where the service is, and the key.
        clock: Tells the present instant.
        metrics: Counts for Prometheus.
    """

    def __init__(self, settings: Settings, clock: Clock, metrics: Metrics) -> None:
        self._settings = settings
        self._clock = clock
        self._metrics = metrics
        self._outbox: Outbox | None = None
        self._reads: CachedReads | None = None

    def cache_info(self) -> CacheInfo:
        """Count what the cache of streaks did.

        Returns:
            Hits, misses, size and failures; zeros without a cache.
        """
        return CacheInfo(0, 0, 0) if self._reads is None else self._reads.info()

    def outbox_depth(self) -> int:
        """Count what waits in the outbox.

        Returns:
            The number of activities; 0 without an outbox.

        Raises:
            StreakError: The outbox itself cannot be reached.
        """
        return 0 if self._outbox is None else self._outbox.depth()

    def _note_errors(self, outcomes: Iterable[ActivityOutcome]) -> None:
        for outcome in outcomes:
            if outcome.error is not None:
                self._metrics.error(outcome.error)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._settings.url!r})"

    def __reduce__(self) -> str | tuple[Any, ...]:
        raise TypeError(f"{type(self).__name__} holds connections and a key, and cannot be pickled")


def valid_ids(user_ids: Iterable[UUID | str]) -> Iterator[UUID]:
    """Leave out what is no user id: it was refused, or will be.

    Args:
        user_ids: Ids as they were given.

    Yields:
        The users.
    """
    for user_id in user_ids:
        with suppress(InvalidInputError):
            yield _inputs.user_id(user_id)


def closed_error() -> StreakError:
    """Say that a client was used after it had been closed.

    Returns:
        The error to raise.
    """
    return ConfigurationError("This client has been closed; make a new one.")


def check_timeout(seconds: object) -> float:
    """Check a time-out.

    Args:
        seconds: A positive number.

    Returns:
        The number.

    Raises:
        ConfigurationError: It is anything else.
    """
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds < float("inf"):
        raise ConfigurationError("timeout must be a positive number of seconds")
    return float(seconds)
