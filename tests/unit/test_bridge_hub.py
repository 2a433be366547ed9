from __future__ import annotations

import pytest

from realtime_bridge.changes import Change, Delete, Upsert
from realtime_bridge.listeners import CLOSE_SLOW
from realtime_bridge.messages import EventName, MessageType
from tests.support.bridge_rows import NOON, change, listen, make_hub, moment, read, row, summary


def test_a_user_without_a_row_gets_zeros() -> None:
    """The snapshot of a user without a streak says zeros and nulls, as get_user_streak does."""
    hub = make_hub()
    sub = hub.add(["ann"], debounce=0, max_wait=0, at=moment(), wake=lambda: None)
    assert sub.missing == {"ann"}
    hub.apply_read(["ann"], {}, 0, moment(), news=False)
    (message,) = read(hub, sub)
    assert message.type is MessageType.SNAPSHOT
    assert message.streak is not None
    assert (message.streak.current_streak, message.streak.last_active_date, message.streak.version) == (0, None, 0)


def test_a_listener_hears_only_of_its_users() -> None:
    """A change reaches those who follow the user, and those who follow everybody, and nobody else."""
    hub = make_hub()
    ann, bob, all_ = listen(hub, ["ann"]), listen(hub, ["bob"]), listen(hub, None)
    change(hub, "ann", 1)
    assert [len(read(hub, sub)) for sub in (ann, bob, all_)] == [1, 0, 1]


def test_a_duplicate_and_an_older_version_are_not_delivered() -> None:
    """Only a newer version is a change."""
    hub = make_hub()
    sub = listen(hub, ["ann"])
    for version in (2, 2, 1):
        change(hub, "ann", version)
    assert summary(read(hub, sub)) == [("change", 2)]
    assert hub.counters.stale == 2


def test_without_debounce_every_change_is_told() -> None:
    """Debounce 0 means every change, in order, to a listener that reads."""
    hub = make_hub()
    sub = listen(hub, ["ann"])
    versions = []
    for version in range(1, 6):
        change(hub, "ann", version)
        versions += summary(read(hub, sub))
    assert versions == [("change", version) for version in range(1, 6)]


def test_debounce_tells_the_last_state_once() -> None:
    """A burst becomes one message with the final state, and what was merged is counted."""
    hub = make_hub()
    sub = listen(hub, ["ann"], debounce=2, max_wait=5)
    for version in range(1, 6):
        change(hub, "ann", version, at=version / 10)
    hub.tick(moment(2.4))
    assert read(hub, sub, 2.4) == []
    hub.tick(moment(2.5))
    (message,) = read(hub, sub, 2.5)
    assert message.streak is not None
    assert message.streak.version == 5
    assert message.event is EventName.STARTED
    assert hub.counters.debounced == 4


def test_a_delete_overtakes_what_is_held_back() -> None:
    """A DELETE is told at once and the change it made pointless is not told after it."""
    hub = make_hub()
    sub = listen(hub, ["ann"], debounce=2)
    change(hub, "ann", 1)
    hub.apply(Delete("row-ann"), moment(0.1))
    assert summary(read(hub, sub, 0.1)) == [("delete", None)]
    hub.tick(moment(10))
    assert read(hub, sub, 10) == []


def test_a_new_row_after_a_delete_has_a_window_of_its_own() -> None:
    """What a DELETE made pointless does not shorten the quiet time of what comes after it."""
    hub = make_hub()
    sub = listen(hub, ["ann"], debounce=2, max_wait=2)
    change(hub, "ann", 1, id="old")
    hub.apply(Delete("old"), moment(0.1))
    change(hub, "ann", 1, at=1.9, id="new")
    hub.tick(moment(2.5))
    assert summary(read(hub, sub, 2.5)) == [("delete", None)]
    hub.tick(moment(3.9))
    assert summary(read(hub, sub, 3.9)) == [("change", 1)]


def test_an_unread_delete_survives_a_new_row() -> None:
    """A slow listener still learns that a row was deleted although the user has a new one since."""
    hub = make_hub()
    sub = listen(hub, ["ann"])
    change(hub, "ann", 4, id="old")
    hub.apply(Delete("old"), moment())
    change(hub, "ann", 1, id="new")
    messages = read(hub, sub)
    assert summary(messages) == [("delete", None), ("change", 1)]
    assert messages[1].event is EventName.STARTED


def test_a_row_made_anew_wins_with_a_lower_version() -> None:
    """When the DELETE was lost, another id for the user still replaces the old row, and the user is verified."""
    hub = make_hub()
    sub = listen(hub, ["ann"])
    change(hub, "ann", 9, id="old")
    read(hub, sub)
    merge = hub.apply(Upsert(row("ann", 1, id="new")), moment())
    assert summary(read(hub, sub)) == [("delete", None), ("change", 1)]
    assert merge.verify == ["ann"]


