"""Undo, repair, merge, archive and erasure, mixed with everything else, against the reference model."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.support.operations_machine import OperationsMachine
from tests.support.streak_database import StreakDatabase

STEPS = 1_500
STEPS_A_SCHEDULE = 50
KINDS = ["undo", "merge", "repair", "repaired", "undo repair", "undone", "archive", "erase", "explain"]


def run(url: str, steps: int, *, derandomize: bool) -> None:
    """Run schedules until there were so many steps."""
    OperationsMachine.database = StreakDatabase(url)
    try:
        run_state_machine_as_test(
            OperationsMachine,
            settings=settings(
                max_examples=steps // STEPS_A_SCHEDULE + 5,
                stateful_step_count=STEPS_A_SCHEDULE,
                derandomize=derandomize,
                report_multiple_bugs=False,
                database=None,
                deadline=None,
                print_blob=not derandomize,
                suppress_health_check=list(HealthCheck),
            ),
        )
    finally:
        OperationsMachine.database.close()


@pytest.mark.timeout(600)
def test_operations_and_model_agree_after_every_step(clockwork_database: str) -> None:
    """Whatever an operator does between whatever users do, tables and answers are what the model says."""
    OperationsMachine.taken.clear()
    run(clockwork_database, STEPS, derandomize=True)
    # Hypothesis draws on the constants of loaded modules, so what its schedules hold differs from run to run.
    for _ in range(5):
        if not rare():
            break
        run(clockwork_database, STEPS // 5, derandomize=False)
    assert not rare(), dict(OperationsMachine.taken)


def rare() -> dict[str, int]:
    """What was hardly ever done."""
    return {kind: OperationsMachine.taken[kind] for kind in KINDS if OperationsMachine.taken[kind] < 2}


@pytest.mark.long
@pytest.mark.timeout(7200)
def test_operations_and_model_agree_on_random_schedules(clockwork_database: str) -> None:
    """The same for a hundred thousand steps that no run has taken before."""
    run(clockwork_database, 100_000, derandomize=False)
