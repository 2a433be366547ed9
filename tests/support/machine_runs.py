"""How state machines are run: the same schedules every time, and others until everything was taken often enough."""

from __future__ import annotations

from collections.abc import Mapping

from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.support.streak_database import StreakDatabase
from tests.support.streak_machine import StreakMachine

STEPS_A_SCHEDULE = 50
ROUNDS = 5


def run_schedules(
    machine: type[StreakMachine], url: str, schedules: int, *, derandomize: bool, steps: int = STEPS_A_SCHEDULE
) -> None:
    """Run so many schedules on a database, and count what was taken."""
    machine.database = StreakDatabase(url)
    try:
        run_state_machine_as_test(
            machine,
            settings=settings(
                max_examples=schedules,
                stateful_step_count=steps,
                derandomize=derandomize,
                report_multiple_bugs=False,
                database=None,
                deadline=None,
                print_blob=not derandomize,
                suppress_health_check=list(HealthCheck),
            ),
        )
    finally:
        machine.database.close()


def run_until_taken(
    machine: type[StreakMachine], url: str, least: Mapping[str, int], *, schedules: int, more: int
) -> None:
    """Run the same schedules every time, and `more` others at most five times until each kind was taken often enough.

    Hypothesis draws on the constants of loaded modules, so what its schedules hold differs from run to run.
    """

    def wanting() -> dict[str, int]:
        return {kind: machine.taken[kind] for kind, goal in least.items() if machine.taken[kind] < goal}

    machine.taken.clear()
    run_schedules(machine, url, schedules, derandomize=True)
    for _ in range(ROUNDS):
        if not wanting():
            break
        run_schedules(machine, url, more, derandomize=False)
    assert not wanting(), dict(machine.taken)
