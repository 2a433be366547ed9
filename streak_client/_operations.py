"""What operators call: undo, merge, repair after an outage, export, erase, archive, and the database's own checks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date, datetime, timedelta
from types import TracebackType
from typing import Any, Self, TypeVar
from uuid import UUID, uuid4

from pydantic import BaseModel, ConfigDict, TypeAdapter

from streak_client import _inputs
from streak_client._driver import Driver
from streak_client._metrics import Metrics
from streak_client._steps import Call, Flow, Rpc, one_of, rows_of
from streak_client.models import Instant
from streak_client.settings import Settings

T = TypeVar("T")
RETRIES = 3
# The database gives a call of service_role 8 s on hosted projects.
TIMEOUT = 15.0
# Self-hosted projects may give the checks of a large database all the time they need.
DIAGNOSIS_TIMEOUT = 120.0
PAGE = 10_000


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Correction(_Row):
    """The streak after an undo or a merge; without days for a user who has none left."""

    success: bool
    current_streak: int
    longest_streak: int
    last_active_date: date | None
    change_type: str
    message: str
    timezone: str
    version: int
    expires_at: Instant | None
    replayed: bool


class Gap(_Row):
    """Days that an outage took from a user, both included."""

    first_day: date
    last_day: date


class BrokenUser(_Row):
    """One user whom a repair would concern."""

    user_id: UUID
    gaps: tuple[Gap, ...]


class RepairPlan(_Row):
    """What a repair would do to some users."""

    scanned: int
    users: int
    days: int
    next_after: UUID | None
    sample: tuple[BrokenUser, ...]


class RepairProgress(_Row):
    """How far a repair has got; the totals since it began."""

    repair_id: int
    scanned: int
    users: int
    days: int
    finished: bool


class UndoProgress(_Row):
    """How far the undoing of a repair has got; the totals since it began."""

    repair_id: int
    undone_users: int
    undone_days: int
    kept_days: int
    finished: bool


class Erasure(_Row):
    """How many rows of each kind were removed; `profiles` counts those set back to their defaults."""

    streaks: int
    days: int
    history: int
    archived: int
    profiles: int


class Diagnosis(_Row):
    """What one check in the database found.

    Attributes:
        check_name: What was looked for.
        status: ``ok``, or ``failed`` (an inconsistency), ``warning`` (wants a look) or ``info`` (to be read).
        found: How many rows are in the sample.
        detail: What they are, for people.
        sample: The rows.
    """

    check_name: str
    status: str
    found: int
    detail: str
    sample: tuple[Mapping[str, Any], ...]


class _Started(_Row):
    repair_id: int


class _Archived(_Row):
    archived: int
    finished: bool


class _Document(_Row):
    document: Mapping[str, Any]


class Operator:
    """Calls the operators' functions with the secret key, one at a time; retries carry one request id.

    Args:
        settings: Where the service is, and the secret key.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._driver = Driver(settings, RETRIES, TIMEOUT, Metrics())

    @classmethod
    def from_env(cls) -> Self:
        """Make one from ``SUPABASE_URL`` and ``SUPABASE_SECRET_KEY``, of the environment or a ``.env`` file."""
        return cls(Settings.from_env())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._driver.close()

    def undo(self, user_id: UUID | str, day: date, reason: str) -> Correction:
        """Take a day out of a user's ledger as if nothing had counted on it."""
        return self._correct(
            "undo_user_activity",
            p_user_id=str(_inputs.user_id(user_id)),
            p_day=day.isoformat(),
            p_reason=_inputs.reason(reason),
        )

    def merge(self, source: UUID | str, into: UUID | str, reason: str) -> Correction:
        """Give all days of one user to another."""
        return self._correct(
            "merge_user_streaks",
            p_from=str(_inputs.user_id(source, "from")),
            p_into=str(_inputs.user_id(into, "into")),
            p_reason=_inputs.reason(reason),
        )

    def export(self, user_id: UUID | str) -> Mapping[str, Any]:
        """Read all that streaks hold of a user, as one document."""
        return self._one(_Document, "export_user_streak", p_user_id=str(_inputs.user_id(user_id))).document

    def erase(self, user_id: UUID | str) -> Erasure:
        """Remove all that streaks hold of a user."""
        return self._one(Erasure, "erase_user_streak", p_user_id=str(_inputs.user_id(user_id)))

    def plan_repair(self, began: datetime, ended: datetime, sample: int) -> Iterator[RepairPlan]:
        """Ask what a repair would do, page by page; nothing is written."""
        after: UUID | None = None
        while True:
            page = self._one(
                RepairPlan,
                "preview_streak_repair",
                p_from=began.isoformat(),
                p_to=ended.isoformat(),
                p_after=None if after is None else str(after),
                p_limit=PAGE,
                p_sample=sample,
            )
            yield page
            sample, after = max(0, sample - len(page.sample)), page.next_after
            if after is None:
                return

    def start_repair(self, began: datetime, ended: datetime, reason: str) -> int:
        """Begin a repair, and return its number; no streak changes yet."""
        params = {"p_from": began.isoformat(), "p_to": ended.isoformat(), "p_reason": _inputs.reason(reason)}
        return self._one(_Started, "start_streak_repair", **params, p_request_id=str(uuid4())).repair_id

    def continue_repair(self, repair_id: int, limit: int) -> RepairProgress:
        """Repair at most so many users."""
        return self._one(RepairProgress, "continue_streak_repair", p_repair_id=repair_id, p_limit=limit)

    def undo_repair(self, repair_id: int, limit: int) -> UndoProgress:
        """Undo the repair of at most so many users."""
        return self._one(UndoProgress, "undo_streak_repair", p_repair_id=repair_id, p_limit=limit)

    def archive(self, older_than: timedelta | None, limit: int, *, remove: bool) -> tuple[int, bool]:
        """Move at most so many old history rows into the archive, or away; how many, and whether none are left."""
        age = None if older_than is None else f"{older_than.total_seconds():.0f} seconds"
        params = {"p_older_than": age, "p_limit": limit, "p_remove": remove}
        answer = self._one(_Archived, "archive_streak_history", **params)
        return answer.archived, answer.finished

    def diagnose(self, limit: int) -> list[Diagnosis]:
        """Run the database's checks, each with at most so many rows in its sample; once, since they are expensive."""
        adapter = TypeAdapter(list[Diagnosis])
        driver = Driver(self._settings, 0, DIAGNOSIS_TIMEOUT, Metrics())
        try:
            return driver.run(_ask(Call(Rpc("diagnose_streaks", {"p_limit": limit}), rows_of(adapter))))
        finally:
            driver.close()

    def _correct(self, function: str, **params: object) -> Correction:
        return self._one(Correction, function, **params, p_request_id=str(uuid4()))

    def _one(self, model: type[T], function: str, **params: object) -> T:
        adapter: TypeAdapter[list[T]] = TypeAdapter(list[model])  # type: ignore[valid-type]
        return self._driver.run(_ask(Call(Rpc(function, params), one_of(adapter))))


def _ask(call: Call[T]) -> Flow[T]:
    answer: T = yield call
    return answer
