"""The heart of the bridge under any schedule that hypothesis can think of."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from realtime_bridge.changes import Change, Delete, StreakRow, Unreadable, Upsert
from realtime_bridge.fanout import Moment
from realtime_bridge.listeners import Subscriber
from realtime_bridge.messages import MessageType
from realtime_bridge.state import Merge
from tests.support.bridge_rows import make_hub, moment, row

USERS = ("ann", "bob", "cem")
WINDOWS = ((0.0, 0.0), (1.0, 1.5), (2.0, 2.0))
users = st.sampled_from(USERS)


@dataclass
class Client:
    """A listener as a page would write it: it believes what it is told."""

    sub: Subscriber = field(repr=False)
    users: tuple[str, ...] | None
    max_wait: float
    eager: bool
    versions: dict[str, int | None] = field(default_factory=dict)
    streaks: dict[str, int] = field(default_factory=dict)
    stale_since: dict[str, float] = field(default_factory=dict)
    seq: int | None = None


class Schedule(RuleBasedStateMachine):
    """Writes, deletes, messages late, twice, in any order or never, reads that overlap, listeners of all kinds."""

    recent_limit = 1000

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.set_by = 0.0
        self.deleted: set[str] = set()
        self.hub = make_hub(recent_limit=self.recent_limit)
        self.table: dict[str, StreakRow] = {}
        self.wire: list[Change] = []
        self.reads: list[tuple[list[str], dict[str, StreakRow], int, bool]] = []
        self.wanted: set[str] = set()
        self.clients: list[Client] = []
        self.gone: list[Client] = []
        self.ids = count(1)

    @property
    def at(self) -> Moment:
        """Now."""
        return Moment(self.now, moment(self.now).wall + self.set_by)

    # --- the database and the wire -----------------------------------------------------------------------------------

    @rule(user=users, lapsed=st.booleans())
    def write(self, user: str, lapsed: bool) -> None:  # noqa: FBT001 - hypothesis passes by name
        """Insert or update a row."""
        old = self.table.get(user)
        changes: dict[str, Any] = {"expires_at": self.at.wall + 2.5} if lapsed else {}
        if old is None:
            self.table[user] = row(user, 1, id=f"row-{next(self.ids)}", **changes)
        else:
            self.table[user] = row(user, old.version + 1, id=old.id, **changes)
        self.wire.append(Upsert(self.table[user]))

    @precondition(lambda self: self.table)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        """Delete a row."""
        user = data.draw(st.sampled_from(sorted(self.table)))
        self.deleted.add(user)
        self.wire.append(Delete(self.table.pop(user).id))

    @precondition(lambda self: self.wire)
    @rule(data=st.data(), fate=st.sampled_from(("once", "once", "once", "again", "never", "partial")))
    def deliver(self, data: st.DataObject, fate: str) -> None:
        """Let the stream bring one of the next messages, or lose it."""
        index = data.draw(st.integers(0, min(len(self.wire) - 1, 4)))
        change = self.wire[index]
        if fate != "again":
            del self.wire[index]
        if fate == "partial" and isinstance(change, Upsert):
            change = Unreadable(None, change.row.id)
        if fate != "never":
            self.note(self.hub.apply(change, self.at))

    @rule(asked=st.sets(users, min_size=1), news=st.booleans())
    def begin_read(self, asked: set[str], news: bool) -> None:  # noqa: FBT001
        """Let the database answer a read that is not merged yet."""
        # A load may only name users that a listener waits for; the rest is read because something is suspected.
        news = news or not asked <= {user for client in self.clients for user in client.sub.missing}
        self.begin(asked, news=news)

    @precondition(lambda self: self.reads)
    @rule(data=st.data())
    def finish_read(self, data: st.DataObject) -> None:
        """Merge one of the answers."""
        index = data.draw(st.integers(0, len(self.reads) - 1))
        self.finish(index)

    def begin(self, asked: set[str], *, news: bool) -> None:
        """Read users."""
        found = {user: self.table[user] for user in asked if user in self.table}
        self.reads.append((sorted(asked), found, self.hub.store.head, news))

    def finish(self, index: int) -> None:
        """Merge an answer."""
        asked, found, read_at, news = self.reads.pop(index)
        self.note(self.hub.apply_read(asked, found, read_at, self.at, news=news))

    def note(self, merge: Merge) -> None:
        """Remember whom the core wants to have read again."""
        self.wanted.update(merge.verify)

    # --- listeners -----------------------------------------------------------------------------------------------

    @rule(chosen=st.none() | st.sets(users, min_size=1), windows=st.sampled_from(WINDOWS), eager=st.booleans())
    def join(self, chosen: set[str] | None, windows: tuple[float, float], eager: bool) -> None:  # noqa: FBT001
        """A listener comes."""
        named = None if chosen is None else tuple(sorted(chosen))
        self.add(Client(self.subscribe(named, windows, None), named, windows[1], eager))

    @precondition(lambda self: self.clients)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        """A listener goes."""
        client = self.clients.pop(data.draw(st.integers(0, len(self.clients) - 1)))
        self.hub.remove(client.sub)
        self.gone.append(client)

    @precondition(lambda self: self.gone)
    @rule(windows=st.sampled_from(WINDOWS), eager=st.booleans())
    def come_back(self, windows: tuple[float, float], eager: bool) -> None:  # noqa: FBT001
        """A listener that went comes back with the id of its last message."""
        old = self.gone.pop()
        since = None if old.seq is None else ("e", old.seq)
        sub = self.subscribe(old.users, windows, since)
        if since is None:
            old.versions.clear()
        self.add(Client(sub, old.users, windows[1], eager, old.versions, old.streaks, seq=old.seq))

    @precondition(lambda self: self.clients)
    @rule(data=st.data(), limit=st.integers(1, 2))
    def reconnect(self, data: st.DataObject, limit: int) -> None:
        """A listener reads a little, loses its connection, and resumes."""
        client = self.clients[data.draw(st.integers(0, len(self.clients) - 1))]
        self.read(client, limit)
        if client.seq is not None:
            self.hub.remove(client.sub)
            windows = (client.sub.lane.window.debounce, client.sub.lane.window.max_wait)
            client.sub = self.subscribe(client.users, windows, ("e", client.seq))
            self.greet(client)

    def subscribe(
        self, named: tuple[str, ...] | None, windows: tuple[float, float], since: tuple[str, int] | None
    ) -> Subscriber:
        """Add a listener to the hub."""
        return self.hub.add(named, debounce=windows[0], max_wait=windows[1], at=self.at, wake=lambda: None, since=since)

    def add(self, client: Client) -> None:
        """Keep a listener in the game."""
        self.clients.append(client)
        self.greet(client)

    def greet(self, client: Client) -> None:
        """Where little is remembered, the snapshot of somebody forgotten before it is read is owed to nobody."""
        if client.users is None and self.recent_limit < len(USERS):
            self.read(client, 1000)

    @precondition(lambda self: self.clients)
    @rule(data=st.data(), limit=st.integers(1, 3))
    def take(self, data: st.DataObject, limit: int) -> None:
        """A listener reads a little."""
        self.read(self.clients[data.draw(st.integers(0, len(self.clients) - 1))], limit)

    def read(self, client: Client, limit: int) -> None:
        """Believe what the hub says, and check that nothing goes back."""
        for message in self.hub.take(client.sub, limit, self.at):
            assert message.seq >= (client.seq or 0) or message.type is MessageType.RESET
            client.seq = message.seq
            if message.type is MessageType.RESET:
                client.versions.clear()
            elif message.type is MessageType.DELETE:
                client.versions[str(message.user_id)] = None
            elif message.streak is not None:
                user, version = str(message.user_id), message.streak.version or None
                known = client.versions.get(user) if self.promised(client, user) else None
                assert known is None or (version is not None and version >= known), "a version went back"
                client.versions[user], client.streaks[user] = version, message.streak.current_streak

    def promised(self, client: Client, user: str) -> bool:
        """Whether a client hears of a user whatever happens: a DELETE names nobody, and may mean one forgotten."""
        return client.users is not None or self.recent_limit >= len(USERS) or user not in self.deleted

    # --- time and promises -----------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from((0.1, 0.5, 0.9, 1.5)))
    def wait(self, seconds: float) -> None:
        """Let time pass; the hub is called when it asked to be."""
        until = self.now + seconds
        while (due := self.hub.next_due(self.at)) is not None and self.now + due <= until:
            self.now += due + 1e-6
            self.hub.tick(self.at)
            self.look()
        self.now = max(self.now, until)

    @rule(seconds=st.sampled_from((-3.0, -0.5, 0.5, 3.0)))
    def set_clock(self, seconds: float) -> None:
        """The wall clock is set, and no other."""
        self.set_by += seconds
        # Not twice without a look between: a clock set forward and back unseen was never set.
        self.wait(1.0)

    @invariant()
    def look(self) -> None:
        """An eager listener differs from the bridge's own state for at most its max_wait."""
        for client in self.clients:
            if not client.eager:
                continue
            self.read(client, 1000)
            for user in USERS if client.users is None else client.users:
                entry = self.hub.store.get(user)
                version = entry.row.version if entry and entry.row else None
                if client.sub.missing or client.versions.get(user) == version or entry is None:
                    client.stale_since.pop(user, None)
                elif client.users is not None:
                    since = client.stale_since.setdefault(user, self.now)
                    assert self.now - since <= client.max_wait + 1e-3, "waited longer than max_wait"

    def teardown(self) -> None:
        """Once everything suspected was read, every listener has the database's state of every user it may see."""
        while self.reads:
            self.finish(0)
        # What the background reconcile does for ever: nothing depends on the wire having brought everything.
        self.wanted.update(USERS)
        for _ in range(10):
            if not self.wanted:
                break
            self.begin(self.wanted, news=True)
            self.wanted = set()
            self.finish(0)
        assert not self.wanted
        self.wait(60.0)
        for client in self.clients:
            self.read(client, 1000)
            for user in USERS if client.users is None else client.users:
                if self.promised(client, user):
                    self.compare(client, user)

    def compare(self, client: Client, user: str) -> None:
        """A client knows what the database holds, and what of it has lapsed."""
        held = self.table.get(user)
        assert client.versions.get(user) == (held and held.version), "not the final state"
        if held is not None and self.hub.store.get(user) is not None:
            assert client.streaks[user] == held.streak_at(self.at.wall), "not lapsed as the clock says"


class Forgetful(Schedule):
    """The same, where one user that nobody follows by name is remembered at most."""

    recent_limit = 1


def _examples(count: int) -> settings:
    return settings(
        max_examples=count,
        stateful_step_count=60,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )


Schedule.TestCase.settings = _examples(200)
Forgetful.TestCase.settings = _examples(60)


class TestEverySchedule(Schedule.TestCase):  # type: ignore[valid-type,misc]
    """Every listener ends with the newest version, sees none go back, and waits no longer than max_wait."""


class TestEveryScheduleWithLittleMemory(Forgetful.TestCase):  # type: ignore[valid-type,misc]
    """Whoever is forgotten was told before: no listener depends on how many users are remembered."""
