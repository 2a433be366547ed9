"""Listeners come, read and go; what changes in between reaches them by `Fanout`. Pure; the clock is an argument."""

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from realtime_bridge.changes import Change, StreakRow, Unreadable
from realtime_bridge.events import ABSENT, Told
from realtime_bridge.fanout import Fanout, Moment
from realtime_bridge.leaderboard import Leaderboard, board_key
from realtime_bridge.listeners import CLOSE_SLOW, ListenerClosed, Subscriber
from realtime_bridge.messages import Message, MessageType, Place
from realtime_bridge.metrics import Counters
from realtime_bridge.state import Merge, Store

#: What an all-listener waits for before it can start: the users that changed lately.
EVERYBODY = "*"


def _nothing() -> None:
    """Nobody reads the leaderboard."""


class Hub:
    """Merges changes into the store and tells listeners.

    Args:
        store: The rows.
        epoch: Names this run of the bridge.
        counters: Where everything is counted.
        milestones: Streak lengths with an event of their own.
        mailbox_limit: Users with unread changes at which a listener is closed.
        slow_after: Seconds without a read, with mail waiting, after which a listener is closed.
        board_wanted: Called when the leaderboard should be read.
    """

    def __init__(  # noqa: PLR0913 - settings of one thing
        self,
        store: Store,
        *,
        epoch: str,
        counters: Counters,
        milestones: tuple[int, ...],
        mailbox_limit: int,
        slow_after: float,
        board_wanted: Callable[[], None] = _nothing,
    ) -> None:
        self.store = store
        self.epoch = epoch
        self.counters = counters
        self.subscribers: dict[Subscriber, None] = {}
        self.leaderboard = Leaderboard(store, epoch, counters, self._mark_unread, board_wanted)
        self._fanout = Fanout(store, epoch, counters, milestones, self._posted, self.leaderboard.note)
        self._state: Message | None = None
        self._seeded = False
        self._mailbox_limit = mailbox_limit
        self._slow_after = slow_after
        self._waiting: dict[str, dict[Subscriber, None]] = {}
        # In the order in which they became unread: the first is the slowest.
        self._unread: dict[Subscriber, float] = {}

    # --- listeners -------------------------------------------------------------------------------------------------

    def add(  # noqa: PLR0913 - one listener's wishes
        self,
        users: Iterable[str] | None,
        *,
        debounce: float,
        max_wait: float,
        at: Moment,
        wake: Callable[[], None],
        since: tuple[str, int] | None = None,
        top: int | None = None,
    ) -> Subscriber:
        """Take a listener in.

        Args:
            users: Whom it follows; None: everybody.
            debounce: Seconds of quiet; 0: every change.
            max_wait: The longest that a change is held back, in seconds.
            at: Now.
            wake: Called when there is something to take.
            since: The id of the last message it got before, to resume from.
            top: Places of the leaderboard that it wants instead of users; each board is whole, so that it always
                begins anew.

        Returns:
            The listener; `missing` names the users to load before it starts.
        """
        named = None if users is None and top is None else tuple(dict.fromkeys(users or ()))
        sub = Subscriber(named, self._fanout.lane(debounce, max_wait), wake)
        self.subscribers[sub] = None
        self.counters.opened += 1
        for user_id in named or ():
            self.store.follow(user_id)
        if top is None:
            self._plan_resume(sub, since)
        self._plan_loading(sub, top)
        if self._state is not None:
            sub.preface.append(self._state)
            self._mark_unread(sub, at)
        if not sub.missing:
            self._start(sub, at)
        return sub

    def remove(self, sub: Subscriber) -> None:
        """Let a listener go. Idempotent."""
        if self.subscribers.pop(sub, EVERYBODY) is EVERYBODY:
            return
        self.counters.dropped += sub.unread
        self._unread.pop(sub, None)
        for key in sub.missing:
            waiting = self._waiting.get(key, {})
            waiting.pop(sub, None)
            if not waiting:
                self._waiting.pop(key, None)
        self._fanout.leave(sub)
        self.leaderboard.leave(sub)
        for user_id in sub.users or ():
            self.store.unfollow(user_id)
        self._fanout.trim()
        sub.preface, sub.slots, sub.overlay, sub.backlog = [], {}, None, None

    def close(self, sub: Subscriber, code: int, reason: str) -> None:
        """End a listener with a code and a reason."""
        if sub.closed is None:
            self.remove(sub)
            sub.closed = ListenerClosed(code, reason)
            sub.wake()
            if sub.ended is not None:
                sub.ended()

    def take(self, sub: Subscriber, limit: int, at: Moment) -> list[Message]:
        """Take what a listener has to read.

        Args:
            sub: The listener.
            limit: At most this many messages.
            at: Now.

        Returns:
            Messages, oldest first; empty if there are none.
        """
        taken = sub.preface[:limit]
        del sub.preface[:limit]
        while sub.backlog and len(taken) < limit:
            taken.extend(self._brief(sub, sub.backlog.popleft(), at))
        sub.backlog = sub.backlog or None
        while sub.slots and len(taken) < limit:
            slot = sub.slots.pop(next(iter(sub.slots)))
            taken.extend(part for part in (slot.gone, slot.message) if part is not None)
        if (board := self.leaderboard.take(sub)) is not None:
            taken.append(board)
        self._unread.pop(sub, None)
        if sub.unread:
            self._unread[sub] = at.mono
        self.counters.sent += len(taken)
        return [sub.stamped(message) for message in taken]

    def announce(self, state: Message | None, at: Moment, notice: Message) -> None:
        """Tell every listener about the bridge itself.

        Args:
            state: What listeners that come later are told first; None: nothing.
            at: Now.
            notice: What the present ones are told.
        """
        self._state = state
        for sub in self.subscribers:
            # Only the latest state counts.
            sub.preface = [part for part in sub.preface if part.type is not MessageType.STATE] + [notice]
            self._mark_unread(sub, at)

    def settle(self, keys: Iterable[str], at: Moment) -> None:
        """Start the listeners that waited for users (or `EVERYBODY`) to be loaded."""
        for key in keys:
            if key == EVERYBODY:
                self._seeded = True
            for sub in self._waiting.pop(key, {}):
                sub.missing -= {key}
                if not sub.missing:
                    self._start(sub, at)

    # --- changes ---------------------------------------------------------------------------------------------------

    def apply(self, change: Change, at: Moment) -> Merge:
        """Merge one change of the stream and tell listeners. The caller reads `verify` over REST."""
        merge = self.store.merge(change, at.wall)
        self.counters.unreadable += isinstance(change, Unreadable)
        self.counters.stale += not (merge.effects or merge.verify or merge.blind)
        self._fanout.publish(merge.effects, at, news=True)
        return merge

    def apply_read(  # noqa: PLR0913 - one answer
        self,
        asked: Iterable[str],
        rows: Mapping[str, StreakRow],
        read_at: int,
        at: Moment,
        *,
        news: bool,
        zones: Mapping[str, str] = MappingProxyType({}),
    ) -> Merge:
        """Merge an answer of the database, tell listeners, and start those who waited for it.

        Args:
            asked: The users that were asked for.
            rows: What came, by user.
            read_at: The store's `head` when the read began.
            at: Now.
            news: Whether users that were not known before count as changed (the change log named them).
            zones: The zones of those without a row.

        Returns:
            What it did.
        """
        asked = list(asked)
        merge = self.store.merge_read(asked, rows, read_at, at.wall, zones)
        self._fanout.publish(merge.effects, at, news=news)
        # Who is still in doubt is read again before anybody is told a state.
        self.settle((user_id for user_id in asked if self.store.get(user_id) is not None), at)
        return merge

    def tick(self, at: Moment) -> None:
        """Do what is due: flush windows, tell lapses, close slow listeners."""
        self._fanout.tick(at)
        self.leaderboard.tick(at)
        while self._unread:
            sub, unread_since = next(iter(self._unread.items()))
            if at.mono - unread_since < self._slow_after:
                break
            self.counters.slow += 1
            self.close(sub, CLOSE_SLOW, f"nothing read for {self._slow_after:g} s")

    def next_due(self, at: Moment) -> float | None:
        """Seconds until `tick` has something to do, or None."""
        waits = [self._fanout.next_due(at), self.leaderboard.next_due(at)]
        if self._unread:
            waits.append(max(next(iter(self._unread.values())) + self._slow_after - at.mono, 0.0))
        return min((wait for wait in waits if wait is not None), default=None)

    def place(self, answer: Sequence[Place], limit: int, at: Moment) -> None:
        """Take an answer of the leaderboard, its rows read, and start the listeners that waited for it."""
        self.settle(self.leaderboard.finish(answer, limit, at), at)

    # --- how listeners start ---------------------------------------------------------------------------------------

    def _plan_resume(self, sub: Subscriber, since: tuple[str, int] | None) -> None:
        if since is None:
            return
        epoch, seq = since
        known = sub.users is None or all(self.store.get(user_id) for user_id in sub.users)
        if epoch != self.epoch:
            sub.reset_reason = "another run of the bridge"
        elif seq > self.store.head:
            sub.reset_reason = "unknown position"
        elif seq == 0:
            # What was sent while the first snapshots were still coming: nobody knows which of them arrived.
            sub.reset_reason = "the first snapshots were not complete"
        elif seq < self.store.horizon or not known:
            sub.reset_reason = "too long ago"
        else:
            sub.since = seq

    def _plan_loading(self, sub: Subscriber, top: int | None) -> None:
        if top is not None:
            sub.missing = frozenset() if self.leaderboard.join(sub, top) else {board_key(top)}
        elif sub.users is None:
            sub.missing = frozenset() if self._seeded else {EVERYBODY}
        else:
            # Who resumes is sent no snapshot of those without a row.
            known = self.store.complete if sub.since is None else self.store.get
            sub.missing = frozenset(user_id for user_id in sub.users if not known(user_id))
        for key in sub.missing:
            self._waiting.setdefault(key, {})[sub] = None

    def _start(self, sub: Subscriber, at: Moment) -> None:
        sub.joined_seq = self.store.head
        if sub.since is not None:
            sub.sent_seq = sub.since
            self._replay(sub, sub.since, at)
        else:
            if sub.reset_reason is not None:
                self.counters.resets += 1
                sub.preface.append(Message(MessageType.RESET, self.epoch, 0, reason=sub.reset_reason))
            sub.backlog = deque(sub.users if sub.users is not None else self.store)
        self._fanout.join(sub)
        self.leaderboard.start(sub, at)
        if sub.unread:
            self._mark_unread(sub, at)

    def _replay(self, sub: Subscriber, since: int, at: Moment) -> None:
        wanted = None if sub.users is None else set(sub.users)
        missed = [user for user in self.store.changed_since(since) if wanted is None or user in wanted]
        for user_id in missed:
            entry = self.store.get(user_id)
            if entry is None or (entry.row is None and entry.before in (None, ABSENT)):
                continue
            # Resuming from the middle must not skip the rest: only the last may carry the present seq.
            token = self.store.head if user_id == missed[-1] else since
            base = entry.before if entry.before_seq <= since else None
            if entry.died > since:
                gone = self._fanout.message(MessageType.DELETE, token if entry.row is None else since, user_id)
                sub.put_gone(user_id, base, ABSENT, gone)
                base = ABSENT
            if entry.row is not None:
                change = self._fanout.change(token, user_id, base, entry.told, at)
                sub.put(user_id, base, entry.told, change)
            self._fanout.align(sub, user_id, entry.told)

    def _brief(self, sub: Subscriber, user_id: str, at: Moment) -> list[Message]:
        """The snapshot of one user; what waits about the same user is older or the same."""
        entry = self.store.get(user_id)
        slot = sub.slots.pop(user_id, None)
        # Until the last, resuming means beginning anew.
        token = 0 if sub.backlog else sub.joined_seq
        parts = [replace(slot.gone, seq=token)] if slot and slot.gone else []
        if slot and slot.message and entry is None:
            parts.append(replace(slot.message, seq=token))  # forgotten since: nothing says more
        elif slot:
            self.counters.conflated += slot.message is not None
        if entry is None or (entry.row is None and sub.users is None):
            return parts
        told = Told(entry.row, entry.row.streak_at(at.wall) if entry.row else 0)
        parts.append(self._fanout.snapshot(token, user_id, entry.row, at, entry.zone))
        self._fanout.align(sub, user_id, told)
        return parts

    def _mark_unread(self, sub: Subscriber, at: Moment) -> None:
        self._unread.setdefault(sub, at.mono)
        sub.wake()

    def _posted(self, sub: Subscriber, at: Moment) -> None:
        if len(sub.slots) > self._mailbox_limit:
            self.counters.slow += 1
            self.close(sub, CLOSE_SLOW, f"more than {self._mailbox_limit} users unread")
        else:
            self._mark_unread(sub, at)
