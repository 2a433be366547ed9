"""A connection to PostgreSQL itself, for the few commands that REST cannot serve; its URL is never shown."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeAlias

from streak_client.errors import ConfigurationError, ConnectionFailedError, DatabaseError, PermissionDeniedError

if TYPE_CHECKING:
    import asyncpg

    Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

CONNECT_SECONDS = 15.0


def database_url(values: Mapping[str, str | None]) -> str:
    """Find the database's URL.

    Args:
        values: Names and values, as an environment holds them.

    Returns:
        ``DATABASE_URL``, unchecked.

    Raises:
        ConfigurationError: It is not set.
    """
    url = (values.get("DATABASE_URL") or "").strip()
    if not url:
        raise ConfigurationError(
            "Set DATABASE_URL in the environment or in a .env file: the session pooler's or the direct connection's "
            "URL, from Connect in the project's dashboard."
        )
    return url


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Connection]:
    """Connect to a database, and word its errors as the client does.

    Args:
        url: The database's; a pooler in transaction mode will do, as nothing is prepared.

    Yields:
        The connection.

    Raises:
        ConfigurationError: The URL is malformed, or asyncpg is not installed.
        ConnectionFailedError: The database cannot be reached, or went away.
        PermissionDeniedError: It refuses the password, or the role may not do what is done inside.
        DatabaseError: Any other error of PostgreSQL inside.
    """
    try:
        import asyncpg  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        raise ConfigurationError('This needs asyncpg: install "supabase-streaks[database]".') from error
    try:
        connection = await asyncpg.connect(url, timeout=CONNECT_SECONDS, statement_cache_size=0)
    except (asyncpg.InvalidPasswordError, asyncpg.InvalidAuthorizationSpecificationError):
        raise PermissionDeniedError("The database refuses the user or the password of DATABASE_URL.") from None
    except (asyncpg.CannotConnectNowError, asyncpg.TooManyConnectionsError, OSError, TimeoutError) as error:
        raise ConnectionFailedError(f"The database cannot be reached ({type(error).__name__}).") from None
    except (asyncpg.PostgresError, asyncpg.InterfaceError, ValueError) as error:
        # The message of a malformed URL could repeat its password.
        raise ConfigurationError(f"DATABASE_URL cannot be used ({type(error).__name__}).") from None
    try:
        yield connection
    except asyncpg.InsufficientPrivilegeError as error:
        raise PermissionDeniedError(f"The role of DATABASE_URL may not do this: {error}", sqlstate="42501") from error
    except (asyncpg.PostgresConnectionError, asyncpg.OperatorInterventionError, ConnectionError) as error:
        raise ConnectionFailedError(f"The database went away: {type(error).__name__}") from error
    except asyncpg.InterfaceError as error:
        if not connection.is_closed():
            raise
        # asyncpg fails so where it would end a transaction on a connection that is gone.
        raise ConnectionFailedError("The database went away.") from error
    except asyncpg.PostgresError as error:
        raise DatabaseError(f"The database refused: {error}", sqlstate=error.sqlstate) from error
    finally:
        await connection.close()
