"""The top of the leaderboard, kept once for all listeners that share it. Pure; the clock is an argument.

A read of ``get_streak_leaderboard`` says who is in (only the database knows who opted out) and how far its answer
reaches. Where those users stand follows from their rows in the store, which the stream and the clock keep current. So
a change among them is told at once, and the database is asked again only when somebody may have come in from outside.
"""

import heapq
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import count, islice

from realtime_bridge.changes import StreakRow
from realtime_bridge.debounce import Debouncer
from realtime_bridge.fanout import Moment
from realtime_bridge.listeners import Seat, Subscriber, View
from realtime_bridge.messages import BoardMessage, MessageType, Place, streak_of
from realtime_bridge.metrics import Counters
from realtime_bridge.state import Effect, Store

#: The most places that `get_streak_leaderboard` gives in one answer.
MOST_PLACES = 1000
#: The shortest window: a board is put in order at most twenty times a second, however fast its users change.
_SHORTEST = 0.05
#: Places read beyond those wanted, so that a streak that ends leaves no gap at the end of the board.
_MARGIN = 10


def board_key(top: int) -> str:
    """What a listener of so many places waits for before it can start."""
    return f"top:{top}"


@dataclass(slots=True, eq=False)
class _Lane:
    """The listeners with one debounce and max_wait."""

    window: Debouncer[str]
    subs: dict[Subscriber, None] = field(default_factory=dict)


