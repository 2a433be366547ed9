"""What the commands share: consoles, and errors that people can read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from streak_client.errors import ConfigurationError, InvalidInputError, StreakError

if TYPE_CHECKING:
    # `streaks --help` shows its page without waiting for them.
    from rich.console import Console
    from rich.progress import Progress
    from rich.table import Table

SERVICE_FAILED = 1
WRONG_INPUT = 2
UUID_LENGTH = 36


class CommandError(click.ClickException):
    """An error that ends the command with a message instead of a traceback.

    Args:
        message: What is wrong, for people.
        exit_code: 1 when the service failed, 2 when an argument or a setting is wrong.
    """

    def __init__(self, message: str, exit_code: int = SERVICE_FAILED) -> None:
        super().__init__(message)
        # Click declares it for the class, and reads it from the instance.
        self.__dict__["exit_code"] = exit_code


class CleanGroup(click.Group):
    """A group whose commands turn the client's errors into messages and exit codes."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the chosen command.

        Args:
            ctx: Click's context.

        Returns:
            What the command returned.

        Raises:
            CommandError: The client raised a `StreakError`.
        """
        try:
            return super().invoke(ctx)
        except StreakError as error:
            raise command_error(error) from error


def command_error(error: StreakError) -> CommandError:
    """Word an error of the client for the terminal.

    Args:
        error: The error.

    Returns:
        The same for click, with its notes and its code.
    """
    lines = [f"{error.message} [{error.code}]", *getattr(error, "__notes__", [])]
    wrong_input = isinstance(error, InvalidInputError | ConfigurationError)
    return CommandError("\n".join(lines), WRONG_INPUT if wrong_input else SERVICE_FAILED)


def output() -> Console:
    """Open the console for results.

    Returns:
        A console on standard output.
    """
    from rich.console import Console  # noqa: PLC0415 - see above

    return Console(highlight=False)


def messages() -> Console:
    """Open the console for what happens meanwhile.

    Returns:
        A console on standard error, so that results can be piped.
    """
    from rich.console import Console  # noqa: PLC0415 - see above

    return Console(stderr=True, highlight=False)


def compact_table(*headers: str, user: str = "user") -> Table:
    """Make a table of results that fits into 80 columns where it can.

    Args:
        headers: The columns' names.
        user: The column of user ids. They are never split, so that they can be copied.

    Returns:
        The table, without rows.
    """
    from rich.box import SIMPLE_HEAD  # noqa: PLC0415 - see above
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=True)
    for header in headers:
        table.add_column(header, no_wrap=header == user, min_width=UUID_LENGTH if header == user else None)
    return table


def progress_bar(console: Console) -> Progress:
    """Make a progress bar that counts activities.

    Args:
        console: Where it is drawn; what is no terminal sees only the final state.

    Returns:
        A context manager; add tasks with `add_task`.
    """
    from rich.progress import (  # noqa: PLC0415 - see above
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description:<28}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
    )
