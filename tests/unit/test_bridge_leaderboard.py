from __future__ import annotations

import json
from typing import Any

import pytest

from realtime_bridge.changes import Delete, StreakRow, Upsert
from realtime_bridge.hub import Hub
from realtime_bridge.listeners import Subscriber
from realtime_bridge.messages import BoardMessage
from tests.support.bridge_rows import make_hub, moment, row
from tests.support.leaderboard import Asked, answer_of


def board_hub(**limits: Any) -> tuple[Hub, Asked]:
    """A hub, and whether it wants the leaderboard to be read."""
    asked = Asked()
    return make_hub(board_wanted=asked, **limits), asked


def listen(hub: Hub, top: int, *, debounce: float = 0, at: float = 0) -> Subscriber:
    """Add a listener of the leaderboard."""
    return hub.add(None, top=top, debounce=debounce, max_wait=debounce, at=moment(at), wake=lambda: None)


def read_board(hub: Hub, table: dict[str, StreakRow], at: float = 0, hidden: frozenset[str] = frozenset()) -> int:
    """Let the database answer; return how many places were asked for."""
    limit = hub.leaderboard.begin()
    answer = answer_of(table, limit, moment(at).wall, hidden)
    users = hub.leaderboard.expect(answer)
    hub.apply_read(users, {user: table[user] for user in users}, hub.store.head, moment(at), news=False)
    hub.place(answer, limit, moment(at))
    return limit


def boards(hub: Hub, sub: Subscriber, at: float) -> list[BoardMessage]:
    """Let the windows pass and take what waits."""
    hub.tick(moment(at))
    return [message for message in hub.take(sub, 100, moment(at)) if isinstance(message, BoardMessage)]


def shown(message: BoardMessage) -> list[tuple[int, str, int]]:
    """Rank, user and streak of each place."""
    return [(place.rank, place.user_id, place.current_streak) for place in message.board]


def people(**streaks: int) -> dict[str, StreakRow]:
    """Rows with these streaks."""
    return {user: row(user, run_length=streak, version=1) for user, streak in streaks.items()}


def test_the_first_board_is_whole_and_ties_share_a_rank() -> None:
    """A listener waits for the first read, then has the first places as the database ranks them."""
    hub, asked = board_hub()
    sub = listen(hub, 3)
    assert asked.pop()
    assert boards(hub, sub, 0) == []
    read_board(hub, people(ann=5, bob=9, cem=5, dan=2))
    (board,) = boards(hub, sub, 0)
    assert shown(board) == [(1, "bob", 9), (2, "ann", 5), (2, "cem", 5)]
    assert (board.top, board.entered, board.left) == (3, None, None)


def test_a_change_on_the_board_is_told_without_asking_the_database() -> None:
    """Who rises on the board does so at once; those who come and go are named."""
    hub, asked = board_hub()
    table = people(ann=5, bob=9, cem=4, dan=2)
    sub = listen(hub, 2)
    read_board(hub, table)
    boards(hub, sub, 0)
    asked.pop()
    hub.apply(Upsert(row("cem", 2, run_length=10)), moment(1))
    (board,) = boards(hub, sub, 1.1)
    assert shown(board) == [(1, "cem", 10), (2, "bob", 9)]
    assert (board.entered, board.left) == (("cem",), ("ann",))
    assert not asked.pop()


def test_who_comes_from_outside_is_asked_for_first() -> None:
    """A stranger with a long streak is not shown before the database says that this user takes part."""
    hub, asked = board_hub()
    table = people(**{f"u{number:02}": 100 - number for number in range(30)})
    sub = listen(hub, 5)
    read_board(hub, table)
    before = shown(boards(hub, sub, 0)[0])
    asked.pop()
    table["zoe"] = row("zoe", 3, run_length=200)
    hub.apply(Upsert(table["zoe"]), moment(1))
    assert boards(hub, sub, 2) == []
    assert asked.pop()
    read_board(hub, table, 2, hidden=frozenset({"zoe"}))
    assert boards(hub, sub, 3) == []
    read_board(hub, table, 4)
    (board,) = boards(hub, sub, 5)
    assert shown(board) == [(1, "zoe", 200), *((rank + 1, user, days) for rank, user, days in before[:-1])]
    assert (board.entered, board.left) == (("zoe",), ("u04",))


