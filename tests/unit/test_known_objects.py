"""What `streaks doctor` and `streaks checklist` look at, against what the migrations make."""

from __future__ import annotations

import re
from pathlib import Path

from streak_client import _checklist, _doctor

SNAPSHOT = (Path(__file__).parents[1] / "data/schema.snapshot.txt").read_text()


def names(pattern: str) -> set[str]:
    """The names that a pattern finds at the beginning of the snapshot's lines."""
    return set(re.findall(rf"^{pattern}", SNAPSHOT, re.MULTILINE))


def test_the_doctor_calls_every_function_of_the_release() -> None:
    """No public function of the migrations is left out of what the doctor calls."""
    functions = names(r"function public\.(\w+)\(")
    assert functions
    assert functions == set(_doctor.FUNCTIONS)


def test_the_doctor_reads_every_table_of_the_release() -> None:
    """No public table of the migrations is left out of what the doctor reads, but the profiles, a project's own."""
    assert names(r"table public\.(\w+) ") - {"user_profiles"} == set(_doctor.TABLES)


def test_the_checklist_knows_every_table() -> None:
    """The checklist looks at every table of the migrations, the public and the private ones."""
    assert names(r"table public\.(\w+) ") == set(_checklist.TABLES)
    assert names(r"table private\.(\w+) ") == set(_checklist.PRIVATE_TABLES)


def test_the_checklist_knows_every_function_that_users_must_not_call() -> None:
    """Each public function that the migrations do not grant to signed-in users is one that the checklist guards."""
    granted = names(r"public\.(\w+)\(.*\) grant EXECUTE to authenticated$")
    assert granted
    assert names(r"function public\.(\w+)\(") - granted == set(_checklist.OPERATORS)
