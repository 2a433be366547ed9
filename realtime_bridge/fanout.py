"""How accepted changes travel: windows, lapses, and what listeners are told. Pure; the clock is an argument.

Listeners with the same debouncing share a `Lane`, so that a burst costs one window per user and not one per listener.
"""

import heapq
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import count
from typing import NamedTuple

from realtime_bridge.changes import StreakRow
from realtime_bridge.debounce import Debouncer
from realtime_bridge.events import ABSENT, Told, derive
from realtime_bridge.listeners import Subscriber
from realtime_bridge.messages import Message, MessageType, streak_of
from realtime_bridge.metrics import Counters
from realtime_bridge.state import Effect, Store

#: A wall clock that goes back by more, in seconds, was set.
_STEP = 1.0


class Moment(NamedTuple):
    """One instant on both clocks.

    Attributes:
        mono: Monotonic seconds: debouncing and slowness go by it, so that a clock step changes nothing.
        wall: Epoch seconds: a streak lapses by it.
    """

    mono: float
    wall: float


@dataclass(slots=True, eq=False)
class Lane:
    """The listeners with one debounce and max_wait.

    Attributes:
        window: What is held back.
        told: The last state told, by user.
        loaded: Users in the window who only became known: no change, and nothing to celebrate.
        everyone: The listeners of all users, in order of arrival.
        size: Listeners of any kind.
    """

    window: Debouncer[str]
    told: dict[str, Told] = field(default_factory=dict)
    loaded: set[str] = field(default_factory=set)
    everyone: dict[Subscriber, None] = field(default_factory=dict)
    size: int = 0