def test_a_deleted_row_does_not_come_back_by_a_late_message() -> None:
    """A message that DELETE overtook does not raise the dead: the database is asked."""
    hub = make_hub()
    sub = listen(hub, ["ann"])
    hub.apply(Delete("row-ann"), moment())
    merge = hub.apply(Upsert(row("ann", 3)), moment())
    assert merge.verify == ["ann"]
    assert read(hub, sub) == []


def test_a_read_does_not_raise_what_was_deleted_meanwhile() -> None:
    """A row that was read before its DELETE arrived, and merged after it, is asked for again and not shown."""
    hub = make_hub()
    sub = hub.add(["ann"], debounce=0, max_wait=0, at=moment(), wake=lambda: None)
    read_at = hub.store.head
    hub.apply(Delete("row-ann"), moment())
    merge = hub.apply_read(["ann"], {"ann": row("ann", 3)}, read_at, moment(), news=False)
    assert merge.verify == ["ann"]
    assert read(hub, sub) == []
    hub.apply_read(["ann"], {}, hub.store.head, moment(), news=True)
    assert summary(read(hub, sub)) == [("snapshot", 0)]


def test_a_followed_user_missing_in_a_read_is_a_delete() -> None:
    """A DELETE that never came is found by reading, unless the user changed while the read was under way."""
    hub = make_hub()
    sub = listen(hub, ["ann"])
    change(hub, "ann", 1)
    read(hub, sub)
    before = hub.store.head
    change(hub, "ann", 2)
    assert hub.apply_read(["ann"], {}, before, moment(), news=True).verify == ["ann"]
    assert summary(read(hub, sub)) == [("change", 2)]
    hub.apply_read(["ann"], {}, hub.store.head, moment(), news=True)
    assert summary(read(hub, sub)) == [("delete", None)]


def test_the_lapse_is_told_by_the_clock_and_only_once() -> None:
    """At expires_at listeners hear `lapsed` with the same version; the sweep's later change is no second lapse."""
    hub = make_hub()
    sub = listen(hub, ["ann"])
    change(hub, "ann", 3, expires_at=NOON + 60)
    read(hub, sub)
    hub.tick(moment(59.9))
    assert read(hub, sub, 59.9) == []
    hub.tick(moment(60))
    (lapsed,) = read(hub, sub, 60)
    assert lapsed.event is EventName.LAPSED
    assert lapsed.streak is not None
    assert (lapsed.streak.version, lapsed.streak.current_streak) == (3, 0)
    change(hub, "ann", 4, at=61, run_length=3, expires_at=NOON + 60)
    (swept,) = read(hub, sub, 61)
    assert swept.event is EventName.UPDATED


def test_a_clock_set_forward_tells_the_lapse_within_a_second() -> None:
    """The hub asks to be called every second while a lapse is ahead, since the wall clock may jump."""
    hub = make_hub()
    listen(hub, ["ann"])
    change(hub, "ann", 1, expires_at=NOON + 86_400)
    assert hub.next_due(moment()) == 1.0


def test_a_listener_that_does_not_read_gets_the_latest_state_of_each_user() -> None:
    """A slow listener's mailbox holds one state per user, its event spans all it missed, and merges are counted."""
    hub = make_hub()
    sub = listen(hub, ["ann", "bob"])
    for version in range(1, 9):
        change(hub, "ann", version)
    change(hub, "bob", 1)
    messages = read(hub, sub)
    assert summary(messages) == [("change", 8), ("change", 1)]
    assert messages[0].event is EventName.STARTED
    assert hub.counters.conflated == 7


def test_a_listener_that_stays_slow_is_closed() -> None:
    """Unread mail for longer than slow_after closes the listener with a code, and others are untouched."""
    hub = make_hub(slow_after=30)
    slow, quick = listen(hub, ["ann"]), listen(hub, ["ann"])
    change(hub, "ann", 1)
    read(hub, quick)
    hub.tick(moment(29))
    assert slow.unread == 1
    hub.tick(moment(30))
    assert slow.closed is not None
    assert slow.closed.code == CLOSE_SLOW
    assert quick.closed is None
    assert (hub.counters.slow, hub.counters.dropped) == (1, 1)


def test_a_listener_with_nothing_to_read_is_not_slow() -> None:
    """Silence on the wire is no fault of the listener."""
    hub = make_hub(slow_after=30)
    sub = listen(hub, ["ann"])
    hub.tick(moment(1000))
    assert sub.closed is None


def test_a_mailbox_is_bounded() -> None:
    """More unread users than the limit closes the listener instead of growing for ever."""
    hub = make_hub(mailbox_limit=3)
    sub = listen(hub, None)
    for number in range(4):
        change(hub, f"user-{number}", 1)
    assert sub.closed is not None
    assert sub.closed.code == CLOSE_SLOW


def test_a_resuming_listener_gets_what_it_missed() -> None:
    """From the last message's seq on, exactly what changed since then comes, deletes included, and no snapshot."""
    hub = make_hub()
    sub = listen(hub, ["ann", "bob", "cem"])
    for user in ("ann", "bob", "cem"):
        change(hub, user, 1)
    last = read(hub, sub)[-1]
    hub.remove(sub)
    change(hub, "ann", 2)
    hub.apply(Delete("row-bob"), moment())
    again = listen(hub, ["ann", "bob", "cem"], since=("e", last.seq))
    messages = read(hub, again)
    assert summary(messages) == [("change", 2), ("delete", None)]
    assert messages[0].event is EventName.INCREMENTED


