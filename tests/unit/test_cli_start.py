"""How the `streaks` command starts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from streak_client.cli import PLACES, main

HEAVY = ("supabase", "httpx", "pydantic", "rich")
STREAKS = str(Path(sys.executable).with_name("streaks"))


@pytest.mark.parametrize("name", PLACES)
def test_the_list_of_commands_says_what_each_says_of_itself(name: str) -> None:
    """Every command loads under its name, and its line in the list is the first sentence of its help."""
    command = main.get_command(click.Context(main), name)
    assert command is not None
    assert command.name == name
    assert command.get_short_help_str(300) == PLACES[name].summary


def test_the_help_lists_every_command() -> None:
    """`streaks --help` names all commands, and a wrong name is status 2."""
    shown = CliRunner().invoke(main, ["--help"])
    assert all(f"\n  {name} " in shown.stdout for name in PLACES)
    assert CliRunner().invoke(main, ["nonsense"]).exit_code == 2


def test_the_help_loads_no_heavy_library() -> None:
    """The command is up, and heeds Ctrl-C, before the libraries that take seconds to import are touched."""
    code = f"""
import sys
from streak_client.cli import main
main(["--help"], standalone_mode=False)
print("loaded:", *(name for name in {HEAVY!r} if name in sys.modules))
"""
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.splitlines()[-1] == "loaded:"
    assert "serve" in shown.stdout


def test_ctrl_c_during_the_start_is_no_traceback(tmp_path: Path) -> None:
    """A signal that comes while a command's libraries are imported ends the command with one line."""
    # The libraries' place is taken by one that gets the signal while it is imported, which no timing has to hit.
    (tmp_path / "supabase.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    ended = subprocess.run(
        [sys.executable, "-c", "from streak_client.cli import main; main(['show', 'x'])"],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[2]}"},
    )
    assert (ended.returncode, ended.stderr.strip()) == (1, "Aborted!")