class Fanout:
    """Turns effects on the store into messages in mailboxes.

    Args:
        store: The rows.
        epoch: Names this run of the bridge.
        counters: Where everything is counted.
        milestones: Streak lengths with an event of their own.
        posted: Called after a message was put into a mailbox.
        noticed: Called with every change, before listeners are told.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - the joints of one part
        self,
        store: Store,
        epoch: str,
        counters: Counters,
        milestones: tuple[int, ...],
        posted: Callable[[Subscriber, Moment], None],
        noticed: Callable[[Effect, Moment], None],
    ) -> None:
        self._store = store
        self._epoch = epoch
        self._counters = counters
        self._milestones = milestones
        self._posted = posted
        self._noticed = noticed
        self._lanes: dict[tuple[float, float], Lane] = {}
        self._open_lanes: dict[Lane, None] = {}
        self._routes: dict[str, dict[Subscriber, None]] = {}
        self._timers: list[tuple[float, int, Lane, str]] = []
        self._lapses: list[tuple[float, str]] = []
        # Whether any streak can lapse, and the latest wall clock seen.
        self._watching = False
        self._latest = float("-inf")
        self._number = count()
        #: Effects up to here are in a window or in mailboxes.
        self._published = 0
        self._publishing = False

    # --- who listens -----------------------------------------------------------------------------------------------

    def lane(self, debounce: float, max_wait: float) -> Lane:
        """The lane of a new listener; `leave` gives it back."""
        windows = (debounce, max(debounce, max_wait))
        lane = self._lanes.get(windows)
        if lane is None:
            lane = self._lanes[windows] = Lane(Debouncer(*windows))
        lane.size += 1
        return lane

    def join(self, sub: Subscriber) -> None:
        """Let changes flow to a listener from now on."""
        if sub.users is None:
            sub.lane.everyone[sub] = None
            self._open_lanes[sub.lane] = None
        for user_id in sub.users or ():
            self._routes.setdefault(user_id, {})[sub] = None

    def leave(self, sub: Subscriber) -> None:
        """Forget a listener, whether it joined or not."""
        lane = sub.lane
        lane.everyone.pop(sub, None)
        if not lane.everyone:
            self._open_lanes.pop(lane, None)
        for user_id in sub.users or ():
            self._unroute(sub, user_id)
        lane.size -= 1
        if lane.size == 0:
            self._lanes.pop((lane.window.debounce, lane.window.max_wait), None)

    def align(self, sub: Subscriber, user_id: str, told: Told) -> None:
        """Remember what a listener was told, where its lane was not or not yet."""
        lane = sub.lane
        if user_id in lane.window:
            sub.know(user_id, told)  # the others will be told when the window closes
        elif not _same(lane.told.setdefault(user_id, told), told):
            sub.know(user_id, told)

    def _unroute(self, sub: Subscriber, user_id: str) -> None:
        route = self._routes.get(user_id, {})
        route.pop(sub, None)
        if not route:
            self._routes.pop(user_id, None)
        if not sub.lane.everyone and not any(other.lane is sub.lane for other in route):
            sub.lane.told.pop(user_id, None)
            self._drop(sub.lane, user_id)

    def _lanes_of(self, user_id: str) -> Iterable[Lane]:
        lanes = {sub.lane: None for sub in self._routes.get(user_id, ())}
        lanes.update(self._open_lanes)
        return lanes

    def _audience(self, lane: Lane, user_id: str) -> list[Subscriber]:
        named = [sub for sub in self._routes.get(user_id, ()) if sub.lane is lane]
        return [*named, *lane.everyone]

    # --- what happens ----------------------------------------------------------------------------------------------

    def publish(self, effects: Iterable[Effect], at: Moment, *, news: bool) -> None:
        """Tell listeners what changed.

        Args:
            effects: What the store accepted, in order.
            at: Now.
            news: Whether users that were not known before have changed; those who listen to everybody are told of
                them in any case, as a snapshot if not.
        """
        self._publishing = True
        self._latest = max(self._latest, at.wall)
        for effect in effects:
            self._counters.changes += 1
            self._published = effect.seq
            self._noticed(effect, at)
            if effect.deleted:
                self._tell_deleted(effect, at)
            elif effect.row is not None:
                self._tell_changed(effect, effect.row, at, news=news)
        self._published = self._store.head
        self._publishing = False
        self.trim()

    def trim(self) -> None:
        """Forget whom nobody follows, beyond the limit, unless somebody is still to be told of them."""
        if self._publishing:
            return
        for user_id in self._store.trim():
            for lane in self._lanes.values():
                lane.told.pop(user_id, None)
                lane.loaded.discard(user_id)

    def tick(self, at: Moment) -> None:
        """Flush the windows and tell the lapses that are due."""
        self._look_at_the_clock(at)
        while self._timers and self._timers[0][0] <= at.mono:
            _, _, lane, user_id = heapq.heappop(self._timers)
            if user_id in lane.window:
                due = lane.window.ripe(user_id, at.mono)
                if due is None:
                    self._store.unfollow(user_id)
                    self._flush(lane, user_id, at)
                else:
                    heapq.heappush(self._timers, (due, next(self._number), lane, user_id))
        self.trim()
        while self._lapses and self._lapses[0][0] <= at.wall:
            effect = self._store.lapse(heapq.heappop(self._lapses)[1], at.wall)
            if effect is not None:
                self._counters.lapsed += 1
                self.publish([effect], at, news=True)

    def next_due(self, at: Moment) -> float | None:
        """Seconds until `tick` has something to do, or None."""
        waits = []
        if self._timers:
            waits.append(self._timers[0][0] - at.mono)
        if self._watching:
            # The wall clock may be set meanwhile: look again every second.
            waits.append(min(self._lapses[0][0] - at.wall, 1.0) if self._lapses else 1.0)
        return max(min(waits), 0.0) if waits else None

    def _tell_changed(self, effect: Effect, row: StreakRow, at: Moment, *, news: bool) -> None:
        user_id = effect.user_id
        self._watch_expiry(effect.before, row, at)
        for lane in self._lanes_of(user_id):
            # Who is held back was not told of a state that only the clock has changed since.
            if effect.before is not None and not (effect.before.row is row and user_id in lane.window):
                lane.told.setdefault(user_id, effect.before)
            if effect.before is None and not news:
                lane.loaded.add(user_id)
            else:
                lane.loaded.discard(user_id)
            if not lane.window.debounce:
                self._flush(lane, user_id, at)
            else:
                self._hold(lane, effect, at)

    def _hold(self, lane: Lane, effect: Effect, at: Moment) -> None:
        due = lane.window.offer(effect.user_id, effect.seq, at.mono)
        if due is None:
            self._counters.debounced += 1
            return
        # What is held back must still be known when the window closes.
        self._store.follow(effect.user_id)
        heapq.heappush(self._timers, (due, next(self._number), lane, effect.user_id))

    def _drop(self, lane: Lane, user_id: str) -> bool:
        """Forget what is held back; returns whether anything was."""
        held = lane.window.cancel(user_id)
        if held:
            self._store.unfollow(user_id)
        return held

    def _look_at_the_clock(self, at: Moment) -> None:
        if at.wall < self._latest - _STEP:
            self._latest = at.wall
            self.publish(self._store.revive(at.wall), at, news=True)
        self._latest = max(self._latest, at.wall)

    def _watch_expiry(self, before: Told | None, row: StreakRow, at: Moment) -> None:
        if row.expires_at is None:
            return
        self._watching = True
        if not row.streak_at(at.wall):
            return
        if before and before.row and before.shown and before.row.expires_at == row.expires_at:
            return  # watched already
        heapq.heappush(self._lapses, (row.expires_at, row.user_id))
        if len(self._lapses) > 2 * len(self._store) + 1000:
            known = ((user_id, entry.row) for user_id, entry in self._store.items() if entry.shown)
            self._lapses = [(kept.expires_at, user_id) for user_id, kept in known if kept and kept.expires_at]
            heapq.heapify(self._lapses)

    def _flush(self, lane: Lane, user_id: str, at: Moment) -> None:
        entry = self._store.get(user_id)
        if entry is None or entry.row is None:
            return
        base = lane.told.get(user_id)
        told = lane.told[user_id] = Told(entry.row, entry.row.streak_at(at.wall))
        loaded = base is None and user_id in lane.loaded
        lane.loaded.discard(user_id)
        shared: dict[int, Message] = {}
        for sub in self._audience(lane, user_id):
            own = sub.known(user_id)
            known = own or base
            if known is not None and _same(known, told):
                continue
            token = self._token(sub)
            if own is not None:
                message = self.change(token, user_id, own, told, at)
            elif loaded:
                message = shared.get(token) or shared.setdefault(token, self.snapshot(token, user_id, told.row, at))
            else:
                message = shared.get(token) or shared.setdefault(token, self.change(token, user_id, base, told, at))
            self._put(sub, user_id, known, told, message, at)

    def _put(  # noqa: PLR0913, PLR0917 - one message with its context
        self, sub: Subscriber, user_id: str, base: Told | None, told: Told, message: Message, at: Moment
    ) -> None:
        if not sub.put(user_id, base, told, message):
            self._counters.conflated += 1
            slot = sub.slots[user_id]
            sub.merge(slot, told, self.change(message.seq, user_id, slot.base, told, at))
        self._posted(sub, at)

    def _tell_deleted(self, effect: Effect, at: Moment) -> None:
        user_id = effect.user_id
        for lane in self._lanes_of(user_id):
            self._counters.debounced += self._drop(lane, user_id)
            lane.loaded.discard(user_id)
            base = lane.told.get(user_id)
            lane.told[user_id] = ABSENT
            for sub in self._audience(lane, user_id):
                known = sub.known(user_id) or base
                message = self.message(MessageType.DELETE, self._token(sub), user_id)
                self._counters.conflated += sub.put_gone(user_id, known, ABSENT, message)
                self._posted(sub, at)

    # --- messages --------------------------------------------------------------------------------------------------

    def message(self, kind: MessageType, token: int, user_id: str) -> Message:
        """A message about a user that shows no state."""
        return Message(kind, self._epoch, token, user_id=user_id)

    def snapshot(self, token: int, user_id: str, row: StreakRow | None, at: Moment, zone: str | None = None) -> Message:
        """A state without a story."""
        return Message(MessageType.SNAPSHOT, self._epoch, token, user_id, streak=streak_of(row, at.wall, zone))

    def change(self, token: int, user_id: str, base: Told | None, told: Told, at: Moment) -> Message:
        """A change, its event derived from what the listener knew before."""
        row = told.row
        assert row is not None  # noqa: S101 - a delete is no change
        event = derive(base, row, told.shown, self._milestones)
        return Message(MessageType.CHANGE, self._epoch, token, user_id, event, streak_of(row, at.wall))

    def _token(self, sub: Subscriber) -> int:
        """Up to where everything for this listener is in its mailbox."""
        if sub.users is not None and len(sub.users) == 1:
            return self._published
        held_back = sub.lane.window.low_water()
        return self._published if held_back is None else min(self._published, held_back - 1)


def _same(one: Told, other: Told) -> bool:
    """Whether two states need not be told apart: the same row at the same or an older version, as lapsed."""
    if one.row is None or other.row is None:
        return one.row is other.row
    return one.row.id == other.row.id and one.row.version >= other.row.version and one.shown == other.shown
