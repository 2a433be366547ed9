"""How activities leave the outbox: in order, none held up by another's refusal; what is too old through the import."""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple, TypeAlias

from streak_client._blame import Answer, by_halves
from streak_client._calls import send_batch
from streak_client._import import import_prepared
from streak_client._outbox_store import OutboxEntry
from streak_client._steps import Flow
from streak_client.errors import InvalidInputError, StreakError
from streak_client.models import StreakUpdate

logger = logging.getLogger("streak_client")

CHUNK = 500
# Those first that the database will send on to the import, so that all leave about in the order of their times.
LONG_AGO = timedelta(days=7)
TOO_OLD = "ACTIVITY_TOO_OLD"
FIRST_PAUSE = 1.0
CONGESTION = 0.05  # seconds between looks, while another thread or process drains
LONGEST_PAUSE = 60.0

Outcomes: TypeAlias = Mapping[int, Answer[StreakUpdate | None]]


def pause_after(failures: int) -> float:
    """Say how long the drainer waits.

    Args:
        failures: How many attempts in a row have failed.

    Returns:
        Seconds, at most a minute, spread so that many processes do not come back together.
    """
    longest = min(FIRST_PAUSE * 2.0 ** min(failures, 10), LONGEST_PAUSE)
    return longest * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, guards nothing


def wait_for_holders(due_in: float) -> float:
    """Say how long to wait while others hold all that there is: not so long that what comes meanwhile lies about.

    Args:
        due_in: Seconds until the first of them has held its entry for too long.

    Returns:
        Seconds.
    """
    return min(due_in, FIRST_PAUSE)


class Pause(NamedTuple):
    """What the background drainer does next.

    Attributes:
        seconds: How long it waits.
        failures: How many attempts in a row have failed by now.
    """

    seconds: float
    failures: int


def next_pause(due_in: float | None, failures: int, *, went_on: bool | None) -> Pause | None:
    """Decide what the background drainer does after a look at the outbox.

    Args:
        due_in: What the outbox said.
        failures: How many attempts in a row had failed before.
        went_on: Whether entries were sent, if any were due.

    Returns:
        How long to wait; None to end, since nothing waits.
    """
    if due_in is None:
        return None
    if due_in:
        return Pause(wait_for_holders(due_in), failures)
    return Pause(0.0, 0) if went_on else Pause(pause_after(failures + 1), failures + 1)


def pause_without_outbox(error: StreakError, failures: int) -> Pause:
    """Decide what the background drainer does when the outbox itself cannot be reached.

    Args:
        error: What the outbox raised.
        failures: How many attempts in a row had failed before.

    Returns:
        How long to wait.
    """
    logger.warning("the outbox cannot be drained now (%s)", error.message)
    return Pause(pause_after(failures + 1), failures + 1)


def note_unsent(error: StreakError, *, queued: bool) -> None:
    """Log an activity that could not be sent.

    Args:
        error: Why.
        queued: Whether it is safe in the outbox.
    """
    if queued:
        logger.warning("an activity waits in the outbox (%s)", error.code)
    else:
        logger.error("an activity was LOST (%s): there is no outbox, or it is full", error.code)


def send_entries(entries: Sequence[OutboxEntry], now: datetime) -> Flow[Outcomes]:
    """Send entries of the outbox; what fails is an outcome, too."""
    old = [entry for entry in entries if entry.activity_at < now - LONG_AGO]
    recent = [entry for entry in entries if entry.activity_at >= now - LONG_AGO]
    outcomes: dict[int, Answer[StreakUpdate | None]] = {}
    for portion in filter(None, (old, recent)):
        outcomes |= yield from _send(portion)
    return outcomes


def _send(entries: Sequence[OutboxEntry]) -> Flow[dict[int, Answer[StreakUpdate | None]]]:
    # Not even the oldest may be imported unasked: its first try may have counted without an answer, perhaps as another
    # day, of which the database knows by the request id, and an import does not.
    answers = yield from send_batch([entry.prepared() for entry in entries])
    outcomes: dict[int, Answer[StreakUpdate | None]] = {
        entry.id: Answer(answer.outcome, answer.own) for entry, answer in zip(entries, answers, strict=True)
    }
    left = [entry for entry in entries if _is_too_old(outcomes[entry.id].outcome)]
    if left:
        imported = yield from by_halves(left, _import)
        outcomes |= {entry.id: Answer(answer.outcome, answer.own) for entry, answer in zip(left, imported, strict=True)}
    return outcomes


def _is_too_old(outcome: object) -> bool:
    return isinstance(outcome, InvalidInputError) and outcome.detail == TOO_OLD


def _import(entries: Sequence[OutboxEntry]) -> Flow[list[StreakError | None]]:
    summary = yield from import_prepared([entry.prepared() for entry in entries])
    return [summary.refused.get(entry.user_id) for entry in entries]
