"""What ``streaks watch`` knows: pure, the clock is an argument."""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from streak_client.cli._events import Event

MINUTE = 60
HOUR = 3600
FEED_LINES = 500
MOST_USERS = 20_000
MOVE_SECONDS = 30.0
#: The counters, in the order in which they are shown, and the events that each counts.
COUNTED = {
    "increments": ("started", "incremented", "milestone"),
    "resets": ("reset",),
    "recoveries": ("recovered",),
    "lapses": ("lapsed",),
}


@dataclass(frozen=True, slots=True)
class FeedLine:
    """One change.

    Attributes:
        at: When it was heard of, in epoch seconds.
        user_id: Whose.
        event: What happened.
        old: The streak before, if known.
        new: The streak after.
    """

    at: float
    user_id: str
    event: str
    old: int | None
    new: int


@dataclass(frozen=True, slots=True)
class Place:
    """A place on the leaderboard.

    Attributes:
        rank: From 1.
        user_id: Whose.
        current: Days.
        today: Whether today counts already.
        move: Places gained (negative: lost) within the last half minute; None for who is new.
    """

    rank: int
    user_id: str
    current: int
    today: bool
    move: int | None


@dataclass
class WatchModel:
    """Everything that is shown.

    Attributes:
        started: When watching began, in epoch seconds.
        state: ``connecting``, ``offline`` or the bridge's own.
        reason: Why it is not live.
        since: Since when, in epoch seconds.
        feed: The latest changes, newest first.
        streaks: The last known streak of each user, who changed last at the end.
        board: The leaderboard's message, if there is one.
        counts: ``active`` and ``active_today``, if the bridge tells.
        totals: Events by kind in the last ``minute`` and ``hour``, if the bridge tells.
    """

    started: float
    state: str = "connecting"
    reason: str | None = None
    since: float = 0.0
    feed: deque[FeedLine] = field(default_factory=lambda: deque(maxlen=FEED_LINES))
    streaks: OrderedDict[str, Mapping[str, Any]] = field(default_factory=OrderedDict)
    board: Sequence[Mapping[str, Any]] | None = None
    counts: Mapping[str, int] | None = None
    totals: Mapping[str, Mapping[str, int]] | None = None
    _moves: dict[str, tuple[int | None, float]] = field(default_factory=dict)
    _seconds: dict[int, Counter[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.since = self.since or self.started

    def connected(self, at: float) -> None:
        """Note that the bridge answers; it says at once if it is not live."""
        self._become("live", None, at)

    def lost(self, reason: str, at: float) -> None:
        """Note that the connection is gone."""
        self._become("offline", reason, at)

    def hear(self, event: Event, at: float) -> None:
        """Take in a message of the bridge about itself or about a user."""
        kind, user = event.get("type"), event.get("user_id")
        if kind == "state" and event.get("state") != "closed":
            self._become(str(event.get("state")), event.get("reason"), at)
        if not isinstance(user, str):
            return
        known, streak = self.streaks.pop(user, None), event.get("streak") or {}
        if kind != "delete":
            self.streaks[user] = streak
            if len(self.streaks) > MOST_USERS:
                self.streaks.popitem(last=False)
        if kind in {"change", "delete"}:
            name = str(event.get("event") or kind)
            old = None if known is None else int(known.get("current_streak", 0))
            self.feed.appendleft(FeedLine(at, user, name, old, int(streak.get("current_streak", 0))))
            self._count(name, at)

    def hear_board(self, event: Event, at: float) -> None:
        """Take in a whole leaderboard."""
        if event.get("type") != "board":
            return
        before = {place["user_id"]: place["rank"] for place in self.board or ()}
        first, self.board = self.board is None, event["board"]
        self._moves = {user: move for user, move in self._moves.items() if at - move[1] < MOVE_SECONDS}
        for place in self.board:
            user, rank = place["user_id"], place["rank"]
            if not first and before.get(user) != rank:
                self._moves[user] = (before[user] - rank if user in before else None, at)

    def hear_summary(self, body: Mapping[str, Any]) -> None:
        """Take in the counts of the bridge's dashboard."""
        self.counts = body["counts"]
        self.totals = {window: body[window] for window in ("minute", "hour")}

    def places(self, now: float) -> list[Place]:
        """The leaderboard with its recent moves."""
        return [
            Place(each["rank"], each["user_id"], each["current_streak"], each["is_active_today"], self._move(each, now))
            for each in self.board or ()
        ]

    def total(self, counter: str, window: str, now: float) -> int:
        """How often something happened.

        Args:
            counter: One of `COUNTED`.
            window: ``minute`` or ``hour``.
            now: Epoch seconds.

        Returns:
            What the bridge counted in the database; else what was heard since watching began.
        """
        if self.totals is not None:
            return sum(self.totals[window].get(kind, 0) for kind in COUNTED[counter])
        oldest = int(now) - (MINUTE if window == "minute" else HOUR)
        recent = (kinds for second, kinds in self._seconds.items() if second > oldest)
        return sum(kinds[kind] for kinds in recent for kind in COUNTED[counter])

    def _move(self, place: Mapping[str, Any], now: float) -> int | None:
        move, at = self._moves.get(place["user_id"], (0, 0.0))
        return move if now - at < MOVE_SECONDS else 0

    def _become(self, state: str, reason: str | None, at: float) -> None:
        if state != self.state:
            self.since = at
        self.state, self.reason = state, reason

    def _count(self, kind: str, at: float) -> None:
        self._seconds.setdefault(int(at), Counter())[kind] += 1
        if len(self._seconds) > HOUR:
            del self._seconds[next(iter(self._seconds))]
