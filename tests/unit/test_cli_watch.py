"""What `streaks watch` knows and how it looks, without a bridge."""

from __future__ import annotations

import os
import re
from datetime import UTC
from io import StringIO
from uuid import UUID

import pytest
from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console

from streak_client.cli._watch_model import FEED_LINES, HOUR, MOST_USERS, WatchModel
from streak_client.cli._watch_view import Screen, render
from streak_client.cli.watch import has_screen
from tests.support.stack import ROOT

NOW = 1_795_356_000.0  # 2026-11-22 14:00 UTC
URL = "http://127.0.0.1:54330"
PICTURE = ROOT / "docs/images/watch.svg"
SNAPSHOTS = ROOT / "tests/data/watch"
UPDATE = bool(os.environ.get("UPDATE_WATCH_PICTURES"))
SIZES = [(120, 30), (80, 24), (46, 20), (30, 8)]


def user(number: int) -> str:
    """A user's id."""
    return str(UUID(int=(0x9E3779B97F4A7C15F39CC0605CEDC834 * (number + 1)) % 2**128))


def change(number: int, event: str, current: int) -> dict[str, object]:
    """A change as the bridge tells it."""
    streak = {"current_streak": current, "longest_streak": current + number, "is_active_today": current > 0}
    return {"type": "change", "user_id": user(number), "event": event, "streak": streak}


def board(*order: int) -> dict[str, object]:
    """A leaderboard as the bridge tells it."""
    places = [
        {"rank": rank, "user_id": user(number), "current_streak": 400 - 31 * rank, "is_active_today": bool(rank % 3)}
        for rank, number in enumerate(order, 1)
    ]
    return {"type": "board", "board": places}


def played() -> WatchModel:
    """A model that heard a lively minute."""
    model = WatchModel(NOW - 600)
    model.connected(NOW - 590)
    events = ["incremented", "milestone", "incremented", "lapsed", "incremented", "recovered", "reset", "started"]
    for number in range(24):
        event = events[number % len(events)]
        before = {"milestone": 29, "started": 0}.get(event, 7 * number + 3)
        after = {"lapsed": 0, "reset": 1}.get(event, before + 1)
        model.hear({**change(number, "", before), "type": "snapshot"}, NOW - 580)
        model.hear(change(number, event, after), NOW - 70 + 3 * number)
    model.hear_board(board(*range(12)), NOW - 60)
    model.hear_board(board(0, 2, 1, 3, 4, 13, *range(5, 11)), NOW - 5)
    model.hear_summary(
        {
            "counts": {"active": 8213, "active_today": 5170},
            "minute": {"incremented": 41, "started": 3, "reset": 2, "lapsed": 7},
            "hour": {"incremented": 2208, "started": 131, "reset": 64, "recovered": 5, "lapsed": 118},
        }
    )
    return model


def drawn(model: WatchModel, width: int, height: int, *, named: bool = False, encoding: str = "utf-8") -> Console:
    """Draw a model on a recording console."""
    console = Console(
        file=StringIO(),
        width=width,
        height=height,
        record=True,
        force_terminal=True,
        color_system="truecolor",
        legacy_windows=False,
    )
    screen = Screen(width, height, UTC, ascii_only=encoding == "ascii")
    console.print(render(model, screen, NOW, url=URL, named=named), height=height, end="")
    return console


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_it_looks_as_it_should(width: int, height: int) -> None:
    """At every size of a terminal the picture is the one that was looked at, and fits."""
    file = SNAPSHOTS / f"{width}x{height}.txt"
    text = drawn(played(), width, height).export_text()
    text = "\n".join(line.rstrip() for line in text.splitlines()) + "\n"
    if UPDATE:
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, encoding="utf-8")
    assert text == file.read_text(encoding="utf-8")
    assert len(text.splitlines()) == height
    assert max(map(len, text.splitlines())) <= width


