"""What each operation sends, and how its answer is read: every decision of the client, and no I/O.

An operation is a generator (a *flow*): it yields the steps to take, is sent back their results, or has their error
thrown in, and returns the operation's result. The two clients differ only in how they make a request and sleep.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from copy import copy
from dataclasses import dataclass
from datetime import date, datetime
from itertools import count
from typing import Generic, TypeVar
from uuid import UUID, uuid4

from pydantic import TypeAdapter

from streak_client import _inputs
from streak_client._batch import MAX_BATCH, Batch, Prepared, chunks
from streak_client._blame import Answer, by_halves
from streak_client._steps import Call, Flow, Rpc, Select, one_of, rows_of
from streak_client.errors import ConnectionFailedError, InvalidInputError, StreakError
from streak_client.models import (
    Activity,
    ActivityOutcome,
    CalendarDay,
    HistoryEntry,
    LeaderboardEntry,
    LeaderboardOrder,
    StreakExplanation,
    StreakUpdate,
    UserStreak,
)

logger = logging.getLogger("streak_client")

T = TypeVar("T")

READ_CHUNK = 1_000
CALENDAR_CHUNK = 1_000
MAX_HISTORY_PAGE = 1_000

_updates = TypeAdapter(list[StreakUpdate])
_streaks = TypeAdapter(list[UserStreak])
_leaderboard = TypeAdapter(list[LeaderboardEntry])
_history = TypeAdapter(list[HistoryEntry])
_calendar = TypeAdapter(list[CalendarDay])
_explanations = TypeAdapter(list[StreakExplanation])


def prepare(activity: Activity, now: datetime, where: str = "") -> Prepared:
    """Check an activity, and fix its request id and its time for every attempt to come.

    Args:
        activity: The activity as it was given.
        now: The present instant, which stands in for a missing time.
        where: What goes before a field's name in an error.

    Returns:
        What to send.

    Raises:
        InvalidInputError: A field is wrong.
    """
    at, request_id = activity.activity_at, activity.request_id
    zone = _inputs.timezone(activity.timezone, f"{where}timezone")
    if zone is None and activity.timezone is not None:
        logger.warning("a time zone was ignored: it cannot be the name of one")
    return Prepared(
        user_id=_inputs.user_id(activity.user_id, f"{where}user_id"),
        activity_at=now if at is None else _inputs.activity_at(at, now, f"{where}activity_at"),
        timezone=zone,
        request_id=str(uuid4()) if request_id is None else _inputs.request_id(request_id, f"{where}request_id"),
    )


def _warn_of_ignored_zone(sent: str | None, update: StreakUpdate) -> None:
    # Another zone may have decided for a good reason; only one that does not exist is named in the message, cut short.
    if sent is not None and update.timezone != sent and f'"{sent[:64]}"' in update.message:
        logger.warning("time zone %r was ignored, the day was counted in %s", sent, update.timezone)


def update_user_streak(prepared: Prepared) -> Flow[StreakUpdate]:
    """Count one activity."""
    update: StreakUpdate = yield Call(Rpc("update_user_streak_atomic", prepared.params()), one_of(_updates))
    _warn_of_ignored_zone(prepared.timezone, update)
    return update


def update_user_streaks(activities: Iterable[Activity], now: datetime) -> Flow[list[ActivityOutcome]]:
    """Count many activities, each with its own outcome."""
    given = activity_list(activities)
    found: dict[int, StreakUpdate | StreakError] = {}
    ready: list[tuple[int, Prepared]] = []
    for index, activity in enumerate(given):
        try:
            ready.append((index, prepare(activity, now, f"activities[{index}].")))
        except InvalidInputError as error:
            found[index] = error
    for chunk in chunks(ready, MAX_BATCH):
        answers = yield from send_batch([prepared for _, prepared in chunk])
        found.update((index, answer.outcome) for (index, _), answer in zip(chunk, answers, strict=True))
    return [_outcome(activity, found[index]) for index, activity in enumerate(given)]


def send_batch(elements: Sequence[Prepared]) -> Flow[list[Answer[StreakUpdate]]]:
    """Send activities in one batch RPC; one for which the database refuses them all fails alone."""
    answers = yield from by_halves(elements, _send_together)
    for element, answer in zip(elements, answers, strict=True):
        if isinstance(answer.outcome, StreakUpdate):
            _warn_of_ignored_zone(element.timezone, answer.outcome)
    return answers


def _send_together(elements: Sequence[Prepared]) -> Flow[list[StreakUpdate | StreakError]]:
    batch = Batch(elements)
    try:
        outcomes: list[StreakUpdate | StreakError] = yield batch
    except StreakError as error:
        if not batch.answered:
            raise
        return batch.outcomes(error)
    return outcomes


def send_prepared(elements: list[Prepared]) -> Flow[list[StreakUpdate | StreakError]]:
    """Count gathered activities, each with its own outcome; a single one needs no batch."""
    if len(elements) > 1:
        outcomes = [answer.outcome for answer in (yield from send_batch(elements))]
        return [_own(outcome) if isinstance(outcome, StreakError) else outcome for outcome in outcomes]
    try:
        update = yield from update_user_streak(elements[0])
    except StreakError as error:
        return [error]
    return [update]


def fail_all(elements: list[Prepared]) -> list[StreakUpdate | StreakError]:
    """Give the outcomes of a request whose sender was stopped: whether they were counted, nobody knows."""
    return [ConnectionFailedError("The request was broken off; whether it took effect is not known.") for _ in elements]


def _own(error: StreakError) -> StreakError:
    # One error may have befallen many callers; each raises a copy, whose traceback is theirs alone.
    mine = copy(error)
    mine.__cause__ = error.__cause__
    return mine


def _outcome(activity: Activity, found: StreakUpdate | StreakError) -> ActivityOutcome:
    if isinstance(found, StreakError):
        return ActivityOutcome(activity, error=found)
    return ActivityOutcome(activity, result=found)


def activity_list(values: object) -> list[Activity]:
    """Check that an argument holds activities.

    Args:
        values: Any iterable of `Activity`.

    Returns:
        The activities.

    Raises:
        InvalidInputError: It is no iterable, or an element is something else; the field names the element.
    """
    given = _inputs.sequence(values, "activities")
    for index, value in enumerate(given):
        if not isinstance(value, Activity):
            field = f"activities[{index}]"
            raise InvalidInputError(f"{field} must be an Activity, not {type(value).__name__}", field=field)
    return [value for value in given if isinstance(value, Activity)]


def get_user_streak(user_id: UUID | str) -> Flow[UserStreak]:
    """Read one user's streak."""
    checked = _inputs.user_id(user_id)
    streak: UserStreak = yield Call(
        Rpc("get_user_streak", {"p_user_id": str(checked)}), one_of(_streaks, user_id=checked)
    )
    return streak


