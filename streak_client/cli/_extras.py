"""Parts that are installed only on request."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from streak_client.cli._common import WRONG_INPUT, CommandError


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Turn a failed import into advice.

    Args:
        name: The extra that brings what is imported inside.

    Yields:
        Nothing.

    Raises:
        CommandError: The extra is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        advice = f'This needs {error.name}: install "supabase-streaks[{name}]".'
        raise CommandError(advice, WRONG_INPUT) from error