def test_resuming_between_debounced_messages_loses_nothing() -> None:
    """A message that was sent while another user was held back does not let a resume skip that user."""
    hub = make_hub()
    sub = listen(hub, ["ann", "bob"], debounce=1, max_wait=10)
    change(hub, "ann", 1, at=0)
    change(hub, "bob", 1, at=0.1)
    change(hub, "ann", 2, at=0.9)
    hub.tick(moment(1.1))
    (bob,) = read(hub, sub, 1.1)
    assert bob.user_id == "bob"
    hub.remove(sub)
    again = listen(hub, ["ann", "bob"], at=1.2, since=("e", bob.seq))
    assert ("change", 2) in summary(read(hub, again))


def test_resuming_in_the_middle_of_a_batch_loses_nothing() -> None:
    """When one read brought many changes, the first message's id does not claim the others."""
    hub = make_hub()
    sub = listen(hub, None)
    hub.apply_read(["ann", "bob"], {"ann": row("ann"), "bob": row("bob")}, hub.store.head, moment(), news=True)
    (first,) = hub.take(sub, 1, moment())
    hub.remove(sub)
    again = listen(hub, None, since=("e", first.seq))
    assert "bob" in [message.user_id for message in read(hub, again)]


@pytest.mark.parametrize("latest", [Upsert(row("ann", 2)), Delete("row-ann")])
def test_resuming_after_a_merged_message_loses_nothing(latest: Change) -> None:
    """A message that was replaced by a later one keeps its place in the queue, and so its id: others come after it."""
    hub = make_hub()
    sub = listen(hub, ["ann", "bob"])
    change(hub, "ann", 1)
    change(hub, "bob", 1)
    hub.apply(latest, moment())
    (first,) = hub.take(sub, 1, moment())
    assert first.user_id == "ann"
    hub.remove(sub)
    again = listen(hub, ["ann", "bob"], since=("e", first.seq))
    assert "bob" in [message.user_id for message in read(hub, again)]


def test_resuming_from_another_run_or_too_long_ago_is_a_reset() -> None:
    """Where it is not known what was missed, the listener is told so and gets a fresh snapshot."""
    hub = make_hub(recent_limit=1)
    change(hub, "ann", 1)
    change(hub, "bob", 1)
    for since in (("other", 1), ("e", 0), ("e", 99)):
        sub = hub.add(None, debounce=0, max_wait=0, at=moment(), wake=lambda: None, since=since)
        assert [message.type for message in read(hub, sub)] == [MessageType.RESET, MessageType.SNAPSHOT]


def test_resuming_in_the_middle_of_the_first_snapshots_begins_anew() -> None:
    """Who lost the connection before the last snapshot gets a reset and a snapshot of each user, and no event."""
    hub = make_hub()
    change(hub, "ann", 1)
    first = hub.add(["ann", "bob"], debounce=0, max_wait=0, at=moment(), wake=lambda: None)
    hub.apply_read(["bob"], {}, hub.store.head, moment(), news=False, zones={"bob": "UTC"})
    (sent,) = hub.take(first, 1, moment())
    hub.remove(first)
    again = listen(hub, ["ann", "bob"], since=("e", sent.seq))
    assert summary(read(hub, again)) == [("reset", None), ("snapshot", 1), ("snapshot", 0)]


def test_memory_is_bounded_by_what_is_followed() -> None:
    """Rows of users whom nobody follows are dropped beyond the limit; those that somebody follows never are."""
    hub = make_hub(recent_limit=10)
    listen(hub, ["ann"])
    change(hub, "ann", 1)
    for number in range(100):
        change(hub, f"user-{number}", 1)
    assert len(hub.store) == 11
    assert hub.store.get("ann") is not None


def test_a_user_who_only_became_known_is_no_news() -> None:
    """Loading a row for one listener shows it to those who follow everybody as a snapshot, not as an event."""
    hub = make_hub()
    all_ = listen(hub, None)
    hub.add(["ann"], debounce=0, max_wait=0, at=moment(), wake=lambda: None)
    hub.apply_read(["ann"], {"ann": row("ann", 1)}, 0, moment(), news=False)
    (message,) = read(hub, all_)
    assert (message.type, message.event) == (MessageType.SNAPSHOT, None)


def test_a_listener_that_goes_leaves_nothing_behind() -> None:
    """Removing listeners frees their lanes, routes and rows."""
    hub = make_hub(recent_limit=1)
    subs = [listen(hub, [f"user-{number}"], debounce=number) for number in range(20)]
    for sub in subs:
        hub.remove(sub)
        hub.remove(sub)
    change(hub, "user-3", 1)
    assert hub.next_due(moment()) is None
    assert (len(hub.subscribers), len(hub.store)) == (0, 1)