def get_user_streaks(user_ids: Iterable[UUID | str]) -> Flow[dict[UUID, UserStreak]]:
    """Read many users' streaks."""
    checked = list(dict.fromkeys(_inputs.user_ids(user_ids)))
    streaks: list[UserStreak] = []
    for chunk in chunks(checked, READ_CHUNK):
        params = {"p_user_ids": [str(user_id) for user_id in chunk]}
        streaks += yield Call(Rpc("get_user_streaks", params), rows_of(_streaks))
    return {streak.user_id: streak for streak in streaks}


def get_leaderboard(limit: int, offset: int, order_by: LeaderboardOrder | str) -> Flow[list[LeaderboardEntry]]:
    """Read a page of the leaderboard."""
    params = {
        "p_limit": _inputs.whole_number(limit, "limit", 1, _inputs.MAX_LEADERBOARD_LIMIT),
        "p_offset": _inputs.whole_number(offset, "offset", 0, _inputs.MAX_INTEGER),
        "p_order_by": _inputs.leaderboard_order(order_by).value,
    }
    entries: list[LeaderboardEntry] = yield Call(Rpc("get_streak_leaderboard", params), rows_of(_leaderboard))
    return entries


def get_history(user_id: UUID | str, limit: int, before_id: int | None) -> Flow[list[HistoryEntry]]:
    """Read a page of a user's history, newest first."""
    filters = [("user_id", "eq", str(_inputs.user_id(user_id)))]
    if before_id is not None:
        filters.append(("id", "lt", str(_inputs.whole_number(before_id, "before_id", 0, _inputs.MAX_BIGINT))))
    request = Select(
        "streak_history",
        filters=tuple(filters),
        order_by="id",
        descending=True,
        limit=_inputs.whole_number(limit, "limit", 1, MAX_HISTORY_PAGE),
    )
    entries: list[HistoryEntry] = yield Call(request, rows_of(_history))
    return entries


