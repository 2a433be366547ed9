"""OpenTelemetry spans where its API is installed, and nothing elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import ModuleType
from typing import TYPE_CHECKING

from streak_client._steps import Request, Rpc
from streak_client.errors import StreakError

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

_NOTHING = nullcontext()


def find_opentelemetry() -> ModuleType | None:
    """Find OpenTelemetry's API.

    Returns:
        Its module `trace`; None where it is not installed.
    """
    try:
        from opentelemetry import trace  # noqa: PLC0415 - may be missing
    except ModuleNotFoundError:
        return None
    return trace


_trace = find_opentelemetry()


def span(name: str) -> AbstractContextManager[None]:
    """Trace what happens inside, if the program has set an SDK up.

    It carries the code of an error, and neither ids nor keys.

    Args:
        name: What happens.

    Returns:
        A context manager.
    """
    if _trace is None or isinstance(provider := _trace.get_tracer_provider(), _trace.ProxyTracerProvider):
        return _NOTHING  # spans that go nowhere cost a tenth of an update's time
    return _span(provider.get_tracer("streak_client"), name)


@contextmanager
def _span(tracer: Tracer, name: str) -> Iterator[None]:
    # The exception's text may hold what a user sent.
    with tracer.start_as_current_span(name, record_exception=False, set_status_on_exception=False) as current:
        try:
            yield
        except StreakError as error:
            current.set_attribute("error.type", error.code.value)
            raise


def name_of(request: Request) -> str:
    """Name a request for its span.

    Args:
        request: The request.

    Returns:
        The function or the table.
    """
    return f"rpc {request.function}" if isinstance(request, Rpc) else f"select {request.table}"