def test_a_change_behind_the_board_asks_nothing() -> None:
    """Users who cannot be on the board cost no read."""
    hub, asked = board_hub()
    table = people(**{f"u{number:02}": 100 - number for number in range(30)})
    sub = listen(hub, 5)
    limit = read_board(hub, table)
    boards(hub, sub, 0)
    asked.pop()
    hub.apply(Upsert(row("u29", 2, run_length=100 - limit)), moment(1))
    assert not asked.pop()
    assert boards(hub, sub, 2) == []


def test_a_lapse_leaves_the_board_by_the_clock() -> None:
    """At expires_at a streak goes from the board, and the next one moves up, without any message or read."""
    hub, _ = board_hub()
    table = {**people(ann=5, bob=3), "cem": row("cem", run_length=9, expires_at=moment(10).wall)}
    sub = listen(hub, 2)
    read_board(hub, table)
    assert [user for _, user, _ in shown(boards(hub, sub, 0)[0])] == ["cem", "ann"]
    assert hub.next_due(moment(9.9)) is not None
    assert boards(hub, sub, 9.9) == []
    hub.tick(moment(10))
    (board,) = boards(hub, sub, 10.1)
    assert shown(board) == [(1, "ann", 5), (2, "bob", 3)]
    assert (board.entered, board.left) == (("bob",), ("cem",))


def test_nobody_behind_the_reach_of_the_answer_is_shown() -> None:
    """Who falls behind the last place that was read goes at once: others, unknown yet, may be before this user."""
    hub, asked = board_hub()
    table = people(**{f"u{number:02}": 100 - number for number in range(30)})
    sub = listen(hub, 11)
    read_board(hub, table)
    boards(hub, sub, 0)
    asked.pop()
    table["u00"] = row("u00", 2, run_length=1)
    hub.apply(Upsert(table["u00"]), moment(1))
    assert asked.pop()
    (board,) = boards(hub, sub, 2)
    assert board.left == ("u00",)
    assert [user for _, user, _ in shown(board)] == [f"u{number:02}" for number in range(1, 12)]
    hub.apply(Delete("row-u01"), moment(3))
    assert boards(hub, sub, 4)[0].left == ("u01",)


def test_an_unread_board_is_replaced() -> None:
    """A listener that does not read gets the latest board alone, compared with the last one that it did read."""
    hub, _ = board_hub()
    table = people(ann=5, bob=9, cem=4)
    sub = listen(hub, 2)
    read_board(hub, table)
    boards(hub, sub, 0)
    for version in range(2, 12):
        hub.apply(Upsert(row("cem", version, run_length=4 + version)), moment(version))
        hub.tick(moment(version + 0.5))
    (board,) = boards(hub, sub, 20)
    assert shown(board) == [(1, "cem", 15), (2, "bob", 9)]
    assert (board.entered, board.left) == (("cem",), ("ann",))
    assert hub.counters.conflated > 0


def test_a_board_that_is_the_same_again_is_not_told() -> None:
    """What changed and changed back while nobody read is no message."""
    hub, _ = board_hub()
    sub = listen(hub, 1)
    read_board(hub, people(ann=5, bob=4))
    boards(hub, sub, 0)
    day = row("ann", 1).last_active_date
    for at, version, streak in ((1, 2, 6), (2, 3, 5)):
        hub.apply(Upsert(row("ann", version, run_length=streak, longest_streak=1, last_active_date=day)), moment(at))
        hub.tick(moment(at + 0.5))
    assert boards(hub, sub, 5) == []


@pytest.mark.parametrize("listeners", [1, 500])
def test_the_work_does_not_grow_with_the_listeners(listeners: int) -> None:
    """Listeners of one size are told by one and the same message, made once, and cost one read in all."""
    hub, asked = board_hub()
    table = people(**{f"u{number:02}": 100 - number for number in range(30)})
    subs = [listen(hub, 10) for _ in range(listeners)]
    read_board(hub, table)
    first = {id(boards(hub, sub, 0)[0]) for sub in subs}
    asked.pop()
    hub.apply(Upsert(row("u09", 2, run_length=300)), moment(1))
    second = {id(boards(hub, sub, 2)[0]) for sub in subs}
    assert (len(first), len(second), asked.pop()) == (1, 1, False)


