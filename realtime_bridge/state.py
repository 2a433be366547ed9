"""The current row of every user that somebody follows or that changed lately, merged by version. Pure.

Nothing here depends on the order in which the stream and reads over REST come in: a newer version of a row wins, a
row made anew (another id for the same user) wins whatever its version, a DELETE removes by row id. What the order
could make ambiguous is not guessed: the user is named in `Merge.verify`, to be read again.
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from types import MappingProxyType

from realtime_bridge.changes import Change, Delete, StreakRow, Unreadable, Upsert
from realtime_bridge.events import ABSENT, Told


@dataclass(slots=True)
class Entry:
    """What is known of one user.

    Attributes:
        row: The row; None when the user is known to have none.
        seq: The change that brought this state.
        before: The state before it, if one was known.
        shown: The current streak as last told (0 once the lapse was told).
        died: The change that deleted the user's last row before this one; 0: none is known.
        zone: Without a row: the zone that a first activity would count in; None: not read yet.
    """

    row: StreakRow | None
    seq: int
    before: Told | None
    before_seq: int
    shown: int
    died: int = 0
    zone: str | None = None

    @property
    def told(self) -> Told:
        """The state, as a listener that is up to date knows it."""
        return Told(self.row, self.shown)

    def revives(self, wall: float) -> bool:
        """Whether a lapse was told that by the clock, set back since, has not come yet."""
        return self.shown == 0 and self.row is not None and self.row.streak_at(wall) > 0


@dataclass(frozen=True, slots=True)
class Effect:
    """One accepted change of one user.

    Attributes:
        seq: Its number.
        user_id: Whose.
        row: The new row; None: deleted.
        before: The state before, None if the user was unknown.
        deleted: The old row is gone (also when a row made anew replaced it).
    """

    seq: int
    user_id: str
    row: StreakRow | None
    before: Told | None
    deleted: bool


@dataclass(slots=True)
class Merge:
    """The outcome of a merge.

    Attributes:
        effects: What changed, in order.
        verify: Users that must be read (again) over REST.
        blind: Something changed that nobody can name: read the change log.
    """

    effects: list[Effect] = field(default_factory=list)
    verify: list[str] = field(default_factory=list)
    blind: bool = False


class Store:
    """Rows by user and by row id, with a change number and bounded memory.

    Args:
        recent_limit: How many users that nobody follows by name are kept by `trim`.
    """

    def __init__(self, recent_limit: int) -> None:
        self.head = 0
        #: A listener that resumes from before this cannot be told what it missed.
        self.horizon = 0
        self._limit = recent_limit
        self._entries: dict[str, Entry] = {}
        self._user_of: dict[str, str] = {}
        self._follows: dict[str, int] = {}
        self._recent: OrderedDict[str, None] = OrderedDict()
        # A stale message must not bring a deleted row back: row id -> seq of its death.
        self._dead: OrderedDict[str, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def items(self) -> Iterable[tuple[str, Entry]]:
        """Users and what is known of them, oldest change first."""
        return self._entries.items()

    def changed_since(self, seq: int) -> list[str]:
        """The users whose state is newer than a seq, oldest change first."""
        found = []
        for user_id in reversed(self._entries):
            if self._entries[user_id].seq <= seq:
                break
            found.append(user_id)
        return found[::-1]

    def get(self, user_id: str) -> Entry | None:
        """What is known of a user, or None."""
        return self._entries.get(user_id)

    def complete(self, user_id: str) -> bool:
        """Whether everything is known that a snapshot of a user says."""
        entry = self._entries.get(user_id)
        return entry is not None and (entry.row is not None or entry.zone is not None)

    def followed(self) -> Iterable[str]:
        """The users that are followed by name."""
        return self._follows.keys()

    def latest(self, limit: int) -> list[str]:
        """The users whom nobody follows by name and who changed last, latest first."""
        return list(islice(reversed(self._recent), limit))

    def follow(self, user_id: str) -> None:
        """Keep a user's row as long as `unfollow` was not called as often."""
        self._follows[user_id] = self._follows.get(user_id, 0) + 1
        self._recent.pop(user_id, None)

    def unfollow(self, user_id: str) -> None:
        """Undo one `follow`."""
        count = self._follows.get(user_id, 0) - 1
        if count > 0:
            self._follows[user_id] = count
            return
        self._follows.pop(user_id, None)
        if user_id in self._entries:
            self._keep_recent(user_id)

    def trim(self) -> list[str]:
        """Forget users beyond the limit whom nobody follows, those who changed first; returns them.

        Never by itself: whoever is to tell of a change must still find it.
        """
        gone = []
        while len(self._recent) > self._limit:
            user_id, _ = self._recent.popitem(last=False)
            entry = self._entries.pop(user_id)
            if entry.row is not None:
                self._user_of.pop(entry.row.id, None)
            self.horizon = max(self.horizon, entry.seq)
            gone.append(user_id)
        return gone

    def lapse(self, user_id: str, wall: float) -> Effect | None:
        """Note that a streak has lapsed by the clock; its row and version stay.

        Args:
            user_id: Whose.
            wall: Now, in epoch seconds.

        Returns:
            The effect, or None if there is nothing to tell.
        """
        entry = self._entries.get(user_id)
        if entry is None or entry.row is None or entry.shown == 0 or entry.row.streak_at(wall) > 0:
            return None
        return self._accept(user_id, entry.row, wall)

    def revive(self, wall: float) -> list[Effect]:
        """Take back the lapses that were noted by a clock that has been set back since.

        Args:
            wall: Now, in epoch seconds.

        Returns:
            The effects.
        """
        alive = [(user_id, entry.row) for user_id, entry in self._entries.items() if entry.revives(wall)]
        return [self._accept(user_id, row, wall) for user_id, row in alive]

    def merge(self, change: Change, wall: float) -> Merge:
        """Merge one change of the stream.

        Args:
            change: The change.
            wall: Now, in epoch seconds.

        Returns:
            What it did.
        """
        merge = Merge()
        match change:
            case Upsert(row):
                self._upsert(row, wall, merge, read_at=None)
            case Delete(row_id):
                self._delete(row_id, wall, merge)
            case Unreadable(user_id, row_id):
                known = user_id or self._user_of.get(row_id or "")
                merge.blind = known is None
                if known is not None:
                    merge.verify.append(known)
        return merge

    def merge_read(
        self,
        asked: Iterable[str],
        rows: Mapping[str, StreakRow],
        read_at: int,
        wall: float,
        zones: Mapping[str, str] = MappingProxyType({}),
    ) -> Merge:
        """Merge a complete answer of the database about some users.

        Args:
            asked: The users that were asked for.
            rows: The rows that came, by user.
            read_at: `head` when the read began: what changed later is not undone by it.
            wall: Now, in epoch seconds.
            zones: The zones of those without a row.

        Returns:
            What it did.
        """
        merge = Merge()
        for user_id in asked:
            row = rows.get(user_id)
            if row is not None:
                self._upsert(row, wall, merge, read_at=read_at)
            else:
                self._missing(user_id, wall, merge, read_at)
                entry = self._entries.get(user_id)
                if entry is not None and entry.row is None:
                    entry.zone = zones.get(user_id, entry.zone)
        return merge

    def _upsert(self, row: StreakRow, wall: float, merge: Merge, *, read_at: int | None) -> None:
        died = self._dead.get(row.id)
        if died is not None:
            if read_at is None or died > read_at:
                merge.verify.append(row.user_id)
                return
            del self._dead[row.id]  # put back by hand, under its old id
        entry = self._entries.get(row.user_id)
        old = entry.row if entry else None
        if entry is not None and old is not None:
            if old.id == row.id:
                if row.version > old.version:
                    merge.effects.append(self._accept(row.user_id, row, wall))
                elif entry.revives(wall):
                    merge.effects.append(self._accept(row.user_id, old, wall))
                return
            if read_at is None:
                # One of the two ids is the past: nearly always the one we have. Take the new one, and ask.
                merge.verify.append(row.user_id)
            elif entry.seq > read_at:
                merge.verify.append(row.user_id)
                return
            merge.effects.append(self._remove(row.user_id, old, wall))
        elif entry is not None and read_at is not None and entry.seq > read_at:
            # Deleted while the read was under way.
            merge.verify.append(row.user_id)
            return
        merge.effects.append(self._accept(row.user_id, row, wall))

    def _delete(self, row_id: str, wall: float, merge: Merge) -> None:
        user_id = self._user_of.get(row_id)
        old = self._entries[user_id].row if user_id is not None else None
        if user_id is not None and old is not None:
            merge.effects.append(self._remove(user_id, old, wall))
        else:
            self.head += 1  # so that a read that is under way counts as older than this death
            self._bury(row_id)

    def _missing(self, user_id: str, wall: float, merge: Merge, read_at: int) -> None:
        entry = self._entries.get(user_id)
        if entry is None:
            self._accept(user_id, None, wall)
        elif entry.row is not None:
            if entry.seq > read_at:
                merge.verify.append(user_id)
            else:
                merge.effects.append(self._remove(user_id, entry.row, wall))

    def _remove(self, user_id: str, old: StreakRow, wall: float) -> Effect:
        effect = self._accept(user_id, None, wall)
        self._bury(old.id)
        return effect

    def _bury(self, row_id: str) -> None:
        self._dead[row_id] = self.head
        if len(self._dead) > self._limit:
            self._dead.popitem(last=False)

    def _accept(self, user_id: str, row: StreakRow | None, wall: float) -> Effect:
        self.head += 1
        entry = self._entries.pop(user_id, None)  # and put back at the end: the order is that of seq
        before = entry.told if entry else None
        if entry is not None and entry.row is not None:
            self._user_of.pop(entry.row.id, None)
        deleted = row is None and before is not None and before != ABSENT
        died = self.head if deleted else entry.died if entry else 0
        self._entries[user_id] = Entry(
            row, self.head, before, entry.seq if entry else 0, row.streak_at(wall) if row else 0, died
        )
        if row is not None:
            self._user_of[row.id] = user_id
        if user_id not in self._follows:
            self._keep_recent(user_id)
        return Effect(self.head, user_id, row, before, deleted)

    def _keep_recent(self, user_id: str) -> None:
        self._recent[user_id] = None
        self._recent.move_to_end(user_id)
