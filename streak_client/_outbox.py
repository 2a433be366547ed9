"""The durable outbox: activities that could not be sent, in a SQLite file that survives whatever ends the process."""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

from filelock import FileLock, Timeout

from streak_client._batch import Prepared
from streak_client.errors import ConfigurationError, DatabaseError, InvalidInputError, StreakError
from streak_client.models import StreakUpdate

logger = logging.getLogger("streak_client")

DEFAULT_LIMIT = 100_000
# A refusal that is nobody's mistake, such as a constraint, may be mended by a new release of the database.
ATTEMPTS = 20
# Longer than all attempts of a call with the default time-outs. If one takes longer still, its activity is sent twice,
# which its request id makes harmless.
LEASE = 60.0

_SCHEMA = """
create table if not exists outbox (
  id integer primary key autoincrement,
  user_id text not null,
  activity_at text not null,
  timezone text,
  request_id text not null,
  queued_at text not null,
  attempts integer not null default 0,
  error text,
  refused integer not null default 0,
  holder text,
  held_until real,
  unique (user_id, request_id)
)
"""
_COLUMNS = "id, user_id, activity_at, timezone, request_id, queued_at, attempts, error, refused"
# Epoch seconds. One too far ahead comes from a clock that was wrong, and holds nothing.
_DUE = "not refused and (held_until is null or held_until <= :now or held_until > :now + :lease)"


@dataclass(frozen=True, slots=True)
class OutboxEntry:
    """An activity that waits to be sent, or that was refused.

    Attributes:
        id: Grows with every entry.
        user_id: Who acted.
        activity_at: When.
        timezone: The zone that was sent, if any.
        request_id: The request id of the first try, and of all that follow.
        queued_at: When it came into the outbox.
        attempts: How often it was sent from there.
        error: The code and message of the last failure.
        refused: Whether it is kept only to be looked at: the database will not take it.
    """

    id: int
    user_id: UUID
    activity_at: datetime
    timezone: str | None
    request_id: str
    queued_at: datetime
    attempts: int
    error: str | None
    refused: bool

    def prepared(self) -> Prepared:
        """Bring the entry into the form in which activities are sent.

        Returns:
            The activity with its first request id and time.
        """
        return Prepared(self.user_id, self.activity_at, self.timezone, self.request_id)


