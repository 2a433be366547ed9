"""One timer for each connection: its silence, and the end of its token."""

import asyncio
import time
from collections.abc import Callable
from typing import Self

_LONGEST_LOOK = 60.0


class Alarm:
    """Wakes a connection that was silent for long, or whose token has expired.

    The timer goes off however much is written meanwhile: a time-out around every wait would leave thousands of
    cancelled timers a second behind.

    Args:
        pause: Seconds of silence; None: it does not matter.
        expires_at: When the token ends, in epoch seconds; None: never.
        wake: Called when there is something to see to.

    Attributes:
        silent: Nothing was written for so long.
    """

    __slots__ = ("_clock", "_expires_at", "_pause", "_timer", "_wake", "_wrote_at", "silent")

    def __init__(self, pause: float | None, expires_at: float | None, wake: Callable[[], None]) -> None:
        self._pause = pause
        self._expires_at = expires_at
        self._wake = wake
        self._clock = asyncio.get_running_loop().time
        self._wrote_at = self._clock()
        self._timer: asyncio.TimerHandle | None = None
        self.silent = False

    @property
    def expired(self) -> bool:
        """Whether the token has expired, by the wall clock of this moment."""
        return self._expires_at is not None and self._expires_at <= time.time()

    def wrote(self) -> None:
        """Note that something was written."""
        self._wrote_at = self._clock()
        self.silent = False

    def __enter__(self) -> Self:
        self._set()
        return self

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set(self) -> None:
        waits = [] if self._pause is None else [self._pause if self.silent else self._left(self._pause)]
        if self._expires_at is not None:
            # The wall clock may be set meanwhile: look again before long.
            waits.append(min(self._expires_at - time.time(), _LONGEST_LOOK))
        if waits:
            self._timer = asyncio.get_running_loop().call_later(max(min(waits), 0.001), self._ring)

    def _left(self, pause: float) -> float:
        return self._wrote_at + pause - self._clock()

    def _ring(self) -> None:
        self._timer = None
        self.silent = self.silent or (self._pause is not None and self._left(self._pause) <= 0)
        if self.silent or self.expired:
            self._wake()
        if not self.expired:
            self._set()
