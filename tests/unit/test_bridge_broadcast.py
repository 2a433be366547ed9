from __future__ import annotations

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from realtime_bridge.broadcast import Broadcaster
from realtime_bridge.messages import EventName, Message, MessageType, Streak
from realtime_bridge.metrics import Counters

URL = "https://project.example/realtime/v1/api/broadcast"
CHANGE = Message(MessageType.CHANGE, "e", 1, "ann", EventName.INCREMENTED, Streak(current_streak=2, version=2))
DELETE = Message(MessageType.DELETE, "e", 2, "bob")


Answers = list[int | Exception] | Callable[[list[Any]], int]


async def publish(answers: Answers, *batch: Message) -> tuple[list[Any], Counters]:
    """Publish to a Realtime that answers so; return what was posted, and the counts."""
    posted: list[Any] = []
    counters = Counters()

    def answer(request: httpx.Request) -> httpx.Response:
        assert str(request.url) == URL
        posted.append(json.loads(request.content)["messages"])
        result = answers(posted[-1]) if callable(answers) else answers[len(posted) - 1]
        if isinstance(result, Exception):
            raise result
        return httpx.Response(result)

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
        bridge: Any = SimpleNamespace(counters=counters)
        await Broadcaster(bridge, http, URL, first_pause=0.001).publish(batch)
    return posted, counters


async def test_changes_and_deletes_go_to_their_users_private_channels() -> None:
    """Each change and delete is one private message for its user; snapshots and states are nobody's news."""
    others = [Message(MessageType.SNAPSHOT, "e", 1, "ann", streak=Streak()), Message(MessageType.STATE, "e", 0)]
    (messages,), counters = await publish([202], CHANGE, *others, DELETE)
    assert [(one["topic"], one["event"], one["private"]) for one in messages] == [
        ("user:ann:streaks", "streak_updated", True),
        ("user:bob:streaks", "streak_updated", True),
    ]
    assert messages[0]["payload"] == CHANGE.as_dict()
    assert counters.broadcast == 2


@pytest.mark.parametrize("failure", [503, 429, 401, 404, httpx.ConnectError("ws://h?apikey=secret")])
async def test_what_could_not_be_sent_is_sent_again(failure: int | Exception, caplog: pytest.LogCaptureFixture) -> None:
    """A failure of Realtime or of the network loses no message, and is logged without its URL."""
    posted, counters = await publish([failure, failure, 202], CHANGE)
    assert posted[0] == posted[1] == posted[2]
    assert (counters.broadcast, counters.broadcast_errors) == (1, 2)
    assert "secret" not in caplog.text


async def test_a_batch_that_is_refused_for_good_holds_up_nothing() -> None:
    """What Realtime calls malformed is counted and given up, so that what follows is sent."""
    posted, counters = await publish([422], CHANGE)
    assert len(posted) == 1
    assert (counters.broadcast, counters.broadcast_errors, counters.broadcast_dropped) == (0, 1, 1)


@pytest.mark.parametrize("refusal", [400, 413, 422])
async def test_one_message_at_fault_takes_no_other_with_it(refusal: int) -> None:
    """A batch that Realtime refuses for good is sent in halves: all but the message at fault arrive, in order."""

    def judge(messages: list[Any]) -> int:
        return refusal if any(one["topic"] == "user:bad:streaks" for one in messages) else 202

    users = ["ann", "bob", "bad", "cem", "dan"]
    posted, counters = await publish(judge, *(Message(MessageType.DELETE, "e", 1, user) for user in users))
    taken = [one["topic"].split(":")[1] for messages in posted if judge(messages) == 202 for one in messages]
    assert taken == ["ann", "bob", "cem", "dan"]
    assert (counters.broadcast, counters.broadcast_dropped) == (4, 1)


async def test_after_a_reset_the_present_states_are_published() -> None:
    """Snapshots after a reset, up to the last of them, may say what was never published; others are no news."""
    batch = [
        Message(MessageType.RESET, "e", 0),
        Message(MessageType.SNAPSHOT, "e", 0, "ann", streak=Streak()),
        Message(MessageType.SNAPSHOT, "e", 7, "bob", streak=Streak()),
        Message(MessageType.SNAPSHOT, "e", 8, "cem", streak=Streak()),
    ]
    (messages,), _ = await publish([202], *batch)
    assert [one["topic"] for one in messages] == ["user:ann:streaks", "user:bob:streaks"]


async def test_nothing_to_say_is_not_sent() -> None:
    """Without changes there is no request."""
    posted, _ = await publish([], Message(MessageType.STATE, "e", 0))
    assert posted == []
