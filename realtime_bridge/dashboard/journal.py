"""The last hour of the change log: what happened, to whom, and how often."""

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

HOUR = 3600
MINUTE = 60
_KINDS = {
    "FIRST_ACTIVITY": "started",
    "STREAK_INCREMENT": "incremented",
    "STREAK_RESET": "reset",
    "STREAK_RECOVERED": "recovered",
    "STREAK_LAPSED": "lapsed",
    "STREAK_IMPORTED": "imported",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the change log.

    Attributes:
        number: Its place in the order in which this bridge found it.
        id: Its id in the database.
        user_id: Whose streak changed.
        kind: What happened; ``updated`` for what changed no streak.
        old: The streak before.
        new: The streak after.
        version: The row's version after.
        at: When it was written, in epoch seconds.
    """

    number: int
    id: int
    user_id: str
    kind: str
    old: int
    new: int
    version: int
    at: float

    def as_dict(self) -> dict[str, Any]:
        """The entry with JSON values."""
        return {
            "user_id": self.user_id,
            "kind": self.kind,
            "old": self.old,
            "new": self.new,
            "version": self.version,
            "at": datetime.fromtimestamp(self.at, UTC).isoformat(),
        }


class Tally:
    """Counts kinds of changes by the second, for an hour. Pure."""

    def __init__(self) -> None:
        self._seconds: dict[int, Counter[str]] = {}

    def add(self, kind: str, at: float) -> None:
        """Count one change at an instant (epoch seconds)."""
        self._seconds.setdefault(int(at), Counter())[kind] += 1

    def totals(self, now: float, window: int) -> dict[str, int]:
        """How many of each kind there were in the last `window` seconds."""
        oldest = int(now) - window
        found: Counter[str] = Counter()
        for second, kinds in self._seconds.items():
            if second > oldest:
                found.update(kinds)
        return dict(found)

    def per_second(self, now: float, seconds: int) -> list[int]:
        """How many changes each of the last seconds had, oldest first, without the present one."""
        end = int(now)
        return [sum(self._seconds.get(second, {}).values()) for second in range(end - seconds, end)]

    def forget(self, now: float) -> None:
        """Drop what is older than an hour."""
        oldest = int(now) - HOUR
        for second in [second for second in self._seconds if second <= oldest]:
            del self._seconds[second]


class Journal:
    """The last hour, as far as it was read. Pure.

    Args:
        keep: How many entries are kept for listeners that ask what is new.
        overlap: Ids are given before commit: entries may appear this many seconds later than higher ids.
    """

    def __init__(self, keep: int = 2000, overlap: float = 10.0) -> None:
        self._tally = Tally()
        self._entries: deque[Entry] = deque(maxlen=keep)
        self._seen: dict[int, float] = {}
        self._overlap = overlap
        self._number = 0
        self._floor = 0
        #: From when on it is complete, in epoch seconds; None: nothing was read yet.
        self.since: float | None = None

    @property
    def number(self) -> int:
        """The number of the newest entry."""
        return self._number

    def anew(self) -> "Journal":
        """An empty journal whose numbers go on where these end."""
        other = Journal(self._entries.maxlen or 0, self._overlap)
        other._number = self._number
        return other

    def start(self) -> int:
        """The id after which the next read must begin."""
        return self._floor

    def begin(self, rows: Iterable[dict[str, Any]], now: float, *, complete: bool) -> None:
        """Take in the end of the log.

        Args:
            rows: Rows of ``streak_history``, oldest first.
            now: Epoch seconds.
            complete: Whether they reach back an hour, or to the beginning.
        """
        rows = list(rows)
        self.since = now - HOUR if complete or not rows else _instant(rows[0]["created_at"])
        self._floor = int(rows[0]["id"]) - 1 if rows else 0
        self.add(rows, now)
        # What is older than the overlap cannot be overtaken any more.
        settled = [int(row["id"]) for row in rows if _instant(row["created_at"]) < now - self._overlap]
        self._settle(settled)

    def add(self, rows: Iterable[dict[str, Any]], now: float) -> None:
        """Take in rows that `start` asked for, in order of id; those known already are left out."""
        for row in rows:
            number = int(row["id"])
            if number in self._seen or number <= self._floor:
                continue
            self._seen[number] = now
            at = _instant(row["created_at"])
            if at > now - HOUR:
                self._note(row, at)
        self._tally.forget(now)
        self._settle([number for number, seen in self._seen.items() if seen < now - self._overlap])

    def entries(self, after: int, most: int) -> list[Entry]:
        """What came after a number, oldest first; at most the last `most`."""
        return [entry for entry in self._entries if entry.number > after][-most:]

    def totals(self, now: float, window: int) -> dict[str, int]:
        """See `Tally.totals`."""
        return self._tally.totals(now, window)

    def per_second(self, now: float, seconds: int) -> list[int]:
        """See `Tally.per_second`."""
        return self._tally.per_second(now, seconds)

    def _settle(self, ids: Iterable[int]) -> None:
        for number in ids:
            self._floor = max(self._floor, number)
            self._seen.pop(number, None)

    def _note(self, row: dict[str, Any], at: float) -> None:
        self._number += 1
        kind = _KINDS.get(row["change_type"], "updated")
        self._tally.add(kind, at)
        streaks = int(row["old_current_streak"]), int(row["new_current_streak"])
        entry = Entry(
            self._number, int(row["id"]), row["user_id"].lower(), kind, *streaks, int(row["version_after"]), at
        )
        self._entries.append(entry)


def _instant(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
