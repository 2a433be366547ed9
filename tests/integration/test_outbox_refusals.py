"""What an outbox does with what failed: in a file or in a real Redis, nothing is refused without need or for good."""

from __future__ import annotations

from datetime import timedelta

import pytest

from streak_client import Outbox, _outbox
from tests.support.outboxes import (
    DOWN,
    NOW,
    ODD,
    REFUSED,
    Boxes,
    answer,
    box,
    boxes,
    ids,
    location,
    prepared,
    redis,
    settle,
)

__all__ = ["box", "boxes", "location", "redis"]


def test_what_became_of_entries(box: Outbox, caplog: pytest.LogCaptureFixture) -> None:
    """What was sent goes, what is refused is kept aside, and what failed with the service stays as it was."""
    for name in "abcd":
        box.put(prepared(name), DOWN, NOW)
    assert settle(box, None, "a")
    assert settle(box, REFUSED, "b")
    assert "1 activities in the outbox were REFUSED" in caplog.text
    assert not settle(box, DOWN, "c", "d")
    assert (ids(box), ids(box, refused=True), box.depth()) == (["c", "d"], ["b"], 2)
    assert [entry.attempts for entry in box.entries()] == [1, 1]
    (refused,) = box.entries(refused=True)
    assert (refused.error, refused.attempts, refused.refused) == ("USER_NOT_FOUND: nobody", 1, True)
    assert box.put(prepared("a"), DOWN, NOW), "its request id is free again"
    assert ids(box) == ["c", "d", "a"]


def test_what_fails_by_its_own_fault_is_not_sent_for_ever(box: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry that the database fails on is set aside after so many attempts, an outage never counts."""
    monkeypatch.setattr(_outbox, "ATTEMPTS", 2)
    for name in "ab":
        box.put(prepared(name), DOWN, NOW)
    for _ in range(2):
        settle(box, ODD, "a")
        settle(box, DOWN, "b")
    assert ids(box) == ["a", "b"]
    settle(box, ODD, "a")
    settle(box, DOWN, "b")
    assert (ids(box), ids(box, refused=True)) == (["b"], ["a"])


def test_an_outage_uses_up_no_attempts(box: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """After any number of failures of the service, an entry has all its own attempts left."""
    monkeypatch.setattr(_outbox, "ATTEMPTS", 2)
    box.put(prepared("a"), DOWN, NOW)
    for _ in range(5):
        settle(box, DOWN, "a")
    for _ in range(2):
        settle(box, ODD, "a")
        assert ids(box) == ["a"]
    assert box.entries()[0].attempts == 7


def test_who_is_refused_in_the_end_is_told_of(
    box: Outbox, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An entry that has used up its attempts is logged as refused, and then the drainer goes on."""
    monkeypatch.setattr(_outbox, "ATTEMPTS", 1)
    box.put(prepared("a"), DOWN, NOW)
    assert not settle(box, ODD, "a")
    assert "REFUSED" not in caplog.text
    assert settle(box, ODD, "a")
    assert "1 activities in the outbox were REFUSED" in caplog.text


def test_what_was_sent_moves_the_drainer_on(box: Outbox) -> None:
    """As long as anything leaves, what stays holds up nobody; when nothing does, the drainer waits."""
    for name in "abc":
        box.put(prepared(name), DOWN, NOW)
    both = {entry.id: answer(DOWN if entry.request_id == "a" else None) for entry in box.entries(2)}
    with box.draining():
        assert box.settle(both)
    assert not settle(box, DOWN, "a", "c")
    assert ids(box) == ["a", "c"]


def test_refused_entries_are_bounded_too(boxes: Boxes, caplog: pytest.LogCaptureFixture) -> None:
    """Of the refused entries the newest are kept, and dropping the others is logged as an error."""
    box = boxes(limit=2)
    for name in "abcd":
        box.put(prepared(name), DOWN, NOW)
        settle(box, REFUSED, name)
    assert ids(box, refused=True) == ["c", "d"]
    assert caplog.text.count("1 refused activities were DROPPED") == 2


@pytest.mark.parametrize("again", ["put", "hold"])
def test_a_repeat_of_a_refused_request_waits(box: Outbox, again: str) -> None:
    """Who repeats a request that was refused hears that it waits, and it does, as it was first written down."""
    box.put(prepared("a"), DOWN, NOW)
    box.put(prepared("b"), DOWN, NOW)
    settle(box, REFUSED, "a")
    if again == "put":
        assert box.put(prepared("a", zone="UTC"), DOWN, NOW + timedelta(hours=1))
    else:
        held = box.hold(prepared("a", zone="UTC"), NOW + timedelta(hours=1))
        assert (ids(box), ids(box, refused=True)) == (["b"], [])
        assert box.keep(held, prepared("a"), DOWN, NOW)
    assert (ids(box), ids(box, refused=True), box.depth()) == (["a", "b"], [], 2)
    (entry, _) = box.entries()
    assert (entry.prepared(), entry.queued_at) == (prepared("a"), NOW)
    assert (entry.attempts, entry.refused, entry.error) == (0, False, "CONNECTION_FAILED: gone")


def test_a_repeat_of_a_refused_request_that_finds_no_room_is_a_drop(
    boxes: Boxes, caplog: pytest.LogCaptureFixture
) -> None:
    """Where a refused request cannot wait again, nobody is told that it does."""
    box = boxes(limit=1)
    box.put(prepared("a"), DOWN, NOW)
    settle(box, REFUSED, "a")
    box.put(prepared("b"), DOWN, NOW)
    assert not box.put(prepared("a"), DOWN, NOW)
    assert "DROPPED" in caplog.text
    assert (ids(box), ids(box, refused=True)) == (["b"], ["a"])


def test_refused_entries_can_be_sent_again(boxes: Boxes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused entries wait again when they are told to, in their places, with new attempts, as many as have room."""
    monkeypatch.setattr(_outbox, "ATTEMPTS", 1)
    box = boxes(limit=3)
    for name in "abc":
        box.put(prepared(name), DOWN, NOW)
    settle(box, REFUSED, "a", "b")
    for _ in range(2):
        settle(box, ODD, "c")
    box.put(prepared("d"), DOWN, NOW)
    assert (ids(box), ids(box, refused=True)) == (["d"], ["a", "b", "c"])
    assert box.retry_refused() == 2
    assert (ids(box), ids(box, refused=True)) == (["a", "b", "d"], ["c"])
    assert box.retry_refused() == 0
    settle(box, None, "a", "b", "d")
    assert (box.retry_refused(), box.retry_refused()) == (1, 0)
    assert [(entry.request_id, entry.attempts) for entry in box.entries()] == [("c", 0)]
    settle(box, ODD, "c")
    assert ids(box) == ["c"], "its attempts begin anew"
