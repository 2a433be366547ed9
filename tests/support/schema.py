"""The schema of a database as text that can be compared and kept."""

from __future__ import annotations

from pathlib import Path

import asyncpg

QUERY = Path(__file__).with_suffix(".sql")
SNAPSHOT = Path(__file__).parents[1] / "data" / "schema.snapshot.txt"


async def schema_of(url: str) -> list[str]:
    """One line for each table, column, constraint, right, function, comment and so on of `public` and `private`."""
    connection = await asyncpg.connect(url, server_settings={"search_path": ""})
    try:
        return [line for (line,) in await connection.fetch(QUERY.read_text(encoding="utf-8"))]
    finally:
        await connection.close()