class Leaderboard:
    """Who is on the board, and who has to be told.

    Args:
        store: The rows.
        epoch: Names this run of the bridge.
        counters: Where merged messages are counted.
        posted: Called when a listener has a board to read.
        wanted: Called when the database should be asked (again); must not block or raise.
    """

    def __init__(
        self,
        store: Store,
        epoch: str,
        counters: Counters,
        posted: Callable[[Subscriber, Moment], None],
        wanted: Callable[[], None],
    ) -> None:
        self._store = store
        self._epoch = epoch
        self._counters = counters
        self._posted = posted
        self._wanted = wanted
        self._lanes: dict[tuple[float, float], _Lane] = {}
        self._timers: list[tuple[float, int, _Lane]] = []
        self._number = count(1)
        self._sizes: dict[int, int] = {}
        self._views: dict[int, View] = {}
        self._stale = True
        self._pool: dict[str, None] = {}
        # An answer whose rows are being read: users and what it says of their streaks.
        self._expected: dict[str, int] = {}
        self._limit = 0
        # The last place of the answer: whoever ranks behind it may have others before them whom nobody read.
        self._reach: tuple[int, str] | None = None
        self._touched: set[str] | None = None

    # --- who listens -----------------------------------------------------------------------------------------------

    def join(self, sub: Subscriber, top: int) -> bool:
        """Take a listener in; returns whether the board has been read as far as it wants."""
        sub.seat = Seat(top)
        self._sizes[top] = self._sizes.get(top, 0) + 1
        self._lane_of(sub).subs[sub] = None
        ready = self._limit >= top
        if not ready:
            self._wanted()
        return ready

    def leave(self, sub: Subscriber) -> None:
        """Forget a listener; with the last one, everything."""
        if sub.seat is None:
            return
        lane = self._lane_of(sub)
        lane.subs.pop(sub, None)
        if not lane.subs:
            del self._lanes[lane.window.debounce, lane.window.max_wait]
        left = self._sizes[sub.seat.top] = self._sizes[sub.seat.top] - 1
        if not left:
            del self._sizes[sub.seat.top]
            self._views.pop(sub.seat.top, None)
        sub.seat = None
        if not self._sizes:
            self._forget()

    def start(self, sub: Subscriber, at: Moment) -> None:
        """Let a listener have its first board, if it wants any."""
        if sub.seat is None:
            return
        self._stale = self._stale or sub.seat.top not in self._views
        self._put_in_order(at)
        self._tell(sub, at)

    def take(self, sub: Subscriber) -> BoardMessage | None:
        """The board that a listener has to read, or None."""
        seat = sub.seat
        if seat is None or not seat.due:
            return None
        seat.due = False
        view, seat.view = self._views[seat.top], seat.view
        if seat.view is not None and seat.view.places == view.places:
            return None  # it changed and changed back
        message = self._message(seat.top, seat.view, view)
        seat.view = view
        return message

    def _lane_of(self, sub: Subscriber) -> _Lane:
        quiet = max(sub.lane.window.debounce, _SHORTEST)
        windows = (quiet, max(quiet, sub.lane.window.max_wait))
        return self._lanes.setdefault(windows, _Lane(Debouncer(*windows)))

    def _forget(self) -> None:
        for user_id in (*self._pool, *self._expected):
            self._store.unfollow(user_id)
        self._pool, self._expected, self._limit, self._reach, self._touched = {}, {}, 0, None, None
        self._timers.clear()
        self._stale = True

    # --- what the database says ------------------------------------------------------------------------------------

    def begin(self) -> int:
        """A read begins; returns how many places to ask for, 0 if nobody wants any."""
        if not self._sizes:
            return 0
        self._touched = set()
        largest = max(self._sizes)
        return min(largest + max(_MARGIN, largest // 10), MOST_PLACES)

    def expect(self, answer: Iterable[Place]) -> list[str]:
        """An answer came; returns the users whose rows must be read before `finish`.

        They are those who are not known, and those of whom the database knows better than the stream has brought.
        """
        if self._touched is None:
            return []  # who wanted it has gone
        before, self._expected = self._expected, {}
        doubtful = []
        for place in answer:
            self._expected[place.user_id] = place.current_streak
            self._store.follow(place.user_id)
            entry = self._store.get(place.user_id)
            row = entry.row if entry else None
            if row is None or (row.run_length, row.longest_streak) != (place.current_streak, place.longest_streak):
                doubtful.append(place.user_id)
        for user_id in before:
            self._store.unfollow(user_id)
        return doubtful

    def finish(self, answer: Sequence[Place], limit: int, at: Moment) -> list[str]:
        """The rows of an answer were read: it is the board from now on.

        Args:
            answer: The places, first to last.
            limit: How many were asked for.
            at: Now.

        Returns:
            What listeners waited for that is there now, as `board_key`.
        """
        if self._touched is None:
            if self._sizes:
                self._wanted()  # who wanted it has gone, and others have come: what changed meanwhile was not noted
            return []
        before, self._pool, self._expected = self._pool, dict.fromkeys(self._expected), {}
        for user_id in before:
            self._store.unfollow(user_id)
        self._limit = limit
        self._reach = (-answer[-1].current_streak, answer[-1].user_id) if len(answer) == limit else None
        touched, self._touched = self._touched, None
        if any(self._may_enter(user_id, at) for user_id in touched):
            self._wanted()
        self._changed(at)
        return [board_key(top) for top in self._sizes if top <= limit]

    # --- what the stream and the clock say ---------------------------------------------------------------------------

    def note(self, effect: Effect, at: Moment) -> None:
        """Take a change into account."""
        if not self._sizes:
            return
        user_id = effect.user_id
        if self._touched is not None:
            self._touched.add(user_id)
        if user_id in self._pool:
            self._changed(at)
        if self._fell(effect, at) or self._may_enter(user_id, at):
            self._wanted()

    def doubt(self) -> None:
        """Let the database be asked again: something may have been missed."""
        if self._sizes:
            self._wanted()

    def tick(self, at: Moment) -> None:
        """Tell the listeners whose windows are over."""
        while self._timers and self._timers[0][0] <= at.mono:
            _, _, lane = heapq.heappop(self._timers)
            if "" not in lane.window:
                continue
            due = lane.window.ripe("", at.mono)
            if due is None:
                self._put_in_order(at)
                for sub in list(lane.subs):
                    self._tell(sub, at)
            else:
                heapq.heappush(self._timers, (due, next(self._number), lane))

    def next_due(self, at: Moment) -> float | None:
        """Seconds until `tick` has something to do, or None."""
        return max(self._timers[0][0] - at.mono, 0.0) if self._timers else None

    def _fell(self, effect: Effect, at: Moment) -> bool:
        """Whether others, whom nobody has read, may rank before a user on the board now."""
        shown = effect.row.streak_at(at.wall) if effect.row else 0
        if effect.user_id in self._expected:
            return shown < self._expected[effect.user_id]
        return effect.user_id in self._pool and (effect.before is None or shown < effect.before.shown)

    def _may_enter(self, user_id: str, at: Moment) -> bool:
        entry = self._store.get(user_id)
        if user_id in self._pool or user_id in self._expected or entry is None or entry.row is None:
            return False
        return self._reaches(entry.row, at)

    def _reaches(self, row: StreakRow, at: Moment) -> bool:
        shown = row.streak_at(at.wall)
        return shown > 0 and (self._reach is None or (-shown, row.user_id) <= self._reach)

    def _changed(self, at: Moment) -> None:
        self._stale = True
        for lane in self._lanes.values():
            due = lane.window.offer("", 0, at.mono)
            if due is not None:
                heapq.heappush(self._timers, (due, next(self._number), lane))

    # --- what listeners are told -------------------------------------------------------------------------------------

    def _put_in_order(self, at: Moment) -> None:
        """Rank the users on the board, once for all listeners."""
        if not self._stale:
            return
        self._stale = False
        entries = (self._store.get(user_id) for user_id in self._pool)
        rows = [entry.row for entry in entries if entry and entry.row and self._reaches(entry.row, at)]
        rows.sort(key=lambda row: (-row.streak_at(at.wall), row.user_id))
        places: list[Place] = []
        for row in islice(rows, max(self._sizes, default=0)):
            streak = streak_of(row, at.wall)
            tied = bool(places) and places[-1].current_streak == streak.current_streak
            rank = places[-1].rank if tied else len(places) + 1
            places.append(
                Place(
                    rank,
                    row.user_id,
                    streak.current_streak,
                    streak.longest_streak,
                    streak.last_active_date,
                    streak.is_active_today,
                )
            )
        for top in self._sizes:
            shown, view = tuple(places[:top]), self._views.get(top)
            if view is None or view.places != shown:
                self._views[top] = View(next(self._number), self._store.head, shown)

    def _tell(self, sub: Subscriber, at: Moment) -> None:
        seat = sub.seat
        if seat is None or sub.missing:
            return
        view = self._views[seat.top]
        if seat.view is not None and seat.view.places == view.places:
            return
        if seat.due:
            self._counters.conflated += 1
            return
        seat.due = True
        self._posted(sub, at)

    def _message(self, top: int, before: View | None, view: View) -> BoardMessage:
        """The message from one view to another: made and encoded once, however many listeners make that step."""
        step = before.number if before else 0
        made = view.messages.get(step)
        if made is None:
            old, new = before.users if before else (), view.users
            known, present = set(old), set(new)
            made = view.messages[step] = BoardMessage(
                MessageType.BOARD,
                self._epoch,
                view.seq,
                top=top,
                board=view.places,
                entered=tuple(user for user in new if user not in known) if before else None,
                left=tuple(user for user in old if user not in present) if before else None,
            )
        return made
