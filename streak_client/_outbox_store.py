"""What an outbox needs of the place where it keeps its entries: a SQLite file or a Redis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple, Protocol
from uuid import UUID

from streak_client._batch import Prepared


@dataclass(frozen=True, slots=True)
class OutboxEntry:
    """An activity that waits to be sent, or that was refused.

    Attributes:
        id: Grows with every entry.
        user_id: Who acted.
        activity_at: When.
        timezone: The zone that was sent, if any.
        request_id: The request id of the first try, and of all that follow.
        queued_at: When it came into the outbox.
        attempts: How often it was sent from there.
        error: The code and message of the last failure.
        refused: Whether it is kept only to be looked at: the database will not take it.
    """

    id: int
    user_id: UUID
    activity_at: datetime
    timezone: str | None
    request_id: str
    queued_at: datetime
    attempts: int
    error: str | None
    refused: bool

    def prepared(self) -> Prepared:
        """Bring the entry into the form in which activities are sent.

        Returns:
            The activity with its first request id and time.
        """
        return Prepared(self.user_id, self.activity_at, self.timezone, self.request_id)

    def as_dict(self) -> dict[str, str | int | bool | None]:
        """Bring it into JSON's form.

        Returns:
            The attributes by name; ids and times as text.
        """
        return {
            "id": self.id,
            "user_id": str(self.user_id),
            "activity_at": self.activity_at.isoformat(),
            "timezone": self.timezone,
            "request_id": self.request_id,
            "queued_at": self.queued_at.isoformat(),
            "attempts": self.attempts,
            "error": self.error,
            "refused": self.refused,
        }


class Written(NamedTuple):
    """An activity as it is written down: all of it text.

    Attributes:
        user_id: Who acted.
        activity_at: When, in ISO 8601.
        timezone: The zone that was sent, if any.
        request_id: The request id of the first try.
        queued_at: When it came into the outbox, in ISO 8601.
    """

    user_id: str
    activity_at: str
    timezone: str | None
    request_id: str
    queued_at: str

    @classmethod
    def of(cls, prepared: Prepared, now: datetime) -> Written:
        """Write an activity down.

        Args:
            prepared: The activity.
            now: The present instant.

        Returns:
            Its text.
        """
        at = prepared.activity_at.isoformat()
        return cls(str(prepared.user_id), at, prepared.timezone, prepared.request_id, now.isoformat())

    def entry(self, entry_id: int, attempts: int, error: str | None, *, refused: bool) -> OutboxEntry:
        """Read what was written down.

        Args:
            entry_id: The entry's id.
            attempts: How often it was sent from the outbox.
            error: The last failure.
            refused: Whether it will not be sent again.

        Returns:
            The entry.
        """
        return OutboxEntry(
            entry_id,
            UUID(self.user_id),
            datetime.fromisoformat(self.activity_at).astimezone(UTC),
            self.timezone,
            self.request_id,
            datetime.fromisoformat(self.queued_at).astimezone(UTC),
            attempts,
            error,
            refused,
        )


class Failure(NamedTuple):
    """What became of an entry that was sent in vain.

    Attributes:
        error: The code and message.
        refused: Whether it is not to be sent again.
        own_fault: Whether the failure is the entry's own, so that it is not to be sent for ever.
    """

    error: str
    refused: bool
    own_fault: bool


class Settled(NamedTuple):
    """What became of entries that failed.

    Attributes:
        refused: How many will not be sent again.
        dropped: How many that were refused had to go for newer ones.
    """

    refused: int
    dropped: int


class Store(Protocol):
    """Where entries are kept. Every method may raise what `failures` lists, and may be called from any thread."""

    failures: tuple[type[Exception], ...]

    def insert(  # noqa: PLR0913 - a row
        self, written: Written, error: str | None, holder: str | None, lease: float, limit: int, *, safe: bool
    ) -> int | None:
        """Add an entry, unless its user has one with its request id that waits, or too many wait.

        One that was refused waits again, as it was first written down.

        Args:
            written: The activity.
            error: The last failure, if there was one.
            holder: Who sends it just now; nobody else does for `lease` seconds.
            lease: Seconds.
            limit: The most entries that may wait.
            safe: Whether it must be on the disk when this returns, so that it survives a power failure.

        Returns:
            Its id; None if it was not added.
        """

    def waits(self, written: Written) -> bool:
        """Tell whether a user has an entry with a request id that waits, or is held."""

    def delete(self, entry_id: int) -> None:
        """Forget an entry."""

    def release(self, entry_id: int, error: str | None) -> bool:
        """Let an entry wait that was held, safe on the disk; tell whether there is one."""

    def entries(self, limit: int, lease: float, *, refused: bool) -> list[OutboxEntry]:
        """List the oldest entries that wait and are not held, or the oldest refused ones."""

    def depth(self, lease: float) -> int:
        """Count the entries that wait and are not held."""

    def due_in(self, me: str, lease: float) -> float | None:
        """Say in how many seconds an entry that `me` does not hold is due; None without any."""

    def draining(self) -> AbstractContextManager[bool]:
        """Become the one who drains, unless another does; whoever dies stops being it."""

    def retry_refused(self, limit: int) -> int:
        """Let the oldest refused entries wait again, as long as no more than `limit` wait; tell how many."""

    def settle(self, sent: Sequence[int], failed: Mapping[int, Failure], attempts: int, limit: int) -> Settled:
        """Forget entries that were sent, and note failures, all at once.

        Args:
            sent: Entries that have their answer.
            failed: What became of the others.
            attempts: After so many failures of its own, an entry that fails so once more is refused.
            limit: The most refused entries that are kept.

        Returns:
            How many entries are refused now, and how many refused ones had to go for newer ones.
        """

    def close(self) -> None:
        """Close what is open."""
