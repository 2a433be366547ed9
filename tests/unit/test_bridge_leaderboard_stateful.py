"""The leaderboard's followers under any schedule that hypothesis can think of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any
from unittest.mock import patch

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from realtime_bridge import leaderboard
from realtime_bridge.changes import Change, Delete, StreakRow, Upsert
from realtime_bridge.fanout import Moment
from realtime_bridge.listeners import Subscriber
from realtime_bridge.messages import BoardMessage, Place
from realtime_bridge.state import Merge
from tests.support.bridge_rows import make_hub, moment, row
from tests.support.leaderboard import Asked, answer_of

USERS = tuple("abcdefgh")
#: Never takes part, and must never be shown.
SHY = "e"
WINDOWS = ((0.0, 0.0), (1.0, 1.5))
users = st.sampled_from(USERS)


@dataclass
class Page:
    """A page with a leaderboard, that believes what it is told."""

    sub: Subscriber = field(repr=False)
    top: int
    board: list[Place] | None = None


class Boards(RuleBasedStateMachine):
    """Writes, lapses, deletes, opting out, messages late or lost, reads that overlap them, listeners of all kinds."""

    def __init__(self) -> None:
        super().__init__()
        # A pool hardly larger than the board: everything depends on who is just behind it.
        self.margin = patch.object(leaderboard, "_MARGIN", 1)
        self.margin.start()
        self.now = 0.0
        self.asked = Asked()
        self.hub = make_hub(board_wanted=self.asked)
        self.table: dict[str, StreakRow] = {}
        self.hidden = {SHY}
        self.wire: list[Change] = []
        self.read: list[Callable[[], None]] = []
        self.pages: list[Page] = []
        self.loses = False
        self.suspect = False
        self.ids = count(1)

    @property
    def at(self) -> Moment:
        """Now."""
        return moment(self.now)

    @initialize(
        loses=st.sampled_from((False, False, True)),
        streaks=st.lists(st.integers(0, 5), min_size=len(USERS), max_size=len(USERS)),
        tops=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    )
    def begin(self, loses: bool, streaks: list[int], tops: list[int]) -> None:  # noqa: FBT001 - hypothesis passes by name
        """Begin with listeners that have their board; where nothing goes unsaid, only wanted reads may be needed."""
        self.loses = loses
        for user, streak in zip(USERS, streaks, strict=True):
            if streak:
                self.write(user, streak, lapses=False, late=False)
        for top in tops:
            self.join(top, (0.0, 0.0))
        self.settle()

    # --- the database and the wire -----------------------------------------------------------------------------------

    @rule(user=users, streak=st.integers(0, 9), lapses=st.sampled_from((False, False, True)), late=st.booleans())
    def write(self, user: str, streak: int, lapses: bool, late: bool) -> None:  # noqa: FBT001 - hypothesis passes by name
        """Insert or update a row; the stream brings it at once or later."""
        old = self.table.get(user)
        changes: dict[str, Any] = {"expires_at": self.at.wall + 2.5} if lapses else {}
        made = row(user, old.version + 1 if old else 1, id=old.id if old else f"row-{next(self.ids)}", **changes)
        self.table[user] = row(user, made.version, id=made.id, run_length=streak, **changes)
        if late:
            self.wire.append(Upsert(self.table[user]))
        else:
            self.note(self.hub.apply(Upsert(self.table[user]), self.at))

    @precondition(lambda self: self.table)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        """Delete a row."""
        user = data.draw(st.sampled_from(sorted(self.table)))
        self.wire.append(Delete(self.table.pop(user).id))

    @precondition(lambda self: self.loses)
    @rule(user=users.filter(lambda user: user != SHY))
    def opt(self, user: str) -> None:
        """A user opts out or in again, of which no stream tells."""
        self.hidden ^= {user}
        self.suspect = True

    @precondition(lambda self: self.wire)
    @rule(data=st.data(), fate=st.sampled_from(("once", "once", "once", "again", "never")))
    def deliver(self, data: st.DataObject, fate: str) -> None:
        """Let the stream bring one of the next messages, or lose it."""
        index = data.draw(st.integers(0, min(len(self.wire) - 1, 3)))
        change = self.wire[index]
        if fate != "again":
            del self.wire[index]
        if fate == "never" and self.loses:
            self.suspect = True
        else:
            self.note(self.hub.apply(change, self.at))

    def note(self, merge: Merge) -> None:
        """Read again whom the core wants to have read again."""
        while merge.verify:
            merge = self.read_rows(merge.verify)

    def read_rows(self, asked: list[str]) -> Merge:
        """Let REST answer about users."""
        found = {user: self.table[user] for user in asked if user in self.table}
        return self.hub.apply_read(asked, found, self.hub.store.head, self.at, news=True)

    # --- reads of the leaderboard ------------------------------------------------------------------------------------

    @precondition(lambda self: self.asked or self.read)
    @rule()
    def read_on(self) -> None:
        """Let the database answer, or take the next step of a read: answers and what follows take their time."""
        if self.read:
            self.read.pop(0)()
            return
        self.asked.pop()
        limit = self.hub.leaderboard.begin()
        if limit:
            answer = answer_of(self.table, limit, self.at.wall, frozenset(self.hidden))
            self.read = [lambda: self.load(answer), lambda: self.hub.place(answer, limit, self.at)]

    def load(self, answer: list[Place]) -> None:
        """Read the rows that the answer named."""
        asked = self.hub.leaderboard.expect(answer)
        found = {user: self.table[user] for user in asked if user in self.table}
        self.note(self.hub.apply_read(asked, found, self.hub.store.head, self.at, news=False))

    # --- listeners -----------------------------------------------------------------------------------------------

    @rule(top=st.integers(1, 4), windows=st.sampled_from(WINDOWS))
    def join(self, top: int, windows: tuple[float, float]) -> None:
        """A listener comes."""
        sub = self.hub.add(None, top=top, debounce=windows[0], max_wait=windows[1], at=self.at, wake=lambda: None)
        self.pages.append(Page(sub, top))

    @precondition(lambda self: self.pages)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        """A listener goes."""
        self.hub.remove(self.pages.pop(data.draw(st.integers(0, len(self.pages) - 1))).sub)

    @precondition(lambda self: self.pages)
    @rule(data=st.data())
    def take(self, data: st.DataObject) -> None:
        """A listener reads."""
        self.hear(self.pages[data.draw(st.integers(0, len(self.pages) - 1))])

    def hear(self, page: Page) -> None:
        """Believe a board, and check what every board promises."""
        for message in self.hub.take(page.sub, 10, self.at):
            assert isinstance(message, BoardMessage)
            streaks = [place.current_streak for place in message.board]
            assert len(streaks) <= page.top
            assert SHY not in {place.user_id for place in message.board}
            assert [place.rank for place in message.board] == [
                1 + sum(other > streak for other in streaks) for streak in streaks
            ]
            assert list(message.board) == sorted(message.board, key=lambda p: (-p.current_streak, p.user_id))
            before, after = {p.user_id for p in page.board or ()}, {p.user_id for p in message.board}
            if page.board is None:
                assert message.entered is message.left is None
            else:
                assert list(message.board) != page.board, "nothing new"
                assert (set(message.entered or ()), set(message.left or ())) == (after - before, before - after)
            page.board = list(message.board)

    @rule(seconds=st.sampled_from((0.1, 0.5, 1.5)))
    def wait(self, seconds: float) -> None:
        """Let time pass; the hub is called when it asked to be."""
        until = self.now + seconds
        while (due := self.hub.next_due(self.at)) is not None and self.now + due <= until:
            self.now += due + 1e-6
            self.hub.tick(self.at)
        self.now = max(self.now, until)

    def teardown(self) -> None:
        """Once all messages came and the reads that were wanted are done, every board is the database's."""
        try:
            self.settle()
        finally:
            self.margin.stop()

    @rule()
    def settle(self) -> None:
        """Once all messages came and the reads that are wanted, and no others, are done, boards are the database's."""
        while self.wire:
            self.note(self.hub.apply(self.wire.pop(0), self.at))
        if self.suspect:
            # What the slow reconcile does: nothing else tells of a message that was lost, or of an opt-out.
            self.note(self.read_rows(list(USERS)))
            self.hub.leaderboard.doubt()
            self.suspect = False
        for _ in range(3):  # until all that lapses has lapsed, and left room for others
            self.wait(2.0)
            for _ in range(9):
                if self.asked or self.read:
                    self.read_on()
        self.wait(2.0)
        assert not self.read
        assert not self.asked, "reads without an end"
        for page in self.pages:
            self.hear(page)
            assert page.board == answer_of(self.table, page.top, self.at.wall, frozenset(self.hidden)), "not the board"


Boards.TestCase.settings = settings(
    max_examples=100,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


class TestEveryBoard(Boards.TestCase):  # type: ignore[valid-type,misc]
    """Every listener ends with the database's first places and ranks, and never sees a user who does not take part."""