def test_the_picture_of_the_readme_is_the_present_one() -> None:
    """docs/images/watch.svg shows what the command draws, and asks no other server for a font."""
    template = re.sub(r"@font-face {{.*?}}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    picture = drawn(played(), 120, 30).export_svg(title="streaks watch", code_format=template, unique_id="watch")
    if UPDATE:
        PICTURE.parent.mkdir(parents=True, exist_ok=True)
        PICTURE.write_text(picture, encoding="utf-8")
    assert PICTURE.read_text(encoding="utf-8") == picture
    assert "url(http" not in picture.replace("url(#", "")


def test_a_terminal_of_plain_letters_gets_plain_letters() -> None:
    """Where the terminal knows only ASCII, no character asks for more, but for the frames that rich replaces."""
    model = played()
    model.lost("ConnectError", NOW - 3)
    text = drawn(model, 120, 30, encoding="ascii").export_text()
    assert set(re.sub(r"[\u2500-\u257f]", "", text)) <= set(map(chr, range(128)))
    assert "offline" in text
    assert "ConnectError" in text


def test_markup_in_a_message_stays_text() -> None:
    """What the bridge sends is drawn as it is."""
    model = WatchModel(NOW)
    model.hear({"type": "state", "state": "[red]odd[/red]", "reason": "[bold]why"}, NOW)
    model.hear({**change(1, "[blink]x", 3), "user_id": "[link=x]me"}, NOW)
    text = drawn(model, 120, 30).export_text()
    assert all(part in text for part in ("[red]odd[/red]", "[bold]why", "[blink]x", "[link=x]me"))


def test_a_change_is_counted_once_where_the_bridge_counts_and_where_it_does_not() -> None:
    """Counters are the bridge's own if it tells them, else of what was heard; both forget after their window."""
    model = WatchModel(NOW)
    for second in range(0, 120, 10):
        model.hear(change(second, "incremented", 2), NOW + second)
    now = NOW + 119
    assert (model.total("increments", "minute", now), model.total("increments", "hour", now)) == (6, 12)
    assert model.total("increments", "hour", now + 3600) == 0
    model.hear_summary({"counts": {"active": 1, "active_today": 1}, "minute": {"started": 2}, "hour": {"milestone": 5}})
    assert (model.total("increments", "minute", now), model.total("increments", "hour", now)) == (2, 5)


def test_memory_is_bounded() -> None:
    """However long it runs, the feed, the users and the counters have an end."""
    model = WatchModel(NOW)
    for number in range(MOST_USERS + 100):
        model.hear(change(number, "incremented", 1), NOW + number)
    assert len(model.streaks) == MOST_USERS
    assert len(model.feed) == FEED_LINES
    assert len(model._seconds) == HOUR  # noqa: SLF001 - nothing shows it
    assert model.total("increments", "hour", NOW + MOST_USERS + 99) == HOUR


def test_named_users_come_instead_of_the_leaderboard() -> None:
    """Who watches users by name sees their streaks; who may not see the leaderboard, too; a deleted one is gone."""
    model = played()
    assert "Leaderboard" not in drawn(model, 120, 30, named=True).export_text()
    model.board = None
    text = drawn(model, 120, 30).export_text()
    assert "Streaks" in text
    assert user(23) in drawn(model, 160, 30).export_text()
    model.hear({"type": "delete", "user_id": user(23)}, NOW)
    assert user(23) not in model.streaks


def test_moves_are_of_the_last_half_minute() -> None:
    """A place that was gained or lost is marked for half a minute, and nobody is new on the first board."""
    model = WatchModel(NOW)
    model.hear_board(board(0, 1, 2), NOW)
    assert [place.move for place in model.places(NOW)] == [0, 0, 0]
    model.hear_board(board(2, 0, 5), NOW + 10)
    assert [place.move for place in model.places(NOW + 11)] == [2, -1, None]
    assert [place.move for place in model.places(NOW + 41)] == [0, 0, 0]


def test_a_screen_is_only_where_one_can_be_drawn() -> None:
    """A pipe and a terminal that only prints lines get one line for each change."""
    for forced, kind, expected in ((True, "xterm", True), (True, "dumb", False), (False, "xterm", False)):
        console = Console(file=StringIO(), force_terminal=forced, _environ={"TERM": kind})
        assert has_screen(console) is expected
