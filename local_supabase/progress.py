"""What a start is doing, for people: a spinner on a terminal, lines elsewhere, always on standard error."""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.status import Status


class Progress:
    """Shows one step at a time inside a `with` block."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True, highlight=False, soft_wrap=True)
        self._status: Status | None = None

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._status = self._console.status("Starting")
            self._status.start()
        return self

    def say(self, step: str) -> None:
        """Shows the step that begins now."""
        if self._status:
            self._status.update(step)
        else:
            self._console.print(step, markup=False)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._status:
            self._status.stop()
            self._status = None
