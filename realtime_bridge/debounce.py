"""Debouncing, pure: which key may be sent when. The clock is an argument (monotonic seconds)."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Generic, TypeVar

Key = TypeVar("Key")


@dataclass(slots=True)
class _Window:
    opened_at: float
    changed_at: float
    first_seq: int


class Debouncer(Generic[Key]):
    """Trailing edge after a time of quiet, and never later than a limit.

    Args:
        debounce: Seconds of quiet before a key is due; 0 makes every change due at once.
        max_wait: Seconds after the first change of a window at which the key is due in any case.
    """

    __slots__ = ("_windows", "debounce", "max_wait")

    def __init__(self, debounce: float, max_wait: float) -> None:
        self.debounce = debounce
        self.max_wait = max(debounce, max_wait)
        # Windows stay in the order in which they opened, so that the first holds the lowest seq.
        self._windows: OrderedDict[Key, _Window] = OrderedDict()

    def offer(self, key: Key, seq: int, now: float) -> float | None:
        """Note a change.

        Args:
            key: What changed.
            seq: The change's number; grows with every call.
            now: Monotonic seconds.

        Returns:
            When to ask `ripe` about the key, if this change opened a window; None if one was open already.
        """
        window = self._windows.get(key)
        if window is not None:
            window.changed_at = now
            return None
        self._windows[key] = _Window(now, now, seq)
        return self._due(self._windows[key])

    def ripe(self, key: Key, now: float) -> float | None:
        """Close a key's window if it is due.

        Args:
            key: The key.
            now: Monotonic seconds.

        Returns:
            None if the window was closed or none is open (ask `__contains__` first); else when to ask again.
        """
        window = self._windows.get(key)
        if window is None:
            return None
        due = self._due(window)
        if due > now:
            return due
        del self._windows[key]
        return None

    def cancel(self, key: Key) -> bool:
        """Forget a key's window; returns whether one was open."""
        return self._windows.pop(key, None) is not None

    def low_water(self) -> int | None:
        """The lowest seq that is still held back, or None."""
        return next(iter(self._windows.values())).first_seq if self._windows else None

    def __contains__(self, key: Key) -> bool:
        return key in self._windows

    def __len__(self) -> int:
        return len(self._windows)

    def _due(self, window: _Window) -> float:
        return min(window.changed_at + self.debounce, window.opened_at + self.max_wait)
