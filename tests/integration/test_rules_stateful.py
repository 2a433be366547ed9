"""The database and the reference model under the same random schedules (README, How it stays right)."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.model import ChangeType
from tests.support.streak_database import StreakDatabase
from tests.support.streak_machine import StreakMachine

STEPS = 20_000
STEPS_A_SCHEDULE = 50


def run(url: str, steps: int, *, derandomize: bool) -> None:
    """Run schedules until there were so many steps."""
    StreakMachine.database = StreakDatabase(url)
    try:
        run_state_machine_as_test(
            StreakMachine,
            settings=settings(
                max_examples=steps // 40 + 20,  # a schedule may end early
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
        StreakMachine.database.close()


@pytest.mark.timeout(900)
def test_database_and_model_agree_after_every_step(clockwork_database: str) -> None:
    """Whatever happens in whatever order, the database answers and stores what the rules say."""
    StreakMachine.taken.clear()
    run(clockwork_database, STEPS, derandomize=True)
    # Hypothesis draws on the constants of loaded modules, so how far its schedules go differs from run to run.
    for _ in range(5):
        if not wanting():
            break
        run(clockwork_database, STEPS // 10, derandomize=False)
    assert not wanting(), dict(StreakMachine.taken)


def wanting() -> dict[str, int]:
    """What was not taken often enough yet."""
    least = {"step": STEPS} | dict.fromkeys((*ChangeType, "replay", "refusal", "batch", "sweep"), 200)
    return {kind: StreakMachine.taken[kind] for kind, goal in least.items() if StreakMachine.taken[kind] < goal}


@pytest.mark.long
@pytest.mark.timeout(7200)
def test_database_and_model_agree_on_random_schedules(clockwork_database: str) -> None:
    """The same for a quarter of a million steps that no run has taken before."""
    run(clockwork_database, 250_000, derandomize=False)
