"""Makes users where a demo or a replay needs them."""

from __future__ import annotations

from collections.abc import Collection
from uuid import UUID

from streak_client.cli._common import WRONG_INPUT, CommandError
from streak_client.cli._extras import extra


async def create_users(database_url: str, user_ids: Collection[UUID | str]) -> None:
    """Insert users who can own a streak and do nothing else: they have no address and no password.

    Args:
        database_url: The database, as a role that may write ``auth.users``.
        user_ids: Their ids; those who are there already stay as they are.

    Raises:
        CommandError: The database cannot be reached or refuses.
    """
    with extra("local"):
        import asyncpg  # noqa: PLC0415 - only this option needs it
    try:
        connection = await asyncpg.connect(database_url)
    except (OSError, ValueError, asyncpg.PostgresError) as error:
        # The message of a malformed URL could repeat its password.
        raise CommandError(f"DATABASE_URL cannot be used ({type(error).__name__}).", WRONG_INPUT) from None
    try:
        await connection.execute(
            "insert into auth.users (id, aud, role, created_at, updated_at) "
            "select id, 'authenticated', 'authenticated', now(), now() from unnest($1::uuid[]) id "
            "on conflict do nothing",
            list(user_ids),
        )
    except asyncpg.PostgresError as error:
        raise CommandError(f"The users could not be made: {error}") from error
    finally:
        await connection.close()
