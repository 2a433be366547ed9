"""The durable outbox: activities that could not be sent, kept where they survive whatever ends the process."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from uuid import uuid4

from streak_client._batch import Prepared
from streak_client._blame import Answer
from streak_client._outbox_sqlite import SqliteStore
from streak_client._outbox_store import Failure, OutboxEntry, Store, Written
from streak_client._redis import is_redis
from streak_client.errors import ConnectionFailedError, InvalidInputError, StreakError
from streak_client.models import StreakUpdate

logger = logging.getLogger("streak_client")

DEFAULT_LIMIT = 100_000
# A failure of one entry that is nobody's mistake, such as a constraint, may be mended by a new release of the database.
ATTEMPTS = 20
# Longer than all attempts of a call with the default time-outs. If one takes longer still, its activity is sent twice,
# which its request id makes harmless.
LEASE = 60.0


class Outbox:
    """Activities that wait, bounded, in order, and safe to use from any thread or process.

    It holds user ids, times, zones and request ids; never a key. A file is readable by its owner alone. A Redis keeps
    what it is said to keep only with ``appendonly yes`` and ``appendfsync always``, and without eviction.

    Args:
        location: A SQLite file, made if it does not exist, or the URL of a Redis that several machines share
            (``"redis://host:6379/0"``; ``"redis://host:6379/0#name"`` where it serves several projects), which is
            never shown.
        limit: The most activities that may wait. What comes beyond is dropped, and each drop is logged as an error.

    Raises:
        ConfigurationError: The file cannot be opened, or the URL is malformed.
    """

    def __init__(self, location: str | Path, limit: int = DEFAULT_LIMIT) -> None:
        self._limit = limit
        self._me = uuid4().hex
        self._drains_here = threading.Lock()  # a store's lock may be the process's
        self._store = _open(location)

    def close(self) -> None:
        """Close the file or the connections."""
        self._store.close()

    def hold(self, prepared: Prepared, now: datetime) -> int | None:
        """Write an activity down before it is sent, so that not even SIGKILL can lose it.

        For a minute it is left to whoever holds it; then it waits like any other.

        Args:
            prepared: The activity with its request id and time.
            now: The present instant.

        Returns:
            The entry's id; None if it could not be written, or is there already.
        """
        try:
            return self._store.insert(Written.of(prepared, now), None, self._me, LEASE, self._limit, safe=False)
        except self._store.failures as failure:
            logger.warning("an activity is sent without having been written to the outbox (%s)", _kind(failure))
            return None

    def remove(self, entry_id: int | None) -> None:
        """Forget an activity that has its answer.

        Args:
            entry_id: What `hold` gave.
        """
        if entry_id is None:
            return
        try:
            self._store.delete(entry_id)
        except self._store.failures as failure:
            logger.warning(
                "an activity that was counted stays in the outbox, and will be sent again (%s)", _kind(failure)
            )

    def release(self, entry_id: int | None, error: StreakError | None) -> bool:
        """Let an activity wait that was held.

        Args:
            entry_id: What `hold` gave.
            error: Why it could not be sent; None if that is not known.

        Returns:
            Whether it waits now, safe on the disk.
        """
        if entry_id is None:
            return False
        try:
            return self._store.release(entry_id, None if error is None else _describe(error))
        except self._store.failures as failure:
            # It is written, and its time as a held one will pass.
            logger.warning("an activity waits in the outbox for longer than it should (%s)", _kind(failure))
            return True

    def abandon(self, entry_id: int | None) -> None:
        """Let an activity wait whose sender was stopped, so that nobody knows whether it counted.

        Args:
            entry_id: What `hold` gave.
        """
        self.release(entry_id, None)

    def keep(self, entry_id: int | None, prepared: Prepared, error: StreakError, now: datetime) -> bool:
        """Keep an activity that could not be sent, whether or not `hold` could write it down.

        Args:
            entry_id: What `hold` gave.
            prepared: The activity.
            error: Why it could not be sent.
            now: The present instant.

        Returns:
            True once it is on the disk; False if it was dropped, which has been logged.
        """
        return self.release(entry_id, error) or self.put(prepared, error, now)

    def put(self, prepared: Prepared, error: StreakError, now: datetime) -> bool:
        """Keep an activity.

        Args:
            prepared: The activity with its request id and time.
            error: Why it could not be sent.
            now: The present instant.

        Returns:
            True once it is on the disk; False if it was dropped, which has been logged.
        """
        written = Written.of(prepared, now)
        try:
            added = self._store.insert(written, _describe(error), None, LEASE, self._limit, safe=True)
            kept = added is not None or self._store.waits(written)
        except self._store.failures as failure:
            logger.error("an activity was DROPPED: the outbox cannot be written (%s)", _kind(failure))  # noqa: TRY400
            return False
        if not kept:
            logger.error("an activity was DROPPED: the outbox holds its limit of %d", self._limit)
        return kept

    def entries(self, limit: int = 1_000, *, refused: bool = False) -> list[OutboxEntry]:
        """Look at what waits, or at what was refused.

        Args:
            limit: The most entries to return.
            refused: Whether to return the refused ones instead.

        Returns:
            The entries, oldest first; without those that are being sent for the first time.

        Raises:
            ConnectionFailedError: The outbox cannot be reached.
        """
        with self._reached():
            return self._store.entries(limit, LEASE, refused=refused)

    def depth(self) -> int:
        """Count what waits.

        Returns:
            The number of activities that are still to be sent; without those that are being sent for the first time.

        Raises:
            ConnectionFailedError: The outbox cannot be reached.
        """
        with self._reached():
            return self._store.depth(LEASE)

    def due_in(self) -> float | None:
        """Say when there is something to send.

        Returns:
            Seconds; 0 for now; more if all that waits is held by others, who may have died; None if nothing waits.

        Raises:
            ConnectionFailedError: The outbox cannot be reached.
        """
        with self._reached():
            return self._store.due_in(self._me, LEASE)

    @contextmanager
    def draining(self) -> Iterator[bool]:
        """Become the one who drains, among all threads and processes; a process that dies stops being it.

        Yields:
            Whether it worked; False if another drains already.

        Raises:
            ConnectionFailedError: The outbox cannot be reached.
        """
        if not self._drains_here.acquire(blocking=False):
            yield False
            return
        try:
            with self._reached(), self._store.draining() as mine:
                yield mine
        finally:
            self._drains_here.release()

    def retry_refused(self) -> int:
        """Let refused activities wait again, the oldest first, as if they had never been sent.

        Returns:
            How many wait now that were refused; fewer than all if no more than that may wait.

        Raises:
            ConnectionFailedError: The outbox cannot be reached.
        """
        with self._reached():
            return self._store.retry_refused(self._limit)

    def settle(self, outcomes: Mapping[int, Answer[StreakUpdate | None]]) -> bool:
        """Note what became of entries that were sent.

        Args:
            outcomes: By the entry's id, the answer (None from an import) or the error, and whether that is its own.

        Returns:
            Whether to go on: False if nothing left the queue, so that the service is at fault or needs time.

        Raises:
            ConnectionFailedError: The outbox cannot be reached; what was sent will be sent again, and count once.
        """
        sent = [entry_id for entry_id, answer in outcomes.items() if not isinstance(answer.outcome, StreakError)]
        failed = {
            entry_id: Failure(_describe(error), answer.own and isinstance(error, InvalidInputError), answer.own)
            for entry_id, answer in outcomes.items()
            if isinstance(error := answer.outcome, StreakError)
        }
        with self._reached():
            settled = self._store.settle(sent, failed, ATTEMPTS, self._limit)
        if settled.refused:
            logger.error("%d activities in the outbox were REFUSED and are kept to be looked at", settled.refused)
        if settled.dropped:
            logger.error("%d refused activities were DROPPED from the outbox for newer ones", settled.dropped)
        return bool(sent or settled.refused)

    @contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            yield
        except self._store.failures as failure:
            raise ConnectionFailedError(f"The outbox cannot be reached ({_kind(failure)}).") from failure


def _open(location: str | Path) -> Store:
    if not is_redis(location):
        return SqliteStore(Path(location))
    from streak_client._outbox_redis import RedisStore  # noqa: PLC0415 - an extra

    return RedisStore(str(location))


def _kind(failure: Exception) -> str:
    # A name only: its text could repeat a URL, and with it a password.
    return type(failure).__name__


def _describe(error: StreakError) -> str:
    return f"{error.code}: {error.message}"
