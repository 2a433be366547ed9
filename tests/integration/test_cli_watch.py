"""`streaks watch` on a terminal, against a real bridge."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import asyncpg
import pytest

from local_supabase.stack import StackInfo
from tests.support.bridge_process import BridgeProcess, bridge_process
from tests.support.stack import ROOT, user_token

ACT = "select * from public.update_user_streak_atomic($1, 'UTC', null, now() - make_interval(days => $2))"
SECONDS = 60.0
ENTER, LEAVE, SHOW_CURSOR = "\x1b[?1049h", "\x1b[?1049l", "\x1b[?25h"


class Terminal:
    """A terminal of 120 by 30 in which ``streaks watch`` runs."""

    def __init__(self, bridge: BridgeProcess, folder: Path, *arguments: str, **variables: str) -> None:
        self._leader, follower = pty.openpty()
        env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "TERM": "xterm-256color", "LANG": "C.UTF-8"}
        env |= {"COLUMNS": "120", "LINES": "30", "BRIDGE_URL": bridge.url, **variables}
        self.process = subprocess.Popen(
            [sys.executable, "-c", "from streak_client.cli import main; main()", "watch", *arguments],
            stdin=follower,
            stdout=follower,
            stderr=follower,
            env=env,
            cwd=folder,
            start_new_session=True,
        )
        os.close(follower)
        self.seen = ""

    def until(self, *patterns: str) -> str:
        """Read until all patterns came since the last call; return what was read, without colours."""
        text, deadline = "", time.monotonic() + SECONDS
        while not all(re.search(pattern, text) for pattern in patterns):
            assert time.monotonic() < deadline, f"not seen: {patterns}; last: {text[-3000:]}"
            news = self._read() if select.select([self._leader], [], [], 0.2)[0] else ""
            text += news
            if not news and self.process.poll() is not None:
                pytest.fail(f"it ended ({self.process.returncode}): {text[-3000:]}")
        return text

    def end(self, number: int) -> int:
        """Send a signal, read to the end, and return the exit status."""
        self.process.send_signal(number)
        deadline = time.monotonic() + SECONDS
        while self.process.poll() is None:
            assert time.monotonic() < deadline, "it does not end"
            if select.select([self._leader], [], [], 0.1)[0]:
                self._read()
        while select.select([self._leader], [], [], 0)[0] and self._read():
            pass
        return self.process.returncode

    def close(self) -> None:
        """End it, whatever it does."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._leader)

    def _read(self) -> str:
        try:
            raw = os.read(self._leader, 65536).decode(errors="replace")
        except OSError:  # the other side is closed
            return ""
        self.seen += raw
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", raw)


@pytest.fixture(scope="module")
def bridge(stack: StackInfo, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BridgeProcess]:
    """A bridge that a test may stop if it starts it again."""
    with bridge_process(stack, tmp_path_factory.mktemp("bridge"), debounce=0.2, max_wait=0.5) as running:
        yield running


@contextmanager
def watching(bridge: BridgeProcess, folder: Path, *arguments: str, **variables: str) -> Iterator[Terminal]:
    """Run the command on a terminal inside the block."""
    terminal = Terminal(bridge, folder, *arguments, **variables)
    try:
        yield terminal
    finally:
        terminal.close()


async def test_an_operator_sees_changes_leaderboard_and_a_bridge_that_comes_back(
    bridge: BridgeProcess,
    db: asyncpg.Connection[asyncpg.Record],
    new_user: Callable[[], Awaitable[UUID]],
    tmp_path: Path,
) -> None:
    """Changes, leaderboard and counters are live, a bridge that was away is followed again, and Ctrl-C is clean."""
    user = await new_user()
    with watching(bridge, tmp_path, SUPABASE_SECRET_KEY=bridge.stack.secret_key) as terminal:
        terminal.until("live", "Changes", "Leaderboard", "active streaks")
        for days in (2, 1):
            await db.execute(ACT, user, days)
        terminal.until(rf"{user} +(started|incremented) +(\d+ → )?2")
        terminal.until(rf"{str(user)[:8]}… +2")
        bridge.stop()
        try:
            terminal.until("offline")
            await db.execute(ACT, user, 0)
        finally:
            bridge.start()
        terminal.until("● live", rf"{str(user)[:8]}… +3")
        assert terminal.end(signal.SIGINT) == 0
    assert terminal.seen.count(ENTER) == terminal.seen.count(LEAVE) == 1
    assert terminal.seen.rindex(SHOW_CURSOR) > terminal.seen.index(ENTER)
    assert "Traceback" not in terminal.seen
    assert bridge.stack.secret_key not in terminal.seen


async def test_a_user_sees_that_user_alone(
    bridge: BridgeProcess,
    db: asyncpg.Connection[asyncpg.Record],
    new_user: Callable[[], Awaitable[UUID]],
    tmp_path: Path,
) -> None:
    """With a user's token the screen shows that user's streak and no leaderboard, and SIGTERM leaves it clean."""
    user, other = await new_user(), await new_user()
    with watching(bridge, tmp_path, STREAKS_TOKEN=user_token(bridge.stack, user)) as terminal:
        terminal.until("live", "Streaks")
        await db.execute(ACT, other, 0)
        await db.execute(ACT, user, 0)
        terminal.until(rf"{user} +started +0 → 1", "best 1")
        assert terminal.end(signal.SIGTERM) == 0
    assert str(other) not in terminal.seen
    assert "Leaderboard" not in terminal.seen
    assert terminal.seen.count(ENTER) == terminal.seen.count(LEAVE) == 1


def test_a_wrong_key_is_said_on_the_terminal_that_is_left(bridge: BridgeProcess, tmp_path: Path) -> None:
    """A key that the bridge refuses ends the command with status 2 and the reason, after the screen is restored."""
    variables = {"SUPABASE_SECRET_KEY": "sb_secret_wrong"}
    ends = pytest.raises(pytest.fail.Exception, match=r"it ended \(2\)")
    with watching(bridge, tmp_path, **variables) as terminal, ends:
        terminal.until("never")
    assert "The bridge refuses (401)" in terminal.seen[terminal.seen.index(LEAVE) :]