def test_a_board_changes_at_most_twenty_times_a_second() -> None:
    """Without debounce a thousand changes in a second are at most twenty-one boards."""
    hub, _ = board_hub()
    sub = listen(hub, 1)
    read_board(hub, people(ann=5))
    boards(hub, sub, 0)
    told = 0
    for number in range(1000):
        hub.apply(Upsert(row("ann", 2 + number, run_length=6 + number)), moment(1 + number / 1000))
        told += len(boards(hub, sub, 1 + number / 1000))
    told += len(boards(hub, sub, 3))
    assert 10 < told <= 21


def test_debounce_holds_boards_back() -> None:
    """A listener's debounce and max_wait hold for the board as a whole."""
    hub, _ = board_hub()
    quick, slow = listen(hub, 1), listen(hub, 1, debounce=2)
    read_board(hub, people(ann=5))
    for sub in (quick, slow):
        assert len(boards(hub, sub, 0)) == 1
    hub.tick(moment(5))  # the read itself opened windows
    hub.apply(Upsert(row("ann", 2, run_length=6)), moment(10))
    assert (len(boards(hub, quick, 11)), len(boards(hub, slow, 11))) == (1, 0)
    assert len(boards(hub, slow, 12)) == 1


def test_a_bigger_board_is_read_for_who_wants_it() -> None:
    """Listeners of several sizes share one read as large as the largest, and one who wants more waits for it."""
    hub, asked = board_hub()
    table = people(**{f"u{number:02}": 100 - number for number in range(60)})
    small = listen(hub, 2)
    assert read_board(hub, table) == 12
    asked.pop()
    large = listen(hub, 40)
    assert asked.pop()
    assert boards(hub, large, 1) == []
    assert read_board(hub, table, 1) == 50
    assert (len(boards(hub, small, 2)[0].board), len(boards(hub, large, 2)[0].board)) == (2, 40)
    hub.remove(large)
    assert hub.leaderboard.begin() == 12


def test_nothing_is_kept_when_the_last_listener_goes() -> None:
    """Without listeners no row is held for the board, and no read is wanted or believed."""
    hub, asked = board_hub(recent_limit=3)
    table = people(**{f"u{number:02}": 100 - number for number in range(30)})
    sub = listen(hub, 20)
    read_board(hub, table)
    assert len(hub.store) == 30
    limit = hub.leaderboard.begin()
    hub.remove(sub)
    asked.pop()
    assert len(hub.store) <= 3
    assert hub.leaderboard.expect(answer_of(table, limit, moment().wall)) == []
    hub.place(answer_of(table, limit, moment().wall), limit, moment())
    hub.leaderboard.doubt()
    assert not asked.pop()
    again = listen(hub, 1)
    assert again.missing == {"top:1"}


def test_a_change_during_a_read_is_not_forgotten() -> None:
    """Somebody who rises while the database answers, and is not in its answer, makes it be asked again."""
    hub, asked = board_hub()
    table = people(**{f"u{number:02}": 100 - number for number in range(30)})
    listen(hub, 5)
    limit = hub.leaderboard.begin()
    answer = answer_of(table, limit, moment().wall)
    users = hub.leaderboard.expect(answer)
    hub.apply_read(users, {user: table[user] for user in users}, hub.store.head, moment(), news=False)
    hub.apply(Upsert(row("u29", 2, run_length=500)), moment())
    asked.pop()
    hub.place(answer, limit, moment())
    assert asked.pop()


def test_the_message_says_what_get_streak_leaderboard_says() -> None:
    """As JSON a board has the columns of the function, and names who entered and left from the second on."""
    hub, _ = board_hub()
    sub = listen(hub, 2)
    read_board(hub, people(ann=5))
    first = json.loads(boards(hub, sub, 0)[0].json)
    assert first == {
        "type": "board",
        "epoch": "e",
        "seq": first["seq"],
        "top": 2,
        "board": [
            {
                "rank": 1,
                "user_id": "ann",
                "current_streak": 5,
                "longest_streak": 1,
                "last_active_date": "2026-03-04",
                "is_active_today": True,
            }
        ],
    }
    hub.apply(Delete("row-ann"), moment(1))
    second = json.loads(boards(hub, sub, 2)[0].json)
    assert (second["board"], second["entered"], second["left"]) == ([], [], ["ann"])
    assert second["seq"] > first["seq"]
