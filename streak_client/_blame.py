"""Whose fault it is that a request for many failed as a whole: its halves tell, and nobody suffers for another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from streak_client._steps import Flow
from streak_client.errors import (
    ConcurrentModificationError,
    DatabaseError,
    InvalidInputError,
    InvalidResponseError,
    PermissionDeniedError,
    StreakError,
)

E = TypeVar("E")
R = TypeVar("R")

# Classes of SQLSTATE and of PostgREST's codes that speak of the server or the connection, whatever was sent to it. The
# wait for a lock (55) is among them: halves would each wait as long.
_OF_THE_SERVER = ("08", "25", "26", "28", "53", "55", "57", "58", "F0", "HV", "PGRST0", "PGRST2", "PGRST3", "PGRSTX")
# A gateway's refusals that it would repeat for anybody.
_FOR_EVERYBODY = {401, 402, 404, 405, 407, 408, 429}
_REFUSALS = range(400, 500)
# When so many failed alone and nothing was taken, the service is at fault; to find that out for all would be load.
LONE_FAILURES = 8


class Answer(NamedTuple, Generic[R]):
    """What became of one element.

    Attributes:
        outcome: Its result or its error.
        own: Whether it failed for a reason of its own, which the others do not share.
    """

    outcome: R | StreakError
    own: bool = False


def may_be_of_one(error: StreakError) -> bool:
    """Tell whether a request for many may have failed because of one element, or its size, so that halves may succeed.

    Args:
        error: What befell the whole request, after its retries.

    Returns:
        True for what the database refused, and for what a gateway refused by its content; False for what concerns all:
        the key, the server's state, the connection.
    """
    if isinstance(error, PermissionDeniedError):
        return error.sqlstate is None and error.status not in _FOR_EVERYBODY
    if not isinstance(error, InvalidInputError | ConcurrentModificationError | DatabaseError):
        return False
    if error.sqlstate is not None:
        return not error.sqlstate.startswith(_OF_THE_SERVER)
    return error.status in _REFUSALS and error.status not in _FOR_EVERYBODY


@dataclass(slots=True)
class _Search:
    taken: bool = False
    alone: int = 0

    def goes_on(self) -> bool:
        return self.taken or self.alone < LONE_FAILURES

    def blames(self, error: StreakError) -> bool:
        """Tell whether an element that was refused alone is at fault."""
        if error.sqlstate is None or not may_be_of_one(error):
            return False  # the database did not say so
        if isinstance(error, InvalidInputError) and error.detail is not None:
            return True  # a function of ours looked at it
        return self.taken and not (isinstance(error, DatabaseError) and error.retryable)


class _Found(NamedTuple, Generic[R]):
    outcome: R | StreakError
    named: bool  # in an answer to several; otherwise its request failed
    alone: bool  # in that request


def by_halves(
    elements: Sequence[E], send: Callable[[Sequence[E]], Flow[list[R | StreakError]]]
) -> Flow[list[Answer[R]]]:
    """Send elements together, and what is refused as a whole in ever smaller parts, in their order.

    Args:
        elements: What to send; all must be safe to repeat.
        send: Sends some of them; raises what fails as a whole.

    Yields:
        The steps.

    Returns:
        Every element's answer, in order.
    """
    search = _Search()
    found = yield from _parts(elements, send, search)
    return [Answer(each.outcome, _is_own(each, search)) for each in found]


def _parts(
    elements: Sequence[E], send: Callable[[Sequence[E]], Flow[list[R | StreakError]]], search: _Search
) -> Flow[list[_Found[R]]]:
    alone = len(elements) == 1
    try:
        outcomes = yield from send(elements)
    except StreakError as error:
        if not alone and may_be_of_one(error) and search.goes_on():
            middle = len(elements) // 2
            first = yield from _parts(elements[:middle], send, search)
            return first + (yield from _parts(elements[middle:], send, search))
        search.alone += alone
        return [_Found(error, named=False, alone=alone) for _ in elements]
    search.taken = True
    return [_Found(outcome, named=True, alone=alone) for outcome in outcomes]


def _is_own(found: _Found[R], search: _Search) -> bool:
    if not isinstance(found.outcome, StreakError):
        return False
    if found.named:
        return not isinstance(found.outcome, InvalidResponseError)  # that is a mistake of versions
    return found.alone and search.blames(found.outcome)
