"""What `streaks up` finds out before it starts anything, and what it leaves for other commands."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from streak_client.cli import main
from streak_client.cli._common import CommandError
from streak_client.cli._env_file import check_env_file, env_file
from streak_client.cli.up import _elsewhere
from streak_client.settings import environment


@pytest.fixture(autouse=True)
def _nothing_starts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A check that lets something pass fails here instead of starting a whole Supabase."""

    async def start(_: object) -> None:
        pytest.fail("the start was reached")

    monkeypatch.setattr("streak_client.cli.up._until_signal", start)
    monkeypatch.chdir(tmp_path)


def up(*arguments: str) -> Result:
    """Run `streaks up` in this process."""
    return CliRunner().invoke(main, ["up", "--port", "0", *arguments])


@pytest.mark.parametrize("option", ["--port", "--bridge-port", "--api-port"])
def test_a_taken_port_is_named_before_anything_starts(option: str) -> None:
    """Each port is tried first, and the message names the option that chooses another."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = up("--bridge-port", "0", "--api-port", "0", option, port)
    assert result.exit_code == 1
    assert f"Port {port} " in result.stderr
    assert f"choose with {option}." in result.stderr


@pytest.mark.parametrize(
    "arguments", [("--debounce", "nan"), ("--debounce", "inf"), ("--speed", "nan"), ("--speed", "inf")]
)
def test_a_number_that_is_none_is_refused_before_anything_starts(arguments: tuple[str, str]) -> None:
    """Nan and inf are wrong arguments with status 2, not failures after the start."""
    result = up(*arguments)
    assert result.exit_code == 2
    assert arguments[0] in result.stderr


def test_a_file_of_the_users_own_is_never_overwritten(tmp_path: Path) -> None:
    """--env-file refuses a file that another hand wrote, and leaves it as it was."""
    path = tmp_path / ".env"
    path.write_text("MINE=1\n")
    result = up("--env-file", ".env")
    assert result.exit_code == 2
    assert "--env-file" in result.stderr
    assert path.read_text() == "MINE=1\n"
    with pytest.raises(CommandError, match="missing"):
        check_env_file(tmp_path / "missing" / ".env")


def test_the_file_is_private_is_read_by_the_commands_and_goes_away(tmp_path: Path) -> None:
    """While it is kept, only its owner can read it and the other commands find every value; then it is gone."""
    path = tmp_path / ".env"
    values = {"STREAKS_TEST_URL": "http://127.0.0.1:1", "STREAKS_TEST_ODD": "it's a \\ and $HOME"}
    for _ in range(2):
        with env_file(path, values):
            assert path.stat().st_mode & 0o777 == 0o600
            found = environment()
            assert {name: found.get(name) for name in values} == values
            leftover = path.read_text()
        assert not path.exists()
        path.write_text(leftover)
        check_env_file(path)


@pytest.mark.parametrize("file", [None, Path(".env"), Path("other.env")])
def test_the_hint_for_other_terminals_shows_no_secret(file: Path | None) -> None:
    """What `streaks up` says besides READY names where to look, and holds no key and no password."""
    names = ("SUPABASE_URL", "BRIDGE_URL", "API_URL", "SUPABASE_SECRET_KEY", "SUPABASE_JWT_SECRET", "DATABASE_URL")
    hint = _elsewhere({name: f"value-of-{name}" for name in names}, file)
    assert "In another terminal: " in hint
    assert not any(f"value-of-{name}" in hint for name in names[3:])
    assert (file is None) == ("export SUPABASE_URL=value-of-SUPABASE_URL" in hint)
