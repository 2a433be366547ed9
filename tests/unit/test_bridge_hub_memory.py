"""What listeners are promised although the bridge forgets users and clocks are set."""

from __future__ import annotations

import pytest

from realtime_bridge.changes import Delete, Upsert
from realtime_bridge.fanout import Moment
from realtime_bridge.messages import EventName, MessageType
from tests.support.bridge_rows import NOON, change, listen, make_hub, moment, read, row, summary

CROWD = [f"user-{number}" for number in range(5)]
DAY = 86_400.0


def test_who_is_held_back_is_not_forgotten() -> None:
    """More users than are remembered change in one window: all of them are told, and then memory is bounded again."""
    hub = make_hub(recent_limit=3)
    sub = listen(hub, None, debounce=2)
    for user in CROWD:
        change(hub, user, 1)
    hub.tick(moment(2))
    assert [message.user_id for message in read(hub, sub, 2)] == CROWD
    assert len(hub.store) == 3


def test_what_is_held_back_is_let_go_with_its_last_listener() -> None:
    """A window that closes without anybody to tell, or by a DELETE, keeps no user in memory."""
    hub = make_hub(recent_limit=1)
    sub = listen(hub, None, debounce=2)
    named = listen(hub, ["user-4"], debounce=1)
    for user in CROWD:
        change(hub, user, 1)
    hub.apply(Delete("row-user-0"), moment())
    for gone in (sub, named):
        hub.remove(gone)
    hub.tick(moment(2))
    assert len(hub.store) == 1


@pytest.mark.parametrize("debounce", [0, 2])
def test_who_is_read_together_is_told_before_anybody_is_forgotten(debounce: float) -> None:
    """One read that brings more users than are remembered is told whole."""
    hub = make_hub(recent_limit=1)
    sub = listen(hub, None, debounce=debounce)
    hub.apply_read(CROWD, {user: row(user) for user in CROWD}, hub.store.head, moment(), news=True)
    hub.tick(moment(2))
    assert [message.user_id for message in read(hub, sub, 2)] == CROWD


def test_a_change_outlives_the_snapshot_of_its_user() -> None:
    """A change that waits behind a snapshot is told although its user was forgotten before the snapshot was read."""
    hub = make_hub(recent_limit=1)
    change(hub, "ann", 1)
    sub = hub.add(None, debounce=0, max_wait=0, at=moment(), wake=lambda: None)
    change(hub, "ann", 2)
    change(hub, "bob", 1)
    assert summary(read(hub, sub)) == [("change", 2), ("change", 1)]


def test_a_delete_within_the_first_snapshots_claims_none_of_them() -> None:
    """Who loses the connection after a delete that came between the first snapshots begins anew."""
    hub = make_hub()
    change(hub, "ann", 1)
    change(hub, "bob", 1)
    sub = hub.add(None, debounce=0, max_wait=0, at=moment(), wake=lambda: None)
    hub.apply(Delete("row-ann"), moment())
    (gone,) = hub.take(sub, 1, moment())
    assert gone.type is MessageType.DELETE
    hub.remove(sub)
    again = listen(hub, None, since=("e", gone.seq))
    assert summary(read(hub, again)) == [("reset", None), ("snapshot", 1)]


def test_who_resumes_hears_of_the_delete_before_a_row_made_anew() -> None:
    """A row deleted and made anew while a listener was away comes back with its delete first, as to all others."""
    hub = make_hub()
    sub = listen(hub, ["ann"])
    change(hub, "ann", 5, id="old")
    (last,) = read(hub, sub)
    hub.remove(sub)
    hub.apply(Delete("old"), moment())
    change(hub, "ann", 1, id="new")
    change(hub, "ann", 2, id="new")
    again = listen(hub, ["ann"], since=("e", last.seq))
    first, second = read(hub, again)
    assert [first.type, second.type] == [MessageType.DELETE, MessageType.CHANGE]
    assert second.event is EventName.STARTED
    assert first.seq < second.seq


def test_a_clock_set_forward_and_back_leaves_nobody_wrong() -> None:
    """A lapse told by a wrong clock is taken back without a change, and the real one is told, to late comers too."""
    hub = make_hub()
    sub = listen(hub, ["ann"])
    change(hub, "ann", 3, expires_at=NOON + 60)
    read(hub, sub)
    hub.tick(Moment(1, NOON + 1 + 3 * DAY))
    assert [message.event for message in read(hub, sub, 1)] == [EventName.LAPSED]
    assert hub.next_due(Moment(1, NOON + 1 + 3 * DAY)) == 1.0
    hub.tick(moment(2))
    (alive,) = read(hub, sub, 2)
    assert alive.streak is not None
    assert (alive.streak.current_streak, alive.streak.version) == (3, 3)
    late = listen(hub, ["ann"], at=3)
    hub.tick(moment(60))
    for listener in (sub, late):
        (lapsed,) = read(hub, listener, 60)
        assert lapsed.event is EventName.LAPSED


def test_what_was_read_by_a_wrong_clock_is_put_right_by_the_next_read() -> None:
    """A row that came while the clock was ahead, and nobody saw it go back, is shown alive once it is read again."""
    hub = make_hub()
    sub = listen(hub, ["ann"])
    ann = row("ann", 3, expires_at=NOON + 60)
    for wall in (NOON + DAY, NOON):
        hub.apply_read(["ann"], {"ann": ann}, hub.store.head, Moment(0, wall), news=True)
    assert [message.streak and message.streak.current_streak for message in read(hub, sub)] == [3]
    hub.tick(moment(60))
    assert [message.event for message in read(hub, sub, 60)] == [EventName.LAPSED]


def test_who_is_held_back_while_the_clock_is_set_is_told() -> None:
    """A user first heard of within a window in which the clock was set is told when the window closes."""
    hub = make_hub()
    sub = listen(hub, None, debounce=10)
    hub.apply(Upsert(row("ann", 3, expires_at=NOON + 60)), Moment(0, NOON + DAY))
    hub.tick(Moment(1, NOON))
    hub.tick(Moment(2, NOON + 61))
    hub.tick(Moment(20, NOON + 79))
    assert summary(read(hub, sub, 20)) == [("change", 3)]
