"""The stream of committed changes: logical decoding with `pgoutput` through a temporary slot on one connection.

The wait for news happens inside PostgreSQL, in a loop that compares WAL positions every few milliseconds: an idle
stream costs neither a decoding run nor a round trip. A decoding run reads the WAL again from the slot's restart
position, which PostgreSQL moves only where it logged the running transactions; so the stream asks for that record
after much WAL.
"""

import asyncio
import logging
import uuid
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import asyncpg

from .database_errors import DATABASE_ERRORS
from .pgoutput import Change, Decoder

__all__ = ["DATABASE_ERRORS", "SESSION", "ChangeStream", "PublicationMissingError", "connect", "is_outage"]

_log = logging.getLogger(__name__)

# to_jsonb and the text of values must not depend on how the database is configured.
SESSION: Final = {
    "timezone": "UTC",
    "datestyle": "ISO, MDY",
    "intervalstyle": "postgres",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "client_encoding": "UTF8",
    "application_name": "local_supabase realtime",
}

# Each decoding run would write about itself into the server's log, several times a second. Not every role may say so.
_NO_LOG: Final = """
select set_config('log_min_messages', 'fatal', false) where has_parameter_privilege('log_min_messages', 'set')
"""
_CREATE_WAIT: Final = """
create or replace function pg_temp.wait_for_wal(after pg_lsn, pause float8, patience float8) returns pg_lsn
language plpgsql as $$
declare
  until_ timestamptz := clock_timestamp() + make_interval(secs => patience);
  reached pg_lsn;
begin
  loop
    reached := pg_catalog.pg_current_wal_flush_lsn();
    exit when reached > after or clock_timestamp() >= until_;
    perform pg_catalog.pg_sleep(pause);
  end loop;
  return reached;
end $$
"""
_WAIT: Final = "select (w - '0/0'::pg_lsn)::int8 from pg_temp.wait_for_wal('0/0'::pg_lsn + $1::int8, $2, $3) w"
_CHANGES: Final = """
select data from pg_catalog.pg_logical_slot_get_binary_changes(
  $1, null, $2, 'proto_version', '1', 'publication_names', $3)
"""
_PATIENCE: Final = 0.5  # seconds that a waiting query, and with it the oldest snapshot, may live
_MAX_MESSAGES: Final = 5_000  # PostgreSQL stops after the transaction that reaches it
_SNAPSHOT_AFTER: Final = 4 * 1024 * 1024  # bytes of WAL between requests to log the running transactions


def is_outage(error: Exception) -> bool:
    """Whether an error is of the connection or the server (lost, full, shutting down), not of the statement."""
    return (getattr(error, "sqlstate", None) or "")[:2] in ("08", "53", "57")


class PublicationMissingError(LookupError):
    """The publication does not exist (yet)."""


async def connect(database_url: str, **options: Any) -> "asyncpg.Connection[asyncpg.Record]":
    """Connect with the settings under which PostgreSQL writes values as Realtime shows them."""
    # No TLS: the stand-in serves one machine.
    return await asyncpg.connect(database_url, server_settings=SESSION, timeout=10, ssl=False, **options)


class ChangeStream:
    """The changes of one publication, from the moment of `open` on.

    Args:
        database_url: A role with the right to replicate and to read the catalog.
        publication: The publication's name.
        poll_interval: Seconds between two looks at the WAL position while nothing happens.
    """

    def __init__(self, database_url: str, publication: str, poll_interval: float) -> None:
        self._database_url = database_url
        self._publication = publication
        self._poll_interval = poll_interval
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None
        self._slot = ""
        self._position = 0
        self._snapshot_position = 0

    async def open(self) -> None:
        """Connect and create the slot; changes committed from now on will be seen.

        Raises:
            PublicationMissingError: There is nothing to stream yet.
            OSError: PostgreSQL cannot be reached.
            asyncpg.PostgresError: It refuses.
        """
        await self.close()
        self._slot = ""
        connection = self._connection = await connect(self._database_url)
        if not await connection.fetchval("select 1 from pg_publication where pubname = $1", self._publication):
            raise PublicationMissingError(self._publication)
        await connection.execute(_NO_LOG)
        await connection.execute(_CREATE_WAIT)
        slot = f"realtime_{uuid.uuid4().hex}"
        create = "select pg_create_logical_replication_slot($1, 'pgoutput', temporary => true)"
        # It waits for the transactions that are open now, however long they take.
        await connection.fetchval(create, slot)
        self._slot = slot
        self._position = 0

    async def close(self) -> None:
        """Disconnect. The slot goes first, so that nobody who waits for its end has to guess."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        try:
            async with asyncio.timeout(_PATIENCE * 4):
                if self._slot:
                    await connection.fetchval("select pg_drop_replication_slot($1)", self._slot)
                await connection.close()
        except DATABASE_ERRORS:
            connection.terminate()

    async def batches(self, gate: Callable[[], Any] | None = None) -> AsyncIterator[list[Change]]:
        """Yield what was committed, in order of commit, in batches of whole transactions.

        Args:
            gate: Awaited before news is read; for tests that hold the stream.

        Raises:
            OSError: The connection is lost.
            asyncpg.PostgresError: PostgreSQL ended the session, or the publication was dropped or made anew.
        """
        connection = self._connection
        if connection is None:
            raise ConnectionError("the stream is not open")
        wait = await connection.prepare(_WAIT)
        fetch = await connection.prepare(_CHANGES)
        while True:
            reached: int = await wait.fetchval(self._position, self._poll_interval, _PATIENCE)
            if reached <= self._position:
                continue
            if gate is not None:
                await gate()
            started = asyncio.get_running_loop().time()
            decoder = Decoder()
            messages = await fetch.fetch(self._slot, _MAX_MESSAGES, self._publication)
            changes = [change for (data,) in messages if (change := decoder.feed(data)) is not None]
            if len(messages) < _MAX_MESSAGES:
                self._position = reached
            await self._move_restart_position(reached)
            if changes:
                yield changes
            elif not messages:
                # The WAL grows without a commit of ours: decoding it again at once would keep a core busy.
                await asyncio.sleep(asyncio.get_running_loop().time() - started)

    async def _move_restart_position(self, reached: int) -> None:
        if self._connection is not None and reached - self._snapshot_position > _SNAPSHOT_AFTER:
            self._snapshot_position = reached
            await self._connection.fetchval("select pg_catalog.pg_log_standby_snapshot()")
