"""The outbox keeps one contract, whether in a file or in a real Redis."""

from __future__ import annotations

import json
import logging
from datetime import timedelta
from itertools import pairwise

import pytest
from redis import Redis

from streak_client import ConfigurationError, Outbox, StreakClient, _outbox, _outbox_redis
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
from tests.support.processes import until
from tests.support.redis_server import RedisServer

__all__ = ["box", "boxes", "location", "redis"]


def test_what_is_kept_comes_back_as_it_was(boxes: Boxes) -> None:
    """Entries come back in their order with all that they had, for another process too."""
    activities = [
        prepared("a", 3, NOW - timedelta(days=9)),
        prepared("b ü 😀 \" '", 1, zone=None),
        prepared("c", 2),
    ]
    first, second = boxes(), boxes()
    assert [first.put(each, DOWN, NOW + timedelta(seconds=n)) for n, each in enumerate(activities)] == [True] * 3
    entries = second.entries()
    assert [entry.prepared() for entry in entries] == activities
    assert [entry.queued_at for entry in entries] == [NOW + timedelta(seconds=n) for n in range(3)]
    assert {(entry.error, entry.attempts, entry.refused) for entry in entries} == {
        ("CONNECTION_FAILED: gone", 0, False)
    }
    assert [entry.id for entry in entries] == sorted({entry.id for entry in entries})
    assert (second.depth(), ids(second, refused=True)) == (3, [])
    assert [entry.request_id for entry in second.entries(2)] == ["a", activities[1].request_id]
    json.dumps([entry.as_dict() for entry in entries])


def test_what_is_held_is_nobody_elses(boxes: Boxes) -> None:
    """An activity that is being sent is left to its sender, and waits only once it is released or long held."""
    mine, other = boxes(), boxes()
    held, gone = mine.hold(prepared("a"), NOW), mine.hold(prepared("b"), NOW)
    assert (ids(other), other.depth(), mine.due_in()) == ([], 0, None)
    assert 0 < (other.due_in() or 0) <= _outbox.LEASE
    mine.remove(gone)
    assert mine.release(held, DOWN)
    assert (ids(other), other.depth(), mine.due_in(), other.due_in()) == (["a"], 1, 0.0, 0.0)
    assert other.entries()[0].error == "CONNECTION_FAILED: gone"
    mine.remove(held)
    assert (other.due_in(), mine.release(held, None), mine.release(None, None)) == (None, False, False)


