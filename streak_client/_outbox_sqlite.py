"""The outbox's entries in a SQLite file, readable by its owner alone."""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from streak_client._outbox_store import Failure, OutboxEntry, Settled, Written
from streak_client.errors import ConfigurationError

_SCHEMA = """
create table if not exists outbox (
  id integer primary key autoincrement,
  user_id text not null,
  activity_at text not null,
  timezone text,
  request_id text not null,
  queued_at text not null,
  attempts integer not null default 0,
  faults integer not null default 0,
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


class SqliteStore:
    """Keeps entries in a file, for all threads and processes of one machine.

    Args:
        path: The file; made if it does not exist.

    Raises:
        ConfigurationError: The file cannot be opened.
    """

    failures: tuple[type[Exception], ...] = (sqlite3.Error, OSError)

    def __init__(self, path: Path) -> None:
        self._lock = threading.RLock()
        self._drainer = FileLock(f"{path}.lock", timeout=0, mode=0o600, thread_local=False)
        try:
            _keep_private(path)
            self._db = sqlite3.connect(path, timeout=10, check_same_thread=False, isolation_level=None)
            self._db.execute("pragma journal_mode = wal")
            # Enough for whatever ends a process; what is said to be queued survives a power failure, too: `_synced`.
            self._db.execute("pragma synchronous = normal")
            self._db.execute(_SCHEMA)
        except (OSError, sqlite3.Error) as error:
            raise ConfigurationError(f"The outbox {path} cannot be opened: {error}") from error

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    def insert(  # noqa: PLR0913 - a row
        self, written: Written, error: str | None, holder: str | None, lease: float, limit: int, *, safe: bool
    ) -> int | None:
        """Add an entry; see `Store`."""
        held_until = None if holder is None else time.time() + lease
        with self._synced(safe=safe):
            found = self._db.execute(
                "insert into outbox (user_id, activity_at, timezone, request_id, queued_at, error, holder, held_until) "
                "select ?, ?, ?, ?, ?, ?, ?, ? where (select count(*) from outbox where not refused) < ? "
                "on conflict (user_id, request_id) do update set refused = 0, attempts = 0, faults = 0, "
                "error = excluded.error, holder = excluded.holder, held_until = excluded.held_until "
                "where refused returning id",
                (*written, error, holder, held_until, limit),
            ).fetchone()
        return None if found is None else int(found[0])

    def waits(self, written: Written) -> bool:
        """Tell whether an entry waits; see `Store`."""
        key = (written.user_id, written.request_id)
        with self._lock:
            found = self._db.execute(
                "select 1 from outbox where user_id = ? and request_id = ? and not refused", key
            ).fetchone()
        return found is not None

    def delete(self, entry_id: int) -> None:
        """Forget an entry; see `Store`."""
        with self._lock:
            self._db.execute("delete from outbox where id = ?", (entry_id,))

    def release(self, entry_id: int, error: str | None) -> bool:
        """Let an entry wait that was held; see `Store`."""
        with self._synced(safe=True):
            changed = self._db.execute(
                "update outbox set holder = null, held_until = null, error = ? where id = ?", (error, entry_id)
            ).rowcount
        return bool(changed)

    def entries(self, limit: int, lease: float, *, refused: bool) -> list[OutboxEntry]:
        """List entries; see `Store`."""
        which = "refused" if refused else _DUE
        with self._lock:
            found = self._db.execute(
                f"select {_COLUMNS} from outbox where {which} order by id limit :limit",  # noqa: S608 - constants
                {"limit": limit, **_at(lease)},
            ).fetchall()
        return [Written(*row[1:6]).entry(row[0], row[6], row[7], refused=bool(row[8])) for row in found]

    def depth(self, lease: float) -> int:
        """Count entries; see `Store`."""
        with self._lock:
            counted: int = self._db.execute(f"select count(*) from outbox where {_DUE}", _at(lease)).fetchone()[0]  # noqa: S608 - a constant
        return counted

    def due_in(self, me: str, lease: float) -> float | None:
        """Say when an entry is due; see `Store`."""
        others = "not refused and (holder is not :me or held_until <= :now)"
        with self._lock:
            found = self._db.execute(
                f"select min(coalesce(held_until, 0)) from outbox where {others}",  # noqa: S608 - a constant
                {"me": me, **_at(lease)},
            ).fetchone()[0]
        if found is None:
            return None
        wait = float(found) - time.time()
        return wait if 0 < wait <= lease else 0.0

    @contextmanager
    def _synced(self, *, safe: bool) -> Iterator[None]:
        with self._lock:
            if not safe:
                yield
                return
            self._db.execute("pragma synchronous = full")
            try:
                yield
            finally:
                self._db.execute("pragma synchronous = normal")

    @contextmanager
    def draining(self) -> Iterator[bool]:
        """Become the one who drains; see `Store`.

        Yields:
            Whether it worked.
        """
        try:
            with self._drainer:
                yield True
        except Timeout:
            yield False

    def retry_refused(self, limit: int) -> int:
        """Let refused entries wait again; see `Store`."""
        with self._synced(safe=True):
            return self._db.execute(
                "update outbox set refused = 0, attempts = 0, faults = 0 where id in (select id from outbox "
                "where refused order by id limit max(0, ? - (select count(*) from outbox where not refused)))",
                (limit,),
            ).rowcount

    def settle(self, sent: Sequence[int], failed: Mapping[int, Failure], attempts: int, limit: int) -> Settled:
        """Note what became of entries; see `Store`."""
        rows = [
            (failure.own_fault, failure.error, failure.refused, failure.own_fault, attempts, entry_id)
            for entry_id, failure in failed.items()
        ]
        with self._lock, self._db:  # commits, or rolls back
            self._db.execute("begin immediate")
            self._db.executemany("delete from outbox where id = ?", [(entry_id,) for entry_id in sent])
            before = self._refused()
            self._db.executemany(
                "update outbox set attempts = attempts + 1, faults = faults + ?, error = ?, "
                "refused = ? or (? and faults >= ?) where id = ?",
                rows,
            )
            refused = self._refused() - before
            dropped = self._db.execute(
                "delete from outbox where id in "
                "(select id from outbox where refused order by id desc limit -1 offset ?)",
                (limit,),
            ).rowcount
        return Settled(refused, dropped)

    def _refused(self) -> int:
        counted: int = self._db.execute("select count(*) from outbox where refused").fetchone()[0]
        return counted


def _keep_private(path: Path) -> None:
    # SQLite would make it readable by the group; what it adds beside it takes over this mode. What is there already is
    # not opened: to close it again would end the locks of all who have it open in this process.
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    for place in (path, Path(f"{path}-wal"), Path(f"{path}-shm")):
        with suppress(FileNotFoundError):
            mode = place.stat().st_mode
            if stat.S_ISREG(mode) and mode & 0o077:
                place.chmod(0o600)


def _at(lease: float) -> dict[str, float]:
    return {"now": time.time(), "lease": lease}
