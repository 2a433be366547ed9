"""The database's side of the state machine: calls the functions and reads what they left, in the model's terms."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, TypeVar
from uuid import UUID

import asyncpg

from tests.model import Activity, Answer, Change, ChangeType, Entry, Kind, Ledger, Reading, RefusedError, Row, User

T = TypeVar("T")

# What a caller may be told is refused; every other error fails the test.
REFUSALS = {"22023", "23503"}

STORED = """
select u.id, s.current_streak, s.longest_streak, s.run_length, s.last_active_date, s.timezone, s.version, s.expires_at,
  s.longest_base, s.last_activity_at, s.last_activity_timezone,
  row(r.current_streak, r.longest_streak, r.last_active_date, r.timezone, r.is_active_today, r.days_since_activity,
    r.expires_at, r.version) as reading,
  array(
    select row(d.day, d.kind, d.activity_at, d.timezone) from public.streak_days d where d.user_id = u.id
  ) as ledger,
  array(
    select row(h.change_type, h.old_current_streak, h.new_current_streak, h.old_longest_streak, h.new_longest_streak,
      h.activity_date, h.timezone, h.version_after, h.request_id, h.version_before)
    from (select * from public.streak_history union all select * from public.streak_history_archive) h
    where h.user_id = u.id and h.version_after > w.since order by h.id
  ) as history
from unnest($1::uuid[], $2::integer[]) w (id, since)
join auth.users u on u.id = w.id
left join public.user_streaks s on s.user_id = u.id
left join public.get_user_streaks($1) r on r.user_id = u.id
"""


@dataclass(frozen=True)
class Stored:
    """What the tables hold of one user, ``history`` from a version on, and what ``get_user_streaks`` says."""

    reading: Reading
    row: Row | None
    latest: tuple[datetime | None, str | None]
    ledger: Ledger
    history: tuple[Change, ...]


class StreakDatabase:
    """One connection, used from synchronous code, to a database whose clock the test turns."""

    def __init__(self, url: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._connection: asyncpg.Connection[asyncpg.Record] = self._wait(asyncpg.connect(url))
        self._now: datetime | None = None
        self.run("set synchronous_commit = off")

    def close(self) -> None:
        """Close the connection."""
        self._wait(self._connection.close())
        self._loop.close()

    def _wait(self, doing: Coroutine[Any, Any, T]) -> T:
        return self._loop.run_until_complete(doing)

    def run(self, query: str, *arguments: Any) -> list[asyncpg.Record]:
        """Run one statement and return its rows.

        Raises:
            RefusedError: if the database refused bad input.
        """
        try:
            return self._wait(self._connection.fetch(query, *arguments))
        except asyncpg.PostgresError as error:
            if error.sqlstate not in REFUSALS:
                raise
            raise RefusedError(error.detail or "", error.sqlstate) from error

    def set_now(self, now: datetime) -> None:
        """Turn the clock."""
        if now != self._now:
            self.run("select set_config('streaks.test_now', $1, false)", now.isoformat())
            self._now = now

    def add_users(self, users: Mapping[UUID, User]) -> None:
        """Sign up users, with a profile for those who have a zone in it."""
        self.run("insert into auth.users (id) select unnest($1::uuid[])", list(users))
        profiles = {user_id: user.profile_zone for user_id, user in users.items() if user.profile_zone is not None}
        self.run(
            "insert into public.user_profiles (user_id, timezone) select * from unnest($1::uuid[], $2::text[])",
            list(profiles),
            list(profiles.values()),
        )

    def remove_users(self, user_ids: Iterable[UUID]) -> None:
        """Delete users, and with them all that is theirs."""
        self.run("delete from auth.users where id = any ($1)", list(user_ids))

    def update(self, one: Activity) -> Answer:
        """``update_user_streak_atomic``."""
        (row,) = self.run(
            "select * from public.update_user_streak_atomic($1, $2, $3, $4)",
            one.user_id,
            one.zone,
            one.request_id,
            one.at,
        )
        return answer(row)

    def batch(self, ones: Sequence[Activity]) -> list[tuple[int, UUID, Answer | RefusedError]]:
        """``update_user_streaks_batch``."""
        rows = self.run(
            "select * from public.update_user_streaks_batch($1, $2, $3, $4)",
            [one.user_id for one in ones],
            [one.at for one in ones],
            [one.zone for one in ones],
            [one.request_id for one in ones],
        )
        return [
            (row["index"], row["user_id"], answer(row) if row["error"] is None else RefusedError(row["error"]))
            for row in rows
        ]

    def read_one(self, user_id: UUID) -> Reading:
        """``get_user_streak``."""
        (row,) = self.run("select * from public.get_user_streak($1)", user_id)
        return Reading(**{key: row[key] for key in Reading.__dataclass_fields__})

    def recover(self, user_id: UUID, first: date, last: date, request_id: str | None) -> Answer:
        """``recover_user_streak``."""
        (row,) = self.run(
            "select * from public.recover_user_streak($1, $2, $3, 'support ticket', $4)",
            user_id,
            first,
            last,
            request_id,
        )
        return answer(row)

    def import_activity(self, events: Sequence[Activity]) -> None:
        """``import_user_activity``; what it did is read back from the tables."""
        self.run(
            "select * from public.import_user_activity($1, $2, $3)",
            [event.user_id for event in events],
            [event.at for event in events],
            [event.zone for event in events],
        )

    def sweep(self, limit: int) -> int:
        """``expire_lapsed_streaks``: how many it swept."""
        ((expired,),) = self.run("select expired from public.expire_lapsed_streaks($1)", limit)
        assert isinstance(expired, int)
        return expired

    def rebuild(self, user_id: UUID) -> None:
        """``rebuild_user_streak``; what it did is read back from the tables."""
        self.run("select * from public.rebuild_user_streak($1)", user_id)

    def falsify(self, user_id: UUID, run: int, longest: int) -> None:
        """Put wrong counters into a row, by hand."""
        self.run(
            "update public.user_streaks set current_streak = 0, run_length = $2, longest_streak = $3"
            " where user_id = $1",
            user_id,
            run,
            longest,
        )

    def stored(self, since: Mapping[UUID, int]) -> dict[UUID, Stored]:
        """What the database holds of users, in one round trip; of history what came after a version of each."""
        rows = self.run(STORED, list(since), list(since.values()))
        return {row["id"]: stored(row) for row in rows}


def answer(row: asyncpg.Record) -> Answer:
    """The answer in a result row."""
    columns = {key: row[key] for key in Answer.__dataclass_fields__}
    return Answer(**{**columns, "change_type": ChangeType(row["change_type"])})


def change(change_type: str, *columns: Any) -> Change:
    """One history row; its two versions must be neighbours."""
    *rest, version_before = columns
    one = Change(ChangeType(change_type), *rest)
    assert version_before == one.version - 1
    return one


def stored(row: asyncpg.Record) -> Stored:
    """One row of the snapshot in the model's terms."""
    ledger = {day: Entry(Kind(kind), at, zone) for day, kind, at, zone in row["ledger"]}
    history = tuple(change(*columns) for columns in row["history"])
    streak = None
    if row["version"] is not None:
        streak = Row(
            current=row["current_streak"],
            longest=row["longest_streak"],
            run=row["run_length"],
            last=row["last_active_date"],
            zone=row["timezone"],
            version=row["version"],
            expires_at=row["expires_at"],
            base=row["longest_base"],
        )
    latest = (row["last_activity_at"], row["last_activity_timezone"])
    return Stored(Reading(*row["reading"]), streak, latest, ledger, history)
