"""Which tables a backup holds."""

from __future__ import annotations

from pathlib import Path

from streak_client._backup.catalog import TABLES

SCHEMA = Path(__file__).parents[1] / "data" / "schema.snapshot.txt"


def test_every_table_of_the_migrations_is_in_the_backup() -> None:
    """No table of the schema is forgotten by backup and restore, and none is named that the schema lacks."""
    lines = SCHEMA.read_text(encoding="utf-8").splitlines()
    # How far the archive has come is the target's own: its walk begins again each day.
    made = {line.split()[1] for line in lines if line.startswith("table ")} - {"private.history_archive_position"}
    assert sorted(TABLES) == sorted(made)
