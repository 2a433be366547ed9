"""OpenTelemetry spans where its API is installed, and nothing elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from streak_client._steps import Request, Rpc
from streak_client.errors import StreakError

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer


def find_tracer() -> Tracer | None:
    """Find where spans go.

    Returns:
        OpenTelemetry's tracer, which does nothing until the program sets an SDK up; None without its API.
    """
    try:
        from opentelemetry import trace  # noqa: PLC0415 - may be missing
    except ModuleNotFoundError:
        return None
    return trace.get_tracer("streak_client")


_tracer = find_tracer()


@contextmanager
def span(name: str) -> Iterator[None]:
    """Trace what happens inside.

    It carries the code of an error, and neither ids nor keys.

    Args:
        name: What happens.

    Yields:
        Nothing.
    """
    if _tracer is None:
        yield
        return
    # The exception's text may hold what a user sent.
    with _tracer.start_as_current_span(name, record_exception=False, set_status_on_exception=False) as current:
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
