"""What a client counts for Prometheus, where a registry is given; it needs prometheus-client only then."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Protocol
from weakref import WeakKeyDictionary

from streak_client._cache import CacheInfo
from streak_client.errors import ConfigurationError, StreakError

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric

# Seconds: from a repeat in the same building to a call that needed all its retries.
BUCKETS = (0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

_NOTHING = nullcontext()


class Source(Protocol):
    """What is asked for its state whenever Prometheus asks."""

    def cache_info(self) -> CacheInfo:
        """Count hits and misses."""

    def outbox_depth(self) -> int:
        """Count what waits in the outbox."""


class Metrics:
    """Counts nothing: what a client uses that has no registry."""

    def update(self) -> AbstractContextManager[None]:
        """Measure an update from call to answer; errors are measured, too.

        Returns:
            A context manager.
        """
        return _NOTHING

    def errors(self) -> AbstractContextManager[None]:
        """Count the error that comes out, once, however many of these it passes.

        Returns:
            A context manager.
        """
        return _NOTHING

    def error(self, error: StreakError) -> None:
        """Count an error.

        Args:
            error: What a caller is told.
        """

    def retry(self) -> None:
        """Count an attempt after the first."""

    def add(self, source: Source) -> None:
        """Begin to ask a client.

        Args:
            source: The client.
        """

    def discard(self, source: Source) -> None:
        """Ask a client no more; what it has counted stays.

        Args:
            source: The client.
        """


class PrometheusMetrics(Metrics):
    """Counts for a registry; all clients with that registry share one.

    Args:
        registry: Where the metrics are registered.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        from prometheus_client import Counter, Histogram  # noqa: PLC0415 - an extra

        self._update = Histogram(
            "streak_client_update_seconds", "Updates from call to answer.", buckets=BUCKETS, registry=registry
        )
        self._retries = Counter("streak_client_retries", "Attempts after the first.", registry=registry)
        self._errors = Counter(
            "streak_client_errors", "Errors that callers were told, by code.", ["code"], registry=registry
        )
        self._sources: list[Source] = []
        self._hits = self._misses = self._store_failures = 0
        self._lock = threading.Lock()
        registry.register(_Collector(self._collect))

    @contextmanager
    def update(self) -> Iterator[None]:
        """Measure an update from call to answer; errors are measured, too.

        Yields:
            Nothing.
        """
        began = time.perf_counter()
        try:
            yield
        finally:
            self._update.observe(time.perf_counter() - began)

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Count the error that comes out, once, however many of these it passes.

        Yields:
            Nothing.
        """
        try:
            yield
        except StreakError as error:
            self.error(error)
            raise

    def error(self, error: StreakError) -> None:
        """Count an error.

        Args:
            error: What a caller is told.
        """
        if not error.__dict__.get("_counted"):
            error.__dict__["_counted"] = True
            self._errors.labels(error.code.value).inc()

    def retry(self) -> None:
        """Count an attempt after the first."""
        self._retries.inc()

    def add(self, source: Source) -> None:
        """Begin to ask a client.

        Args:
            source: The client.
        """
        with self._lock:
            self._sources.append(source)

    def discard(self, source: Source) -> None:
        """Ask a client no more; what it has counted stays.

        Args:
            source: The client.
        """
        with self._lock:
            if any(each is source for each in self._sources):
                self._sources = [each for each in self._sources if each is not source]
                info = source.cache_info()
                self._hits += info.hits
                self._misses += info.misses
                self._store_failures += info.failures

    def _collect(self) -> Iterable[Metric]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily  # noqa: PLC0415 - an extra

        with self._lock:
            infos = [source.cache_info() for source in self._sources]
            hits = self._hits + sum(info.hits for info in infos)
            misses = self._misses + sum(info.misses for info in infos)
            failures = self._store_failures + sum(info.failures for info in infos)
            depth = sum(map(_depth_of, self._sources))
        rate = hits / (hits + misses) if hits + misses else 0.0
        return [
            CounterMetricFamily("streak_client_cache_hits", "Reads answered from the cache.", hits),
            CounterMetricFamily("streak_client_cache_misses", "Reads that had to ask.", misses),
            CounterMetricFamily(
                "streak_client_cache_store_failures", "Times the shared cache could not be used.", failures
            ),
            GaugeMetricFamily("streak_client_cache_hit_ratio", "Hits among all reads, 0 to 1.", rate),
            GaugeMetricFamily("streak_client_outbox_depth", "Activities that wait in the outbox.", depth),
        ]


def _depth_of(source: Source) -> float:
    try:
        return source.outbox_depth()
    except StreakError:
        return math.nan  # the rest must be shown, above all when something is down


class _Collector:
    def __init__(self, collect: Callable[[], Iterable[Metric]]) -> None:
        self._collect = collect

    def describe(self) -> Iterable[Metric]:
        """Name nothing beforehand: registering must not ask clients."""
        return []

    def collect(self) -> Iterable[Metric]:
        """Ask all clients."""
        return self._collect()


_by_registry: WeakKeyDictionary[CollectorRegistry, PrometheusMetrics] = WeakKeyDictionary()
_making = threading.Lock()


def metrics_for(registry: CollectorRegistry | None) -> Metrics:
    """Find what a client counts with.

    Args:
        registry: Where the metrics are to be found; None counts nothing.

    Returns:
        The registry's metrics, made if it had none.

    Raises:
        ConfigurationError: prometheus-client is not installed.
    """
    if registry is None:
        return Metrics()
    with _making:
        try:
            if registry not in _by_registry:
                _by_registry[registry] = PrometheusMetrics(registry)
        except ModuleNotFoundError as error:
            raise ConfigurationError('Metrics need prometheus-client: install "supabase-streaks[metrics]".') from error
        return _by_registry[registry]