class Outbox:
    """A file of activities, bounded, readable by its owner alone, and safe to use from any thread or process.

    It holds user ids, times, zones and request ids; never a key.

    Args:
        path: The SQLite file; made if it does not exist.
        limit: The most activities that may wait. What comes beyond is dropped, and each drop is logged as an error.

    Raises:
        ConfigurationError: The file cannot be opened.
    """

    def __init__(self, path: str | Path, limit: int = DEFAULT_LIMIT) -> None:
        self._path = Path(path)
        self._limit = limit
        self._me = uuid4().hex
        self._lock = threading.RLock()
        self._drainer = FileLock(f"{self._path}.lock", timeout=0, mode=0o600, thread_local=False)
        self._drains_here = threading.Lock()  # the file's lock is the process's
        try:
            # SQLite would make it readable by the group; what it adds beside it takes over this mode.
            os.close(os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600))
            self._db = sqlite3.connect(self._path, timeout=10, check_same_thread=False, isolation_level=None)
            self._db.execute("pragma journal_mode = wal")
            # Enough for whatever ends a process; what is said to be queued survives a power failure, too: `_synced`.
            self._db.execute("pragma synchronous = normal")
            self._db.execute(_SCHEMA)
        except (OSError, sqlite3.Error) as error:
            raise ConfigurationError(f"The outbox {self._path} cannot be opened: {error}") from error

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

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
            return self._insert(prepared, now, None, (self._me, time.time() + LEASE))
        except sqlite3.Error as failure:
            logger.warning("an activity is sent without having been written to the outbox (%s)", failure)
            return None

    def remove(self, entry_id: int | None) -> None:
        """Forget an activity that has its answer.

        Args:
            entry_id: What `hold` gave.
        """
        if entry_id is None:
            return
        try:
            with self._lock:
                self._db.execute("delete from outbox where id = ?", (entry_id,))
        except sqlite3.Error as failure:
            logger.warning("an activity that was counted stays in the outbox, and will be sent again (%s)", failure)

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
            with self._synced():
                changed = self._db.execute(
                    "update outbox set holder = null, held_until = null, error = ? where id = ?",
                    (None if error is None else _describe(error), entry_id),
                ).rowcount
        except sqlite3.Error as failure:
            # It is written, and its time as a held one will pass.
            logger.warning("an activity waits in the outbox for longer than it should (%s)", failure)
            return True
        return bool(changed)

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
        try:
            with self._synced():
                kept = self._insert(prepared, now, _describe(error), (None, None)) is not None or self._has(prepared)
        except sqlite3.Error as failure:
            logger.error("an activity was DROPPED: the outbox cannot be written (%s)", failure)  # noqa: TRY400
            return False
        if not kept:
            logger.error("an activity was DROPPED: the outbox holds its limit of %d", self._limit)
        return kept

    def _insert(
        self, prepared: Prepared, now: datetime, error: str | None, hold: tuple[str | None, float | None]
    ) -> int | None:
        row = (
            str(prepared.user_id),
            prepared.activity_at.isoformat(),
            prepared.timezone,
            prepared.request_id,
            now.isoformat(),
            error,
            *hold,
            self._limit,
        )
        with self._lock:
            found = self._db.execute(
                "insert into outbox (user_id, activity_at, timezone, request_id, queued_at, error, holder, held_until) "
                "select ?, ?, ?, ?, ?, ?, ?, ? where (select count(*) from outbox where not refused) < ? "
                "on conflict do nothing returning id",
                row,
            ).fetchone()
        return None if found is None else int(found[0])

    def _has(self, prepared: Prepared) -> bool:
        key = (str(prepared.user_id), prepared.request_id)
        with self._lock:
            found = self._db.execute("select 1 from outbox where user_id = ? and request_id = ?", key).fetchone()
        return found is not None

    def entries(self, limit: int = 1_000, *, refused: bool = False) -> list[OutboxEntry]:
        """Look at what waits, or at what was refused.

        Args:
            limit: The most entries to return.
            refused: Whether to return the refused ones instead.

        Returns:
            The entries, oldest first; without those that are being sent for the first time.
        """
        which = "refused" if refused else _DUE
        with self._lock:
            found = self._db.execute(
                f"select {_COLUMNS} from outbox where {which} order by id limit :limit",  # noqa: S608 - constants
                {"limit": limit, **_lease()},
            ).fetchall()
        return [
            OutboxEntry(
                row[0], UUID(row[1]), _instant(row[2]), row[3], row[4], _instant(row[5]), row[6], row[7], bool(row[8])
            )
            for row in found
        ]

    def depth(self) -> int:
        """Count what waits.

        Returns:
            The number of activities that are still to be sent; without those that are being sent for the first time.
        """
        with self._lock:
            counted: int = self._db.execute(f"select count(*) from outbox where {_DUE}", _lease()).fetchone()[0]  # noqa: S608 - a constant
        return counted

    def due_in(self) -> float | None:
        """Say when there is something to send.

        Returns:
            Seconds; 0 for now; more if all that waits is held by others, who may have died; None if nothing waits.
        """
        others = "not refused and (holder is not :me or held_until <= :now)"
        with self._lock:
            found = self._db.execute(
                f"select min(coalesce(held_until, 0)) from outbox where {others}",  # noqa: S608 - a constant
                {"me": self._me, **_lease()},
            ).fetchone()[0]
        if found is None:
            return None
        wait = float(found) - time.time()
        return wait if 0 < wait <= LEASE else 0.0

    @contextmanager
    def _synced(self) -> Iterator[None]:
        with self._lock:
            self._db.execute("pragma synchronous = full")
            try:
                yield
            finally:
                self._db.execute("pragma synchronous = normal")

    @contextmanager
    def draining(self) -> Iterator[bool]:
        """Become the one who drains, among all threads and processes; a process that dies stops being it.

        Yields:
            Whether it worked; False if another drains already.
        """
        if not self._drains_here.acquire(blocking=False):
            yield False
            return
        try:
            with self._drainer:
                yield True
        except Timeout:
            yield False
        finally:
            self._drains_here.release()

    def settle(self, outcomes: Mapping[int, StreakUpdate | StreakError | None]) -> bool:
        """Note what became of entries that were sent.

        Args:
            outcomes: By the entry's id, the answer (None from an import), or the error.

        Returns:
            Whether to go on: False if the service failed, so that the rest would fail alike.
        """
        sent = [entry_id for entry_id, outcome in outcomes.items() if not isinstance(outcome, StreakError)]
        failed = {entry_id: outcome for entry_id, outcome in outcomes.items() if isinstance(outcome, StreakError)}
        rows = [
            (_describe(error), isinstance(error, InvalidInputError), _own_fault(error), ATTEMPTS, entry_id)
            for entry_id, error in failed.items()
        ]
        with self._lock, self._db:  # commits, or rolls back
            self._db.execute("begin immediate")
            self._db.executemany("delete from outbox where id = ?", [(entry_id,) for entry_id in sent])
            self._db.executemany(
                "update outbox set attempts = attempts + 1, error = ?, refused = ? or (? and attempts >= ?) "
                "where id = ?",
                rows,
            )
        refused = sum(isinstance(error, InvalidInputError) for error in failed.values())
        if refused:
            logger.error("%d activities in the outbox were REFUSED and are kept to be looked at", refused)
        return all(_own_fault(error) for error in failed.values()) and bool(sent or refused)


def _lease() -> dict[str, float]:
    return {"now": time.time(), "lease": LEASE}


def _own_fault(error: StreakError) -> bool:
    """Tell whether an entry failed for a reason of its own, which the next one need not share."""
    return isinstance(error, InvalidInputError) or (isinstance(error, DatabaseError) and not error.retryable)


def _describe(error: StreakError) -> str:
    return f"{error.code}: {error.message}"


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)