def test_what_the_dead_held_waits_after_a_while(boxes: Boxes, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a process held when it died is anybody's after a minute, and so is what a wrong clock held for years."""
    dead, heir = boxes(), boxes()
    dead.hold(prepared("a"), NOW)
    assert ids(heir) == []
    monkeypatch.setattr(_outbox, "LEASE", 0.0)
    assert (ids(heir), heir.depth(), heir.due_in()) == (["a"], 1, 0.0)


def test_the_same_request_waits_once(boxes: Boxes) -> None:
    """One user's request id is one entry, kept once however often it is put; another user's is another."""
    box, other = boxes(), boxes()
    assert box.put(prepared("a"), DOWN, NOW)
    assert other.put(prepared("a"), DOWN, NOW + timedelta(hours=1))
    assert other.put(prepared("a", user=2), DOWN, NOW)
    assert other.hold(prepared("a"), NOW) is None
    assert [entry.queued_at for entry in box.entries()] == [NOW, NOW]


def test_beyond_its_bound_it_drops_loudly(boxes: Boxes, caplog: pytest.LogCaptureFixture) -> None:
    """A full outbox drops what is new, says so, and has room again when something leaves."""
    box = boxes(limit=2)
    assert box.put(prepared("a"), DOWN, NOW)
    assert box.put(prepared("b"), DOWN, NOW)
    assert box.put(prepared("a"), DOWN, NOW)
    assert "DROPPED" not in caplog.text
    assert not box.put(prepared("c"), DOWN, NOW)
    assert not box.keep(box.hold(prepared("d"), NOW), prepared("d"), DOWN, NOW)
    assert caplog.text.count("DROPPED") == 2
    assert settle(box, REFUSED, "a")
    assert box.put(prepared("e"), DOWN, NOW)
    assert ids(box) == ["b", "e"]


def test_one_drains_at_a_time(boxes: Boxes) -> None:
    """Of all who use an outbox, only one drains at any moment."""
    first, second = boxes(), boxes()
    with first.draining() as mine:
        with second.draining() as theirs, first.draining() as again:
            assert (mine, theirs, again) == (True, False, False)
        with second.draining() as still:
            assert not still
    with second.draining() as later:
        assert later


def redis_boxes(server: RedisServer) -> tuple[Outbox, Outbox]:
    """Open an empty outbox in Redis twice."""
    with Redis.from_url(server.url) as client:
        client.flushall()
    return Outbox(server.url), Outbox(server.url)


def test_a_drainer_that_lost_its_claim_changes_no_attempts(redis: RedisServer) -> None:
    """Who was stopped for so long that another drains may still remove what was sent, but count no failure."""
    slow, quick = redis_boxes(redis)
    for name in "ab":
        slow.put(prepared(name), DOWN, NOW)
    with slow.draining() as first:
        sent, failed = slow.entries()
        with Redis.from_url(redis.url) as client:
            (claim,) = client.scan_iter("*:drainer")
            client.delete(claim)  # as if its time had passed
        with quick.draining() as second:
            assert (first, second) == (True, True)
            slow.settle({sent.id: answer(None), failed.id: answer(REFUSED)})
            (left,) = quick.entries()
            assert (left.request_id, left.attempts, left.error) == ("b", 0, "CONNECTION_FAILED: gone")
            quick.settle({failed.id: answer(REFUSED)})
        assert ids(quick, refused=True) == ["b"]
    slow.close()
    quick.close()


def test_a_claim_is_renewed_and_the_deads_expires(redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A drainer keeps its claim for as long as it lives, and another has it soon after its death."""
    monkeypatch.setattr(_outbox_redis, "CLAIM_SECONDS", 3.0)
    alive, other = redis_boxes(redis)
    with Redis.from_url(redis.url) as client:
        with alive.draining():
            (key,) = client.scan_iter("*:drainer")
            extended: list[int] = []

            def renewed() -> bool:
                left = client.pttl(key)
                assert isinstance(left, int)
                extended.append(left)
                # Time left only ever falls, but for a renewal.
                return sum(later > earlier for earlier, later in pairwise(extended)) >= 2

            assert until(renewed, 60)
            with other.draining() as theirs:
                assert not theirs
        client.set(key, "the token of one who died", px=2000)

    def free() -> bool:
        with other.draining() as mine:
            return mine

    assert not free()
    assert until(free, 60)
    alive.close()
    other.close()


def test_projects_share_a_redis_by_name(redis: RedisServer) -> None:
    """What follows # keeps two outboxes in one Redis apart."""
    one, two = Outbox(f"{redis.url}#one"), Outbox(f"{redis.url}#two")
    assert one.put(prepared("a"), DOWN, NOW)
    assert (ids(one), ids(two), two.depth(), two.due_in()) == (["a"], [], 0, None)
    one.close()
    two.close()


def test_nothing_is_left_behind_in_redis(redis: RedisServer) -> None:
    """Entries that were sent, refused and dropped leave no trace that grows, and no key is ever there."""
    box, other = redis_boxes(redis)
    for n in range(20):
        box.put(prepared(str(n)), DOWN, NOW)
        box.remove(box.hold(prepared(f"held {n}"), NOW))
    with box.draining():
        box.settle({entry.id: answer(ODD) for entry in box.entries()})
        box.settle({entry.id: answer(None) for entry in box.entries()})
    with Redis.from_url(redis.url, decode_responses=True) as client:
        assert [key.rpartition(":")[2] for key in client.scan_iter()] == ["sequence"]
    box.close()
    other.close()


def test_a_redis_that_forgets_is_told_of(redis: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    """A Redis without an append-only file is warned of once, when the first activity is written to it."""
    box, other = redis_boxes(redis)
    with caplog.at_level(logging.WARNING, "streak_client"):
        box.put(prepared("a"), DOWN, NOW)
        box.put(prepared("b"), DOWN, NOW)
    assert caplog.text.count("set appendonly yes, appendfsync always") == 1
    box.close()
    other.close()


@pytest.mark.parametrize(
    "url", ["redis://:hunter2@host:port/0", "redis://:hunter2@[::1/0", "redis://:hunter2@host/0?nonsense=1"]
)
def test_a_malformed_url_is_refused_and_not_shown(url: str) -> None:
    """A URL that is none is an error when the client is made, which does not repeat it."""
    with pytest.raises(ConfigurationError, match="outbox's Redis") as caught:
        StreakClient("http://streaks.test", "sb_secret_x", outbox=url)
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None
