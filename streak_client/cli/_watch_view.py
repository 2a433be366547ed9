"""How ``streaks watch`` looks in a terminal of any size."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, tzinfo
from itertools import islice
from typing import Literal, TypeVar

from rich.console import RenderableType
from rich.layout import Layout
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from streak_client.cli._common import UUID_LENGTH
from streak_client.cli._watch_model import COUNTED, FeedLine, Place, WatchModel

T = TypeVar("T")

WIDE = 104
SHORT_ID = 8
# Below these a panel would push out what matters more: the feed.
LEAST_HEIGHT_FOR_COUNTERS = 12
LEAST_HEIGHT_FOR_BOARD = 11
# The feed with whole ids, and a leaderboard with short ones.
FEED_WIDTH = 78
BOARD_WIDTH = 44
NARROW = 44
LEAST_WIDTH_FOR_COUNTS = 60
COLOURS = {
    "started": "green",
    "incremented": "green",
    "milestone": "bold magenta",
    "recovered": "cyan",
    "reset": "yellow",
    "lapsed": "red",
    "delete": "red",
}
_STATES = {"live": "bold green", "connecting": "yellow", "offline": "bold red", "degraded": "bold red"}


@dataclass(frozen=True, slots=True)
class Screen:
    """Where it is shown.

    Attributes:
        width: Columns.
        height: Lines.
        zone: In which times are told; None: the machine's.
        ascii_only: Whether the terminal knows nothing else.
    """

    width: int
    height: int
    zone: tzinfo | None = None
    ascii_only: bool = False

    @property
    def wide(self) -> bool:
        """Whether feed and leaderboard fit side by side."""
        return self.width >= WIDE

    @property
    def narrow(self) -> bool:
        """Whether there is only room for the essence."""
        return self.width < NARROW

    def clock(self, at: float) -> str:
        """The time of day of an instant."""
        return f"{datetime.fromtimestamp(at, UTC).astimezone(self.zone):%H:%M:%S}"

    def user(self, user_id: str, room: int) -> Text:
        """A user's id, in one piece: whole where there is room, else its beginning."""
        # As Text, because a table takes a plain string for markup.
        if room >= UUID_LENGTH:
            return Text(user_id)
        return Text(user_id[:SHORT_ID] + self.sign("…", "."))

    def sign(self, fine: str, plain: str) -> str:
        """A character that the terminal can show."""
        return plain if self.ascii_only else fine


def render(model: WatchModel, screen: Screen, now: float, *, url: str, named: bool) -> RenderableType:
    """Draw everything.

    Args:
        model: What is known.
        screen: Where it is shown.
        now: Epoch seconds.
        url: The bridge.
        named: Whether users were named: then their streaks come instead of the leaderboard.

    Returns:
        A layout that fills the screen.
    """
    root = Layout()
    rows = [Layout(_header(model, screen, now, url), size=1)]
    if screen.height >= LEAST_HEIGHT_FOR_COUNTERS:
        rows.append(Layout(_counters(model, screen, now), size=len(COUNTED) + 3))
    rest = screen.height - sum(row.size or 0 for row in rows)
    root.split_column(*rows, _body(model, replace(screen, height=rest), now, named=named))
    return root


