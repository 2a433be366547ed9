"""When a failed attempt is made again, and how long to wait: one policy for the sync and the async client."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable

from tenacity import AsyncRetrying, RetryCallState, Retrying, retry_if_exception, stop_after_attempt

from streak_client.errors import ErrorCode, StreakError

logger = logging.getLogger("streak_client")

FIRST_DELAY = 0.05
LONGEST_DELAY = 5.0
JITTER = 0.25

_TRANSIENT = {ErrorCode.CONCURRENT_MODIFICATION, ErrorCode.TIMEOUT, ErrorCode.CONNECTION_FAILED}


def is_transient(error: object) -> bool:
    """Tell whether to try again at once: after conflicts, time-outs, connection errors and 5xx only.

    Args:
        error: What the attempt raised, or an element's outcome.

    Returns:
        True if another attempt is worth while within milliseconds. A rate limit, for one, is retryable, but later.
    """
    if not isinstance(error, StreakError):
        return False
    return error.code in _TRANSIENT or (error.code is ErrorCode.DATABASE_ERROR and error.retryable)


def delay_after(attempt: int) -> float:
    """Say how long to wait after a failed attempt.

    Args:
        attempt: Which attempt failed, counted from 1.

    Returns:
        Seconds: 0.05 after the first, doubled after each further one, all give or take a quarter, so that clients
        which failed together do not come back together.
    """
    delay: float = min(FIRST_DELAY * 2 ** (attempt - 1), LONGEST_DELAY)
    return delay * random.uniform(1 - JITTER, 1 + JITTER)  # noqa: S311 - spreads load, guards nothing


def _wait(state: RetryCallState) -> float:
    return delay_after(state.attempt_number)


def _note(count: Callable[[], None]) -> Callable[[RetryCallState], None]:
    def note(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        code = error.code.value if isinstance(error, StreakError) else "?"
        logger.info("attempt %d failed with %s, trying again", state.attempt_number, code)
        count()

    return note


def retrying(max_retries: int, count: Callable[[], None]) -> Retrying:
    """Make the policy for one call of the sync client.

    Args:
        max_retries: How many attempts may follow the first.
        count: Told of each attempt after the first.

    Returns:
        An iterable of attempts; it keeps state, so each call needs its own.
    """
    return Retrying(
        stop=stop_after_attempt(max_retries + 1),
        wait=_wait,
        retry=retry_if_exception(is_transient),
        before_sleep=_note(count),
        reraise=True,
    )


def async_retrying(max_retries: int, count: Callable[[], None]) -> AsyncRetrying:
    """Make the policy for one call of the async client.

    Args:
        max_retries: How many attempts may follow the first.
        count: Told of each attempt after the first.

    Returns:
        An async iterable of attempts; it keeps state, so each call needs its own.
    """
    return AsyncRetrying(
        stop=stop_after_attempt(max_retries + 1),
        wait=_wait,
        retry=retry_if_exception(is_transient),
        before_sleep=_note(count),
        reraise=True,
    )
