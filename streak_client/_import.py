"""Past activity in bulk: how it is cut into requests, and what they did together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from uuid import UUID

from pydantic import TypeAdapter

from streak_client import _inputs
from streak_client._batch import Prepared
from streak_client._calls import activity_list, prepare
from streak_client._steps import Call, Flow, Rpc, rows_of
from streak_client._translate import from_word
from streak_client.errors import InvalidInputError, StreakError
from streak_client.models import Activity, ImportedUser, ImportSummary

DEFAULT_CHUNK = 2_000
MAX_CHUNK = 10_000
# The answer has a row per user, and PostgREST cuts an answer off after 1,000 rows without a word.
MAX_USERS = 1_000

# The database's bound; it would name the event by its place in one request, which callers do not know.
EARLIEST = datetime(1970, 1, 2, tzinfo=UTC)

Progress = Callable[[int, int], object]

_users = TypeAdapter(list[ImportedUser])


def import_activity(
    activities: Iterable[Activity], now: datetime, chunk_size: int, progress: Progress | None
) -> Flow[ImportSummary]:
    """Enter past activity in bulk."""
    size = _inputs.whole_number(chunk_size, "chunk_size", 1, MAX_CHUNK)
    given = activity_list(activities)
    ready = [_prepare_past(activity, now, index) for index, activity in enumerate(given)]
    return (yield from import_prepared(ready, size, progress))


def import_prepared(
    activities: Iterable[Prepared], size: int = DEFAULT_CHUNK, progress: Progress | None = None
) -> Flow[ImportSummary]:
    """Enter past activity that has been checked."""
    # One history row is written per user and request: together, a user's events make fewer.
    ready = sorted(activities, key=lambda prepared: prepared.user_id)
    done, answers = 0, list[ImportedUser]()
    for chunk in _portions(ready, size):
        try:
            answers += yield Call(Rpc("import_user_activity", _params(chunk)), rows_of(_users))
        except StreakError as error:
            error.add_note(f"{done} of {len(ready)} activities were imported; importing all of them again is safe.")
            raise
        done += len(chunk)
        if progress is not None:
            progress(done, len(ready))
    return _summary(done, answers)


def _prepare_past(activity: Activity, now: datetime, index: int) -> Prepared:
    if activity.activity_at is None:
        field = f"activities[{index}].activity_at"
        raise InvalidInputError(f"{field} is required in an import", field=field)
    prepared = prepare(activity, now, f"activities[{index}].")
    if prepared.activity_at < EARLIEST:
        field = f"activities[{index}].activity_at"
        raise InvalidInputError(f"{field} is before 1970", field=field)
    return prepared


def _portions(ready: Sequence[Prepared], size: int) -> Iterator[Sequence[Prepared]]:
    start, users = 0, set[UUID]()
    for index, prepared in enumerate(ready):
        if index - start == size or (len(users) == MAX_USERS and prepared.user_id not in users):
            yield ready[start:index]
            start, users = index, set()
        users.add(prepared.user_id)
    if ready:
        yield ready[start:]


def _params(chunk: Sequence[Prepared]) -> dict[str, object]:
    return {
        "p_user_ids": [str(prepared.user_id) for prepared in chunk],
        "p_activity_ats": [prepared.activity_at.isoformat() for prepared in chunk],
        "p_timezones": [prepared.timezone for prepared in chunk],
    }


def _summary(events: int, answers: Iterable[ImportedUser]) -> ImportSummary:
    refused = {answer.user_id: from_word(answer.error) for answer in answers if answer.error}
    added = [answer for answer in answers if answer.days_added]
    return ImportSummary(
        events=events,
        users=len({answer.user_id for answer in added}),
        days_added=sum(answer.days_added or 0 for answer in added),
        refused=refused,
    )
