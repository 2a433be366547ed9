"""The vocabulary between decisions and I/O: what a step asks for, and how its answer is read."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeAlias, TypeVar

from pydantic import TypeAdapter, ValidationError

from streak_client.errors import InvalidResponseError

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Rpc:
    """A call of a database function.

    Attributes:
        function: Its name in schema ``public``.
        params: Its arguments by name.
    """

    function: str
    params: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Select:
    """A read of a table, newest or oldest rows first.

    Attributes:
        table: Its name in schema ``public``.
        filters: Column, operator (PostgREST's name, such as ``eq``) and value of each condition; all must hold.
        order_by: The column that orders the rows.
        descending: Whether the largest value comes first.
        limit: The most rows to answer with.
    """

    table: str
    filters: tuple[tuple[str, str, str], ...]
    order_by: str
    descending: bool
    limit: int


Request: TypeAlias = Rpc | Select


class Step(Protocol[T_co]):
    """One request with its reading; a driver asks for `request` anew before every attempt."""

    def request(self) -> Request:
        """Say what to send."""

    def read(self, data: object) -> T_co:
        """Turn the answer's JSON into the step's result, or raise a `StreakError`."""


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """A step that sends the same in every attempt."""

    sends: Request
    reads: Callable[[object], T]

    def request(self) -> Request:
        """Say what to send.

        Returns:
            The same request each time.
        """
        return self.sends

    def read(self, data: object) -> T:
        """Turn the answer's JSON into the step's result.

        Args:
            data: The answer.

        Returns:
            The result.
        """
        return self.reads(data)


# What a driver sends back into a flow is the result of the step that the flow has just yielded; no type can say so.
Flow: TypeAlias = Generator[Step[Any], Any, T]


def rows(data: object) -> list[dict[str, Any]]:
    """Read an answer as rows.

    Args:
        data: The answer's JSON.

    Returns:
        The rows; a single object counts as one.

    Raises:
        InvalidResponseError: It is anything else, such as the text of a proxy's page.
    """
    found = [data] if isinstance(data, dict) else data
    if not isinstance(found, list) or not all(isinstance(row, dict) for row in found):
        raise InvalidResponseError("The answer is no list of rows; does something other than Supabase answer here?")
    return found


def rows_of(adapter: TypeAdapter[list[T]], **constants: object) -> Callable[[object], list[T]]:
    """Make a reader of rows of one model.

    Args:
        adapter: Of a list of the model.
        **constants: What every row shares and the answer leaves out.

    Returns:
        A function from an answer's JSON to the models.
    """

    def read(data: object) -> list[T]:
        try:
            return adapter.validate_python([{**constants, **row} for row in rows(data)])
        except ValidationError as error:
            raise InvalidResponseError(
                "The answer does not fit the contract; are client and migrations of one version?"
            ) from error

    return read


def one_of(adapter: TypeAdapter[list[T]], **constants: object) -> Callable[[object], T]:
    """Make a reader of exactly one row of one model.

    Args:
        adapter: Of a list of the model.
        **constants: What the row should hold and the answer leaves out.

    Returns:
        A function from an answer's JSON to the model.
    """
    read_all = rows_of(adapter, **constants)

    def read(data: object) -> T:
        found = read_all(data)
        if len(found) != 1:
            raise InvalidResponseError(f"One row was due, {len(found)} came.")
        return found[0]

    return read