def explain_user_streak(user_id: UUID | str) -> Flow[StreakExplanation]:
    """Ask why a user's streak is what it is."""
    checked = _inputs.user_id(user_id)
    explanation: StreakExplanation = yield Call(
        Rpc("explain_user_streak", {"p_user_id": str(checked)}), one_of(_explanations, user_id=checked)
    )
    return explanation


def get_calendar(user_id: UUID | str, first_day: date, last_day: date) -> Flow[list[CalendarDay]]:
    """Read a range of a user's ledger."""
    first, last = _inputs.day_range(first_day, last_day)
    checked = str(_inputs.user_id(user_id))
    days: list[CalendarDay] = []
    for start in range(first.toordinal(), last.toordinal() + 1, CALENDAR_CHUNK):
        end = min(start + CALENDAR_CHUNK - 1, last.toordinal())
        bounds = {"p_from": date.fromordinal(start).isoformat(), "p_to": date.fromordinal(end).isoformat()}
        days += yield Call(Rpc("get_streak_calendar", {"p_user_id": checked, **bounds}), rows_of(_calendar))
    return days


def recover_user_streak(
    user_id: UUID | str, first_day: date, last_day: date, reason: str, request_id: str | None
) -> Flow[StreakUpdate]:
    """Enter missed days as repaired."""
    first, last = _inputs.day_range(first_day, last_day)
    params = {
        "p_user_id": str(_inputs.user_id(user_id)),
        "p_from": first.isoformat(),
        "p_to": last.isoformat(),
        "p_reason": _inputs.reason(reason),
        "p_request_id": str(uuid4()) if request_id is None else _inputs.request_id(request_id),
    }
    update: StreakUpdate = yield Call(Rpc("recover_user_streak", params), one_of(_updates))
    return update


@dataclass(frozen=True, slots=True)
class Pages(Generic[T]):
    """A read in pages.

    Attributes:
        first: Reads the first page.
        following: Given a page, reads the next one; None when that was the last.
    """

    first: Flow[list[T]]
    following: Callable[[list[T]], Flow[list[T]] | None]


def history_pages(user_id: UUID | str, page_size: int) -> Pages[HistoryEntry]:
    """Read a whole history, newest first, page by page."""

    def following(page: list[HistoryEntry]) -> Flow[list[HistoryEntry]] | None:
        # By id, not by offset: what is written meanwhile would shift an offset.
        return get_history(user_id, page_size, page[-1].id) if len(page) == page_size else None

    return Pages(get_history(user_id, page_size, None), following)


def leaderboard_pages(order_by: LeaderboardOrder | str, page_size: int) -> Pages[LeaderboardEntry]:
    """Read a whole leaderboard, best first, page by page, as far as the database lets anybody read."""
    offsets = count(page_size, page_size)

    def following(page: list[LeaderboardEntry]) -> Flow[list[LeaderboardEntry]] | None:
        if len(page) < page_size or (offset := next(offsets)) > _inputs.MAX_LEADERBOARD_OFFSET:
            return None
        return get_leaderboard(page_size, offset, order_by)

    return Pages(get_leaderboard(page_size, 0, order_by), following)
