"""The sync driver: makes the requests of flows and waits between attempts, and decides nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

from streak_client import _http, _inputs
from streak_client._base import check_timeout, closed_error, narrow
from streak_client._calls import Pages
from streak_client._metrics import Metrics
from streak_client._retry import retrying
from streak_client._steps import Flow, Request, Rpc, Step
from streak_client._tracing import name_of, span
from streak_client._translate import translate
from streak_client.errors import StreakError
from streak_client.settings import Settings

T = TypeVar("T")


class Driver:
    """Runs flows over one HTTP client.

    Args:
        settings: Where the service is, and the key.
        max_retries: How many attempts may follow the first.
        timeout: Seconds without progress after which an attempt is given up.
        metrics: Counts retries and errors.
    """

    def __init__(self, settings: Settings, max_retries: int, timeout: float, metrics: Metrics) -> None:
        self._metrics = metrics
        self._max_retries = _inputs.whole_number(max_retries, "max_retries", 0)
        self._http, self._supabase = _http.open_sync(settings, check_timeout(timeout))
        self._postgrest = self._supabase.postgrest

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def pages(self, pages: Pages[T]) -> Iterator[T]:
        """Read page after page, each when its turn comes.

        Args:
            pages: Which page comes after which.

        Yields:
            The entries of all pages.

        Raises:
            StreakError: A page could not be read.
        """
        flow: Flow[list[T]] | None = pages.first
        while flow is not None:
            page = self.run(flow)
            for entry in page:  # noqa: UP028 - reads like its async twin
                yield entry
            flow = pages.following(page)

    def run(self, flow: Flow[T]) -> T:
        """Take an operation's steps until it has its result.

        Args:
            flow: The operation.

        Returns:
            The operation's result.

        Raises:
            StreakError: The operation failed.
        """
        with self._metrics.errors():
            try:
                step = next(flow)
                while True:
                    try:
                        result = self._take(step)
                    except StreakError as error:
                        step = flow.throw(error)
                    else:
                        step = flow.send(result)
            except StopIteration as stop:
                value: T = stop.value
                return value

    def _take(self, step: Step[T]) -> T:
        try:
            return step.read(self._execute(step.request()))
        except StreakError as error:
            failures = [error]
        # Nearly no attempt fails, so tenacity, which takes a tenth of a call's time, gets to know only those that do.
        for attempt in retrying(self._max_retries, self._metrics.retry):
            with attempt:
                if failures:
                    raise failures.pop()
                return step.read(self._execute(step.request()))
        raise AssertionError("tenacity re-raises the last error")

    def _execute(self, request: Request) -> object:
        if self._http.is_closed:
            raise closed_error()
        with span(name_of(request)), _http.exchange() as exchange:
            try:
                answer = self._build(request).execute()
            except Exception as error:
                raise translate(error, exchange) from error
        return answer.data

    def _build(self, request: Request) -> Any:
        if isinstance(request, Rpc):
            builder = self._postgrest.rpc(request.function, dict(request.params))
            builder.request.params = _http.NO_PARAMS
            return builder
        return narrow(self._postgrest.from_(request.table).select("*"), request)
