"""The outbox as a file: private, bounded, one drainer at a time, and not to be lost by any process that looks at it."""

import logging
import signal
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest

from streak_client import ConfigurationError, ConnectionFailedError, Outbox, StreakClient
from streak_client._batch import Prepared

URL, KEY = "http://streaks.test", "sb_secret_never_on_disk"
USER = UUID(int=1)
NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
DOWN = ConnectionFailedError("gone")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the outbox is."""
    return tmp_path / "outbox.db"


def prepared(user: UUID, request_id: str) -> Prepared:
    """Make an activity."""
    return Prepared(user, NOW, "UTC", request_id)


def test_the_file_is_private_and_holds_no_key(path: Path) -> None:
    """Nobody but the owner may read the outbox and what lies beside it, and no key is in there."""
    box = Outbox(path)
    box.put(prepared(USER, "r"), ConnectionFailedError("gone"), NOW)
    with box.draining() as mine:
        assert mine
        for file in path.parent.iterdir():
            assert file.stat().st_mode & 0o077 == 0, file
            assert KEY.encode() not in file.read_bytes()


def test_a_full_outbox_says_what_it_drops(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Beyond its bound the outbox drops the new activity, answers so, and logs it as an error; a repeat is no drop."""
    box = Outbox(path, limit=1)
    assert box.put(prepared(USER, "a"), DOWN, NOW)
    assert box.put(prepared(USER, "a"), DOWN, NOW)
    assert not caplog.records
    with caplog.at_level(logging.ERROR, "streak_client"):
        assert not box.put(prepared(USER, "b"), DOWN, NOW)
    assert "DROPPED" in caplog.text
    assert [entry.request_id for entry in box.entries()] == ["a"]


def test_one_drains_at_a_time(path: Path) -> None:
    """Of all clients of a file, in this process or another, only one drains at any moment."""
    first, second = Outbox(path), Outbox(path)
    with first.draining() as mine:
        with second.draining() as theirs:
            assert (mine, theirs) == (True, False)
        with first.draining() as again:
            assert not again
    with second.draining() as later:
        assert later


def test_an_activity_survives_kill_9(path: Path) -> None:
    """What was said to be queued is there after SIGKILL, and the dead process's lock is free."""
    program = f"""
import os, signal
from datetime import UTC, datetime
from uuid import UUID
from streak_client import ConnectionFailedError, Outbox
from streak_client._batch import Prepared
box = Outbox({str(path)!r})
with box.draining():
    for n in range(20):
        now = datetime.now(UTC)
        box.put(Prepared(UUID(int=1), now, None, str(n)), ConnectionFailedError("gone"), now)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -signal.SIGKILL
    box = Outbox(path)
    assert [entry.request_id for entry in box.entries()] == [str(n) for n in range(20)]
    with box.draining() as mine:
        assert mine


def test_a_file_that_was_open_to_all_is_no_longer(path: Path) -> None:
    """An outbox that exists with a wider mode is its owner's alone once it is opened, and so is what lies beside it."""
    made = [path, Path(f"{path}-wal"), Path(f"{path}-shm")]
    for file in made:
        file.touch(0o644)
        file.chmod(0o644)
    box = Outbox(path)
    box.put(prepared(USER, "r"), DOWN, NOW)
    assert [file.stat().st_mode & 0o777 for file in made] == [0o600] * 3


def test_a_look_from_outside_takes_no_entries_along(path: Path) -> None:
    """A process that opens and closes an outbox leaves alone what others, who opened it several times, write."""
    first, second = Outbox(path), Outbox(path)
    log = Path(f"{path}-wal").stat().st_ino
    program = f"from streak_client import Outbox; Outbox({str(path)!r}).close()"
    subprocess.run([sys.executable, "-c", program], check=True)
    assert Path(f"{path}-wal").stat().st_ino == log
    first.put(prepared(USER, "r"), DOWN, NOW)
    assert second.depth() == 1


def test_an_outbox_that_cannot_be_opened_is_a_clear_error(tmp_path: Path) -> None:
    """A folder that is missing, or a file that is something else, is named when the client is made."""
    (tmp_path / "other.db").write_bytes(b"no database" * 1000)
    for wrong in (tmp_path / "missing" / "outbox.db", tmp_path / "other.db"):
        with pytest.raises(ConfigurationError, match=wrong.name):
            StreakClient(URL, KEY, outbox=wrong)
