"""The database and the reference model under the same random schedules (README, How it stays right)."""

from __future__ import annotations

import pytest

from tests.model import ChangeType
from tests.support.machine_runs import run_schedules, run_until_taken
from tests.support.streak_machine import StreakMachine

STEPS = 20_000


def schedules_of(steps: int) -> int:
    """How many schedules make so many steps: one may end early."""
    return steps // 40 + 20


@pytest.mark.timeout(900)
def test_database_and_model_agree_after_every_step(clockwork_database: str) -> None:
    """Whatever happens in whatever order, the database answers and stores what the rules say."""
    least = {"step": STEPS} | dict.fromkeys((*ChangeType, "replay", "refusal", "batch", "sweep"), 200)
    schedules, more = schedules_of(STEPS), schedules_of(STEPS // 10)
    run_until_taken(StreakMachine, clockwork_database, least, schedules=schedules, more=more)


@pytest.mark.long
@pytest.mark.timeout(7200)
def test_database_and_model_agree_on_random_schedules(clockwork_database: str) -> None:
    """The same for a quarter of a million steps that no run has taken before."""
    run_schedules(StreakMachine, clockwork_database, schedules_of(250_000), derandomize=False)
