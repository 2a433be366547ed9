"""Fixtures of the growth tests."""

from tests.support.database import clockwork_database, migrated_template, own_database

__all__ = ["clockwork_database", "migrated_template", "own_database"]
