"""Child processes that end with the stack, whatever happens to it."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, BinaryIO

from local_supabase.accounts import Account
from local_supabase.errors import PartFailedError

_GUARD = Path(__file__).with_name("_guard.py")
_TAIL = 15


class Guard:
    """The pipe to the process that cleans up after a supervisor which was killed (`_guard.py`)."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - our own file, run by our own interpreter
            [sys.executable, "-I", "-S", str(_GUARD)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
        )

    def watch(self, pid: int, number: int) -> None:
        """Have a process ended if we vanish.

        Args:
            pid: The process.
            number: The signal that ends it in good order.
        """
        self._tell("watch", pid, number)

    def forget(self, pid: int) -> None:
        """Tell that a process is gone.

        Args:
            pid: The process.
        """
        self._tell("forget", pid)

    def remove(self, folder: Path) -> None:
        """Have a folder removed if we vanish, and at the end.

        Args:
            folder: The folder.
        """
        self._tell("remove", str(folder))

    def _tell(self, *words: object) -> None:
        assert self._process.stdin is not None  # noqa: S101 - Popen was asked for the pipe
        # A guard that somebody killed guards no more, which is no reason to stop working.
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(words).encode() + b"\n")
            self._process.stdin.flush()

    async def close(self) -> None:
        """Let the guard remove what was left to it, and wait for that."""
        assert self._process.stdin is not None  # noqa: S101 - as above
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        await asyncio.to_thread(self._process.wait)


class Child:
    """A program of the stack.

    Args:
        name: What people call it; error messages use it.
        process: The running process.
        log: The file with its standard error.
        stop_signal: The signal that asks it to end in good order.
        guard: Told when the process comes and goes.
    """

    def __init__(
        self, name: str, process: asyncio.subprocess.Process, log: Path, stop_signal: int, guard: Guard
    ) -> None:
        self.name = name
        self.process = process
        self._log = log
        self._stop_signal = stop_signal
        self._guard = guard
        guard.watch(process.pid, stop_signal)

    @classmethod
    async def start(  # noqa: PLR0913 - each says something else about the process
        cls,
        name: str,
        arguments: list[str],
        *,
        account: Account,
        guard: Guard,
        log: Path,
        stop_signal: int = signal.SIGTERM,
        pipes: bool = False,
        env: dict[str, str] | None = None,
        cwd: Path = Path("/"),
    ) -> "Child":
        """Start a program in a session of its own (Ctrl-C is for the supervisor alone).

        Args:
            name: What people call it.
            arguments: The program and its arguments.
            account: Whom it runs under.
            guard: Told when the process comes and goes.
            log: The file for its standard error.
            stop_signal: The signal that asks it to end in good order.
            pipes: Whether we talk to it by its standard input and output.
            env: Its environment; None for ours.
            cwd: Its working folder.

        Returns:
            The running program.

        Raises:
            PartFailedError: The program cannot be started.
        """
        pipe = asyncio.subprocess.PIPE if pipes else asyncio.subprocess.DEVNULL
        options: dict[str, Any] = account.popen_options()
        with open_log(log) as stderr:
            try:
                process = await asyncio.create_subprocess_exec(
                    *arguments,
                    stdin=pipe,
                    stdout=pipe,
                    stderr=stderr,
                    env=env,
                    cwd=cwd,
                    start_new_session=True,
                    limit=1 << 20,
                    **options,
                )
            except OSError as error:
                raise PartFailedError(f"{name} cannot be started: {error}") from error
        return cls(name, process, log, stop_signal, guard)

    async def wait(self) -> int:
        """Wait until the process has ended.

        Returns:
            Its exit status (negative: the signal that killed it).
        """
        status = await self.process.wait()
        self._guard.forget(self.process.pid)
        return status

    async def stop(self, timeout: float = 10.0) -> None:  # noqa: ASYNC109 - not a limit on the caller but on the process
        """End the process: in good order, or else by force.

        Args:
            timeout: How many seconds it has for good order.
        """
        if self.process.returncode is None:
            self.process.send_signal(self._stop_signal)
            try:
                async with asyncio.timeout(timeout):
                    await self.process.wait()
            except TimeoutError:
                self.kill()
        await self.wait()

    def kill(self) -> None:
        """End the process by force."""
        if self.process.returncode is None:
            self.process.kill()

    def failure(self, what: str) -> PartFailedError:
        """Make an error that says what happened and shows the end of the log.

        Args:
            what: What happened, to follow the program's name.

        Returns:
            The error.
        """
        return PartFailedError(f"{self.name} {what}{log_tail(self._log)}")

    def ended(self) -> PartFailedError:
        """Make the error for a process that ended by itself.

        Returns:
            The error.
        """
        status = self.process.returncode
        if status is not None and status < 0:
            return self.failure(f"was killed by {signal.Signals(-status).name}")
        return self.failure(f"ended by itself with exit status {status}")


def open_log(log: Path) -> BinaryIO:
    """Open a log to append to, readable by us alone: it may quote data, and programs inherit the open file.

    Args:
        log: The file.

    Returns:
        The open file.
    """
    return os.fdopen(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab")


def log_tail(log: Path, lines: int = _TAIL) -> str:
    """Return the last lines of a log, ready to be put behind a message.

    Args:
        log: The file.
        lines: How many.

    Returns:
        The lines, indented; empty when there are none.
    """
    try:
        text = log.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
    if not text:
        return ""
    return "; the end of its log:" + "".join(f"\n  {line}" for line in text.splitlines()[-lines:])
