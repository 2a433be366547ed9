from __future__ import annotations

import asyncio
import json
import time
from datetime import UTC, date, datetime

from hypothesis import given
from hypothesis import strategies as st

from realtime_bridge.alarm import Alarm
from realtime_bridge.iteration import Wakeup
from realtime_bridge.messages import EventName, Message, MessageType, Streak, streak_of
from tests.support.bridge_rows import row


async def test_silence_rings_and_writing_puts_it_off() -> None:
    """A connection that has just written is not woken; one that is silent is, again and again, until it ends."""
    rung = asyncio.Event()
    with Alarm(3600.0, None, rung.set) as talkative:
        talkative._ring()  # noqa: SLF001 - its timer goes off
        assert not rung.is_set()
    with Alarm(0.05, None, rung.set) as alarm:
        for _ in range(2):
            rung.clear()
            await asyncio.wait_for(rung.wait(), 60)
            assert alarm.silent
            alarm.wrote()
    rung.clear()
    await asyncio.sleep(0.2)
    assert not rung.is_set()


async def test_the_end_of_a_token_rings() -> None:
    """A connection is woken when its token has expired, however talkative it is, and never without a token's end."""
    rung = asyncio.Event()
    with Alarm(None, time.time() + 0.2, rung.set) as alarm, Alarm(None, None, rung.set) as other:
        await asyncio.wait_for(rung.wait(), 60)
        assert (alarm.expired, other.expired) == (True, False)


async def test_a_wakeup_is_not_lost() -> None:
    """What was set before somebody waits lets the next wait return at once; one that waits goes on."""
    wakeup = Wakeup()
    wakeup.set()
    await asyncio.wait_for(wakeup.wait(), 60)
    wakeup.clear()
    waiting = asyncio.create_task(wakeup.wait())
    await asyncio.sleep(0)
    assert not waiting.done()
    wakeup.set()
    wakeup.set()
    await asyncio.wait_for(waiting, 60)


@given(
    streak=st.builds(
        Streak,
        current_streak=st.integers(0, 10**6),
        longest_streak=st.integers(0, 10**6),
        last_active_date=st.none() | st.dates(),
        timezone=st.none() | st.text(),
        is_active_today=st.booleans(),
        days_since_activity=st.none() | st.integers(0, 10**5),
        expires_at=st.none() | st.datetimes(timezones=st.just(UTC)),
        version=st.integers(0, 2**31),
    ),
    event=st.none() | st.sampled_from(EventName),
    kind=st.sampled_from((MessageType.SNAPSHOT, MessageType.CHANGE)),
)
def test_json_by_hand_is_json(streak: Streak, event: EventName | None, kind: MessageType) -> None:
    """The text that is put together by hand says what `as_dict` says, for every value."""
    message = Message(kind, "abc", 7, "0b7d1c0e-0000-4000-8000-000000000000", event, streak)
    assert json.loads(message.json) == message.as_dict()
    assert message.json == json.dumps(message.as_dict(), separators=(",", ":"))


@given(wall=st.floats(0, 4e9), zone=st.sampled_from(("UTC", "Asia/Kathmandu", "Pacific/Apia", "America/Havana")))
def test_today_is_the_local_date(wall: float, zone: str) -> None:
    """The date that is kept for a minute is the local date of every instant in it."""
    from zoneinfo import ZoneInfo  # noqa: PLC0415 - the other way to the same date

    streak = streak_of(row(timezone=zone, last_active_date=date(1990, 1, 1)), wall)
    today = datetime.fromtimestamp(wall, ZoneInfo(zone)).date()
    assert streak.days_since_activity == max((today - date(1990, 1, 1)).days, 0)
