"""What any use of PostgreSQL may raise when PostgreSQL goes away: one list for all parts."""

from typing import Final

import asyncpg

DATABASE_ERRORS: Final = (
    OSError,
    TimeoutError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # a connection that broke between two messages, or under another task
)
"""What any use of PostgreSQL may raise when PostgreSQL goes away."""
