"""Many activities in one RPC, each with its own answer or error, whatever happens to the others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import ValidationError

from streak_client._retry import is_transient
from streak_client._steps import Rpc, rows
from streak_client._translate import from_word
from streak_client.errors import ConcurrentModificationError, InvalidResponseError, StreakError
from streak_client.models import StreakUpdate

MAX_BATCH = 1_000


@dataclass(frozen=True, slots=True)
class Prepared:
    """An activity that passed the checks, with the request id and the time that every attempt will carry.

    Attributes:
        user_id: Who acted.
        activity_at: When, in UTC.
        timezone: The zone to send; None means the stored one.
        request_id: Under which the database records the call.
    """

    user_id: UUID
    activity_at: datetime
    timezone: str | None
    request_id: str

    def params(self) -> dict[str, object]:
        """Name the parameters of the RPC for one activity.

        Returns:
            The parameters of ``update_user_streak_atomic``.
        """
        return {
            "p_user_id": str(self.user_id),
            "p_timezone": self.timezone,
            "p_request_id": self.request_id,
            "p_activity_at": self.activity_at.isoformat(),
        }


class Batch:
    """One call of the batch RPC, as a step that can be tried again for the elements that met a conflict.

    Args:
        elements: At most 1,000 activities, those of one user in the order in which they are to act.
    """

    def __init__(self, elements: Sequence[Prepared]) -> None:
        self._elements = elements
        self._outcomes: list[StreakUpdate | StreakError | None] = [None] * len(elements)
        self._pending = list(range(len(elements)))

    def request(self) -> Rpc:
        """Build the request for the elements that have no final answer yet.

        Returns:
            The batch RPC with its four parallel arrays.
        """
        pending = [self._elements[index] for index in self._pending]
        return Rpc(
            "update_user_streaks_batch",
            {
                "p_user_ids": [str(element.user_id) for element in pending],
                "p_activity_ats": [element.activity_at.isoformat() for element in pending],
                "p_timezones": [element.timezone for element in pending],
                "p_request_ids": [element.request_id for element in pending],
            },
        )

    def read(self, data: object) -> list[StreakUpdate | StreakError]:
        """Take the answers to the last request.

        Args:
            data: The RPC's rows, one per element sent and in their order.

        Returns:
            Every element's answer or error, in the order of the batch.

        Raises:
            ConcurrentModificationError: Some elements met a conflict; `request` now sends only those.
            InvalidResponseError: The rows do not fit what was sent.
        """
        answers = rows(data)
        if len(answers) != len(self._pending):
            raise InvalidResponseError(f"The batch of {len(self._pending)} was answered with {len(answers)} rows.")
        for index, answer in zip(self._pending, answers, strict=True):
            self._outcomes[index] = _outcome(answer)
        self._pending = [index for index in self._pending if is_transient(self._outcomes[index])]
        if self._pending:
            raise ConcurrentModificationError(
                f"{len(self._pending)} of {len(self._elements)} activities met a conflict."
            )
        return self.outcomes(InvalidResponseError("The batch holds no answer for this activity."))

    @property
    def answered(self) -> bool:
        """Whether any element has an answer of its own, be it to try again."""
        return any(outcome is not None for outcome in self._outcomes)

    def outcomes(self, failure: StreakError) -> list[StreakUpdate | StreakError]:
        """Tell what became of every element, after the last attempt too.

        Args:
            failure: What stands for the elements that got no answer of their own.

        Returns:
            Every element's answer or error, in the order of the batch.
        """
        return [failure if outcome is None else outcome for outcome in self._outcomes]


def chunks(elements: Sequence[Any], size: int) -> Iterable[Sequence[Any]]:
    """Cut a sequence into pieces.

    Args:
        elements: The sequence.
        size: The most that a piece may hold.

    Yields:
        The pieces in order.
    """
    for start in range(0, len(elements), size):
        yield elements[start : start + size]


def _outcome(answer: dict[str, Any]) -> StreakUpdate | StreakError:
    if word := answer.get("error"):
        return from_word(str(word), answer.get("message"))
    try:
        return StreakUpdate.model_validate(answer)
    except ValidationError as error:
        failure = InvalidResponseError(
            "The answer does not fit the contract; are client and migrations of one version?"
        )
        failure.__cause__ = error
        return failure
