"""Arguments that several commands share."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime
from typing import Any, TypeVar

import click
from pydantic import BaseModel

from streak_client._redis import is_redis


class FiniteFloat(click.FloatRange):
    """A number within a range; what is no number (``nan``) or without an end (``inf``) is refused."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read the number.

        Args:
            value: What was given.
            param: The option.
            ctx: Click's context.

        Returns:
            The number.

        Raises:
            click.BadParameter: It is no finite number, or outside the range.
        """
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return number


class OutboxLocation(click.Path):
    """A file that exists, or the URL of a Redis, which is never repeated."""

    name = "location"

    def __init__(self) -> None:
        super().__init__(exists=True, dir_okay=False)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read the location.

        Args:
            value: What was given.
            param: The argument.
            ctx: Click's context.

        Returns:
            The path or the URL.

        Raises:
            click.BadParameter: There is no such file.
        """
        return value if is_redis(value) else super().convert(value, param, ctx)


F = TypeVar("F", bound=Callable[..., Any])


def json_option(function: F) -> F:
    """Add ``--json``.

    Args:
        function: The command.

    Returns:
        The command with the flag ``as_json``.
    """
    return click.option("--json", "as_json", is_flag=True, help="Print JSON: one object a line.")(function)


def print_json(models: Iterable[BaseModel]) -> None:
    """Print models for programs.

    Args:
        models: One line each.
    """
    print_objects(model.model_dump(mode="json") for model in models)


def print_objects(objects: Iterable[Mapping[str, object]]) -> None:
    """Print objects for programs.

    Args:
        objects: One line each.
    """
    for each in objects:
        click.echo(json.dumps(each, separators=(",", ":")))


def day(value: str) -> date:
    """Read a calendar day.

    Args:
        value: Such as ``2026-11-22``.

    Returns:
        The day.

    Raises:
        click.BadParameter: It is none.
    """
    try:
        return date.fromisoformat(value)
    except ValueError:
        raise click.BadParameter(f"{value!r} is no day such as 2026-11-22") from None


def instant(value: str) -> datetime:
    """Read an instant.

    Args:
        value: Such as ``2026-11-22T09:00:00+01:00``.

    Returns:
        The instant, aware.

    Raises:
        click.BadParameter: It is none, or has no offset.
    """
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise click.BadParameter(f"{value!r} is no instant such as 2026-11-22T09:00:00+01:00") from None
    if moment.utcoffset() is None:
        raise click.BadParameter(f"{value!r} has no offset such as +01:00 or Z")
    return moment
