"""Undo, repair, merge, archive and erasure, mixed with everything else, against the reference model."""

from __future__ import annotations

import pytest

from tests.support.machine_runs import STEPS_A_SCHEDULE, run_schedules, run_until_taken
from tests.support.operations_machine import OperationsMachine

STEPS = 1_500
KINDS = ["undo", "merge", "repair", "repaired", "undo repair", "undone", "archive", "erase", "explain"]


def schedules_of(steps: int) -> int:
    """How many schedules make about so many steps."""
    return steps // STEPS_A_SCHEDULE + 5


@pytest.mark.timeout(600)
def test_operations_and_model_agree_after_every_step(clockwork_database: str) -> None:
    """Whatever an operator does between whatever users do, tables and answers are what the model says."""
    least = dict.fromkeys(KINDS, 2)
    schedules, more = schedules_of(STEPS), schedules_of(STEPS // 5)
    run_until_taken(OperationsMachine, clockwork_database, least, schedules=schedules, more=more)


@pytest.mark.long
@pytest.mark.timeout(7200)
def test_operations_and_model_agree_on_random_schedules(clockwork_database: str) -> None:
    """The same for a hundred thousand steps that no run has taken before."""
    run_schedules(OperationsMachine, clockwork_database, schedules_of(100_000), derandomize=False)
