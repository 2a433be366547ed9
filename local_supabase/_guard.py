"""Ends the programs of a stack and removes its folders when the process that started them vanishes.

A supervisor that is killed with SIGKILL cannot clean up. This small process holds the other end of a pipe to it: when
the pipe closes, it ends whatever was not reported as gone. It runs in a session of its own, by file name, with the
standard library alone, so that it starts at once and no signal to the terminal reaches it.

Each line on standard input is one JSON array: `["watch", pid, signal]`, `["forget", pid]` or
`["remove", path]`.
"""

import contextlib
import json
import os
import shutil
import signal
import sys
import time

_PATIENCE = 10.0


def main() -> None:
    """Reads until the supervisor is gone, then ends and removes what is left."""
    processes: dict[int, int] = {}
    folders: list[str] = []
    for line in sys.stdin:
        verb, *rest = json.loads(line)
        if verb == "watch":
            processes[rest[0]] = rest[1]
        elif verb == "forget":
            processes.pop(rest[0], None)
        elif verb == "remove":
            folders.append(rest[0])
    _end(processes)
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def _end(processes: dict[int, int]) -> None:
    for pid, number in processes.items():
        _signal(pid, number)
    deadline = time.monotonic() + _PATIENCE
    while any(_alive(pid) for pid in processes) and time.monotonic() < deadline:
        time.sleep(0.02)
    for pid in processes:
        _signal(pid, signal.SIGKILL)


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return not _zombie(pid)


def _zombie(pid: int) -> bool:
    # Orphans of a container whose first process reaps nothing stay as zombies: they are dead all the same.
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as status:  # noqa: PTH123 - pathlib costs start-up time
            return status.read().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return False


if __name__ == "__main__":
    main()
