"""What a start is doing: a spinner with a clock on a terminal, lines elsewhere, always on standard error."""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import Progress as Display
from rich.progress import SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn


class Progress:
    """Shows one step at a time inside a `with` block."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True, highlight=False, soft_wrap=True)
        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        self._display = Display(*columns, console=self._console, transient=True)
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._task = self._display.add_task("Starting", total=None)
            self._display.start()
        return self

    def say(self, step: str) -> None:
        """Show the step that begins now.

        Args:
            step: For people.
        """
        if self._task is None:
            self._console.print(step, markup=False)
        else:
            self._display.update(self._task, description=step)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._display.stop()
            self._task = None