def _body(model: WatchModel, screen: Screen, now: float, *, named: bool) -> Layout:
    side = _streaks if named or model.board is None else _board
    if screen.wide:
        feed_width = min(FEED_WIDTH, screen.width - BOARD_WIDTH)
        left, right = replace(screen, width=feed_width), replace(screen, width=screen.width - feed_width)
        body = Layout()
        body.split_row(Layout(_feed(model, left), size=feed_width), Layout(side(model, right, now)))
        return body
    if screen.height < LEAST_HEIGHT_FOR_BOARD:
        return Layout(_feed(model, screen))
    below = replace(screen, height=screen.height * 2 // 5)
    above = replace(screen, height=screen.height - below.height)
    body = Layout()
    body.split_column(Layout(_feed(model, above), size=above.height), Layout(side(model, below, now)))
    return body


def _header(model: WatchModel, screen: Screen, now: float, url: str) -> RenderableType:
    left = Text.assemble(
        ("" if screen.narrow else " streaks watch  ", "bold"),
        (f"{screen.sign('●', '*')} {model.state}", _STATES.get(model.state, "yellow")),
        (f"  since {screen.clock(model.since)}", "dim"),
        no_wrap=True,
        overflow="ellipsis",
    )
    if model.reason:
        left.append(f"  {model.reason}", "yellow")
    elif screen.wide:
        left.append(f"  {url}", "dim")
    grid = Table.grid(expand=True)
    grid.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    grid.add_column(justify="right", no_wrap=True)
    grid.add_row(left, Text(f"{screen.clock(now)} ", "dim"))
    return grid


def _counters(model: WatchModel, screen: Screen, now: float) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    table.add_column(no_wrap=True)
    for _ in range(2):
        table.add_column(justify="right", no_wrap=True, min_width=6)
    table.add_row("", Text("minute", "dim"), Text("hour", "dim"))
    for name in COUNTED:
        figures = (model.total(name, window, now) for window in ("minute", "hour"))
        table.add_row(Text(name, COLOURS[COUNTED[name][0]]), *(f"{figure:,}" for figure in figures))
    columns: list[RenderableType] = [table]
    if model.counts is not None and screen.width >= LEAST_WIDTH_FOR_COUNTS:
        now_table = Table.grid(padding=(0, 2))
        now_table.add_row("", Text("now", "dim"))
        now_table.add_row("active streaks", Text(f"{model.counts['active']:,}", "bold", justify="right"))
        now_table.add_row("active today", Text(f"{model.counts['active_today']:,}", "bold", justify="right"))
        columns.append(now_table)
    grid = Table.grid(padding=(0, 4))
    grid.add_row(*columns)
    return Padding(grid, (1, 1, 0, 1))


def _feed(model: WatchModel, screen: Screen) -> RenderableType:
    timed = not screen.narrow
    table = _table(screen, *(("left",) if timed else ()), "left", "left", "left")
    # Beside the id: time, event, both streaks, paddings and the frame.
    room = screen.width - 40
    for line in _first(model.feed, screen.height - 2):
        table.add_row(
            *((Text(screen.clock(line.at), "dim"),) if timed else ()),
            screen.user(line.user_id, room),
            Text(line.event, COLOURS.get(line.event, "default")),
            _step(line, screen),
        )
    if not model.feed:
        table.add_row(Text("waiting for the first change", "dim"))
    return _framed(table, "Changes", screen)


def _step(line: FeedLine, screen: Screen) -> Text:
    old = "" if line.old is None else f"{line.old:>{0 if screen.narrow else 4}} {screen.sign('→', '->')} "
    return Text.assemble((old, "dim"), (str(line.new), "bold"))


def _board(model: WatchModel, screen: Screen, now: float) -> RenderableType:
    table = _table(screen, "right", "left", "left", "right", "left")
    for place in _first(model.places(now), screen.height - 2):
        table.add_row(
            Text(f"{place.rank}", "bold"),
            _move(place, screen),
            screen.user(place.user_id, screen.width - 24),
            Text(f"{place.current:,}", "bold"),
            _today(today=place.today, screen=screen),
        )
    if not model.board:
        table.add_row(Text("nobody has a streak yet", "dim"))
    return _framed(table, "Leaderboard", screen)


def _move(place: Place, screen: Screen) -> Text:
    if place.move is None:
        return Text("new", "magenta")
    if place.move == 0:
        return Text("   ")
    up, down = screen.sign("▲", "+"), screen.sign("▼", "-")
    return Text(f"{up if place.move > 0 else down}{abs(place.move)}", "green" if place.move > 0 else "red")


def _today(*, today: bool, screen: Screen) -> Text:
    return Text(screen.sign("✓", "x"), "green") if today else Text(screen.sign("·", "."), "dim")


def _streaks(model: WatchModel, screen: Screen, _: float) -> RenderableType:
    table = _table(screen, "left", "right", "left", "left")
    for user, streak in _first(reversed(model.streaks.items()), screen.height - 2):
        table.add_row(
            screen.user(user, screen.width - 24),
            Text(f"{streak.get('current_streak', 0)}", "bold"),
            Text(f"best {streak.get('longest_streak', 0)}", "dim"),
            _today(today=bool(streak.get("is_active_today")), screen=screen),
        )
    if not model.streaks:
        table.add_row(Text("nothing is known yet", "dim"))
    return _framed(table, "Streaks", screen)


def _table(screen: Screen, *columns: Literal["left", "right"]) -> Table:
    table = Table.grid(padding=(0, 1 if screen.narrow else 2))
    for justify in columns:
        table.add_column(justify=justify, no_wrap=True)
    return table


def _framed(table: Table, title: str, screen: Screen) -> RenderableType:
    if screen.narrow:
        return table
    return Panel(table, title=title, title_align="left", border_style="dim")


def _first(items: Iterable[T], count: int) -> list[T]:
    return list(islice(items, max(count, 1)))
