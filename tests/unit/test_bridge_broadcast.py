from __future__ import annotations

import json
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


async def publish(answers: list[int | Exception], *batch: Message) -> tuple[list[Any], Counters]:
    """Publish to a Realtime that answers so; return what was posted, and the counts."""
    posted: list[Any] = []
    counters = Counters()

    def answer(request: httpx.Request) -> httpx.Response:
        assert str(request.url) == URL
        posted.append(json.loads(request.content)["messages"])
        result = answers[len(posted) - 1]
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


@pytest.mark.parametrize("failure", [503, 429, 401, httpx.ConnectError("ws://h?apikey=secret")])
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
    assert (counters.broadcast, counters.broadcast_errors) == (0, 1)


async def test_nothing_to_say_is_not_sent() -> None:
    """Without changes there is no request."""
    posted, _ = await publish([], Message(MessageType.STATE, "e", 0))
    assert posted == []
