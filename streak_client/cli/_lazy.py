"""Commands that are loaded when they are run."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any, NamedTuple

import click

from streak_client.cli._common import CleanGroup


class Place(NamedTuple):
    """Where a command is defined.

    Attributes:
        module: The module below `streak_client.cli`.
        name: The function's name in it.
        summary: The first sentence of its help, so that the list of commands is shown without loading them.
    """

    module: str
    name: str
    summary: str


class LazyGroup(CleanGroup):
    """A group that loads only the command that is run: loading all takes long, and Ctrl-C must be heeded meanwhile.

    Args:
        places: The commands by name, in the order of the help.
        **attributes: Click's own.
    """

    def __init__(self, *, places: Mapping[str, Place], **attributes: Any) -> None:
        super().__init__(**attributes)
        self.places = places

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Name the commands.

        Args:
            ctx: Click's context.

        Returns:
            Their names.
        """
        return list(self.places)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Load a command.

        Args:
            ctx: Click's context.
            cmd_name: Its name.

        Returns:
            The command, or None if there is none of that name.
        """
        place = self.places.get(cmd_name)
        if place is None:
            return None
        command = getattr(import_module(f"streak_client.cli.{place.module}"), place.name)
        assert isinstance(command, click.Command)  # noqa: S101 - the table names commands
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the list of commands.

        Args:
            ctx: Click's context.
            formatter: Takes the text.
        """
        with formatter.section("Commands"):
            formatter.write_dl([(name, place.summary) for name, place in self.places.items()])
