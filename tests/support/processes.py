"""Which processes are there, and which of them a process started."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path


def descendants(pid: int) -> dict[int, str]:
    """Return the processes that `pid` started, and those that they started: pid and command line."""
    table = _table()
    found: dict[int, str] = {}
    frontier = {pid}
    while frontier:
        frontier = {child for child, (parent, _) in table.items() if parent in frontier and child not in found}
        found |= {child: table[child][1] for child in frontier}
    return found


def alive(pids: dict[int, str]) -> dict[int, str]:
    """Return those that still run: the same pid with the same command line, and no zombie."""
    table = _table()
    return {pid: command for pid, command in pids.items() if pid in table and table[pid][1] == command}


def one(pids: dict[int, str], *words: str) -> int:
    """Return the one process whose command line holds all the words."""
    [pid] = [pid for pid, command in pids.items() if all(word in command for word in words)]
    return pid


def until(condition: Callable[[], bool], seconds: float = 30.0) -> bool:
    """Look again and again until something is so; say whether it came to be."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def owner(pid: int) -> int:
    """Return the user id that a process runs as."""
    shown = subprocess.run(["ps", "-o", "uid=", "-p", str(pid)], capture_output=True, text=True, check=True).stdout
    return int(shown)


def _table() -> dict[int, tuple[int, str]]:
    if not Path("/proc/self").exists():
        return _table_of_ps()
    table = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                status = (
                    Path(entry.path, "stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
                )
                command = Path(entry.path, "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            except OSError:
                continue
            if status[0] != "Z":
                table[int(entry.name)] = (int(status[1]), command)
    return table


def _table_of_ps() -> dict[int, tuple[int, str]]:
    shown = subprocess.run(["ps", "-axww", "-o", "pid=,ppid=,args="], capture_output=True, text=True, check=True).stdout
    rows = (line.split(maxsplit=2) for line in shown.splitlines())
    return {int(row[0]): (int(row[1]), row[2] if len(row) > 2 else "") for row in rows}
