"""One listener's side: a bounded mailbox that keeps the latest state of each user. Pure."""

from collections import deque
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from realtime_bridge.events import Told
from realtime_bridge.messages import BoardMessage, Message, Place

if TYPE_CHECKING:
    from realtime_bridge.fanout import Lane

#: Close codes, as WebSocket close codes; SSE and in-process listeners see the same.
CLOSE_BAD_REQUEST = 4400
CLOSE_EXPIRED = 4401
CLOSE_FORBIDDEN = 4403
CLOSE_SLOW = 4408
CLOSE_RESTART = 1012


class ListenerClosed(Exception):  # noqa: N818 - not an error of the caller: the end of a listener
    """The bridge closed a listener.

    Attributes:
        code: A WebSocket close code.
        reason: Why, for people.
    """

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{reason} ({code})")
        self.code = code
        self.reason = reason


@dataclass(slots=True)
class Slot:
    """What waits for a listener about one user.

    Attributes:
        base: What the listener knew before; events compare with it.
        told: The state that `message` tells.
        message: The newest change, if any.
        gone: A delete that comes before it; never merged away.
    """

    base: Told | None
    told: Told | None
    message: Message | None
    gone: Message | None


@dataclass(slots=True, eq=False)
class View:
    """What all listeners of so many places see of the leaderboard at one time.

    Attributes:
        number: Tells it from other views.
        seq: The change that was the last when it was drawn up.
        places: The places.
        messages: Ready-made, by the number of the view that a listener saw before (0: none).
    """

    number: int
    seq: int
    places: tuple[Place, ...]
    messages: dict[int, BoardMessage] = field(default_factory=dict)

    @property
    def users(self) -> tuple[str, ...]:
        """Who is on it, first to last."""
        return tuple(place.user_id for place in self.places)


@dataclass(slots=True)
class Seat:
    """What a listener of the leaderboard has.

    Attributes:
        top: How many places it asked for.
        view: What it was told last.
        due: Whether there is a board for it to read: the latest, whenever it reads.
    """

    top: int
    view: View | None = None
    due: bool = False


@dataclass(slots=True, eq=False)
class Subscriber:
    """A listener as the hub knows it.

    Attributes:
        users: Whom it follows; None: everybody.
        lane: The debouncing that it shares with others of the same windows.
        wake: Called when there is something to take; must not block or raise.
        since: Where it wants to resume, or None.
        reset_reason: Why it cannot.
        missing: What must be loaded before it can start.
        preface: Messages about the connection itself; they come first.
        backlog: Users whose snapshot is due; None: of nobody (an empty deque is larger than all the rest).
        slots: Changes by user, in the order in which the users became unread.
        overlay: What this listener knows better than its lane, by user.
        sent_seq: The seq of the last message taken.
        joined_seq: `head` when its backlog was drawn up.
        closed: Why it ended.
        ended: Called when the bridge closes it.
        seat: Set for a listener of the leaderboard, which follows no users.
    """

    users: tuple[str, ...] | None
    lane: "Lane"
    wake: Callable[[], None]
    since: int | None = None
    reset_reason: str | None = None
    missing: AbstractSet[str] = frozenset()
    preface: list[Message] = field(default_factory=list)
    backlog: deque[str] | None = None
    slots: dict[str, Slot] = field(default_factory=dict)
    overlay: dict[str, Told] | None = None
    sent_seq: int = 0
    joined_seq: int = 0
    closed: ListenerClosed | None = None
    ended: Callable[[], None] | None = None
    seat: Seat | None = None

    @property
    def unread(self) -> int:
        """Messages that wait, at least."""
        board = self.seat is not None and self.seat.due
        return len(self.preface) + len(self.backlog or ()) + len(self.slots) + board

    def know(self, user_id: str, told: Told) -> None:
        """Note that this listener knows a state that its lane has not told yet."""
        if self.overlay is None:
            self.overlay = {}
        self.overlay[user_id] = told

    def known(self, user_id: str) -> Told | None:
        """Take back what `know` noted."""
        return self.overlay.pop(user_id, None) if self.overlay else None

    def put(self, user_id: str, base: Told | None, told: Told, message: Message) -> bool:
        """Put a change into the mailbox.

        Args:
            user_id: Whose.
            base: What the listener knew before.
            told: The new state.
            message: The change, its event derived from `base`.

        Returns:
            False if an unread change waits: the caller derives the event anew and calls `merge`.
        """
        slot = self.slots.get(user_id)
        if slot is None:
            self.slots[user_id] = Slot(base, told, message, None)
        elif slot.message is None:
            slot.base, slot.told, slot.message = base, told, message
        else:
            return False
        return True

    def merge(self, slot: Slot, told: Told, message: Message) -> None:
        """Replace an unread change. It keeps its place, and so must keep its resume token."""
        if slot.message is not None:
            message = replace(message, seq=slot.message.seq)
        slot.told, slot.message = told, message

    def put_gone(self, user_id: str, base: Told | None, told: Told, message: Message) -> int:
        """Put a delete into the mailbox; returns how many unread messages it made superfluous."""
        slot = self.slots.get(user_id)
        if slot is None:
            self.slots[user_id] = Slot(base, told, None, message)
            return 0
        merged = (slot.message is not None) + (slot.gone is not None)
        earlier = slot.gone or slot.message
        slot.gone = replace(message, seq=earlier.seq) if earlier else message
        slot.base, slot.told, slot.message = told, told, None
        return merged

    def stamped(self, message: Message) -> Message:
        """The message as it is sent: seq never falls, since everything up to the last one is known to be sent."""
        if message.seq < self.sent_seq:
            return replace(message, seq=self.sent_seq)
        self.sent_seq = message.seq
        return message
