"""The state machine of operators: all that may happen to a streak, and all that is done about it on purpose."""

from __future__ import annotations

import itertools
import json
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from tests import model, model_operations, model_upkeep
from tests.model import Kind
from tests.model_time import local_day
from tests.support.schedules import DAY, HOUR, Season, seasons
from tests.support.streak_database import answer
from tests.support.streak_machine import USERS, StreakMachine, who

RETENTION = timedelta(days=30)
spans = st.sampled_from([HOUR, 12 * HOUR, DAY, 30 * HOUR, 2 * DAY, 3 * DAY, 5 * DAY])


class OperationsMachine(StreakMachine):
    """Three users, one clock, and an operator."""

    @initialize(season=seasons, profile=st.sampled_from([None, 0, "FOO+5"]))
    def begin(self, season: Season, profile: int | str | None) -> None:
        """Sign up users; nothing is written yet, and nothing repaired."""
        self.repairs: dict[int, dict[UUID, set[date]]] = {}
        super().begin(season, profile)
        self.written: dict[UUID, dict[int, datetime]] = {user_id: {} for user_id in self.ids}

    def compare(self, step: str) -> None:
        """Note when each change was written, too."""
        super().compare(step)
        for user_id, user in self.users.items():
            known = self.written.get(user_id, {})
            self.written[user_id] = {
                version: known.get(version, self.now) for version in model_operations.versions(user)
            }

    def sign_up_anew(self, user_id: UUID) -> None:
        """Nothing can be undone for a user who is gone."""
        super().sign_up_anew(user_id)
        self.forget(user_id)

    def forget(self, user_id: UUID) -> None:
        """No repair knows the user any more."""
        for users in self.repairs.values():
            users.pop(user_id, None)

    def request(self, *, named: bool) -> str | None:
        """A new request id, or none."""
        self.requests += named
        return f"request {self.requests}" if named else None

    @rule(index=who)
    def rebuild(self, index: int) -> None:
        """A rebuild finds nothing wrong; rows changed by hand would bear the real time, and mislead the archive."""
        user_id = self.ids[index]

        def expected() -> None:
            assert model_upkeep.rebuild(self.users[user_id], self.now) == self.users[user_id]

        self.both(expected, lambda: self.database.rebuild(user_id))
        self.compare("rebuild")

    # Corrections.

    @rule(index=who, pick=st.integers(0, 40), latest=st.booleans(), named=st.booleans(), again=st.booleans())
    def undo(self, index: int, pick: int, *, latest: bool, named: bool, again: bool) -> None:
        """One day is undone, or a day that does not count; sometimes the request comes twice."""
        user_id = self.ids[index]
        days = sorted(self.users[user_id].ledger)
        day = days[-1 if latest else pick % len(days)] if days else self.now.date()
        request_id = self.request(named=named)

        def expected() -> object:
            before = self.users[user_id]
            self.users[user_id], said = model_operations.undo(before, self.now, day, request_id)
            if self.users[user_id] != before:
                for users in self.repairs.values():
                    users.get(user_id, set()).discard(day)  # if it comes back, it is no repair's any more
            return said

        for _ in range(1 + (again and named)):
            self.both(
                expected,
                lambda: answer(
                    self.database.run(
                        "select * from public.undo_user_activity($1, $2, 'a mistake', $3)", user_id, day, request_id
                    )[0]
                ),
            )
            self.compare("undo")

    @rule(source=who, step=st.sampled_from([1, 2]), named=st.booleans(), again=st.booleans())
    def merge(self, source: int, step: int, *, named: bool, again: bool) -> None:
        """Two accounts become one; sometimes the request comes twice."""
        one, other = self.ids[source], self.ids[(source + step) % USERS]
        request_id = self.request(named=named)

        def expected() -> object:
            merges, before = self.users[one].row is not None, self.users
            self.users, said = model_operations.merge(self.users, self.now, one, other, request_id)
            if merges and self.users[one].row is None:
                entered = model_operations.taken_over(before[other].ledger, before[one].ledger)
                for users in self.repairs.values():
                    if one in users:
                        users[other] = users.get(other, set()) | (users.pop(one) & entered)
            return said

        for _ in range(1 + again):
            self.both(
                expected,
                lambda: answer(
                    self.database.run(
                        "select * from public.merge_user_streaks($1, $2, 'one person', $3)", one, other, request_id
                    )[0]
                ),
            )
            self.compare("merge")

    # Outages.

    @rule(index=who, data=st.data(), span=spans, limit=st.sampled_from([1, 2, 100]), back=st.booleans())
    def repair(self, index: int, data: st.DataObject, span: timedelta, limit: int, *, back: bool) -> None:
        """An outage is repaired, mostly one that took a day of somebody's; in as many batches as the limit makes."""
        began, ended = self.outage(index, data, span)
        gaps = {one: model_operations.outage_gaps(user, self.now, began, ended) for one, user in self.users.items()}
        days = sum((last - first).days + 1 for stretches in gaps.values() for first, last in stretches)
        self.same(self.preview(began, ended), (sum(map(bool, gaps.values())), days))
        ((repair,),) = self.database.run("select * from public.start_streak_repair($1, $2, 'an outage')", began, ended)
        self.agreed = False
        self.repairs[repair] = {}
        for user_id in self.users:
            self.users[user_id], entered = model_operations.repair(self.users[user_id], self.now, began, ended)
            if entered:
                self.repairs[repair][user_id] = entered
        rows = sum(user.row is not None for user in self.users.values())
        self.same(self.until_finished("continue", repair, limit), [rows, sum(map(bool, gaps.values())), days])
        self.compare("repair")
        if days:
            self.taken["repaired"] += 1
        if days and back:
            self.take_back(repair, limit)

    def outage(self, index: int, data: st.DataObject, span: timedelta) -> tuple[datetime, datetime]:
        """An outage that has just ended, or one about a gap in somebody's ledger: as long as that, or not quite."""
        days = sorted(self.users[self.ids[index]].ledger)
        gaps = [
            (one, other) for one, other in itertools.pairwise([*days, self.now.date()]) if DAY < other - one < 31 * DAY
        ]
        if not gaps:
            return self.now - span, self.now
        one, other = data.draw(st.sampled_from(gaps[-3:]))
        began = (
            datetime(one.year, one.month, one.day, 12, tzinfo=UTC)
            + DAY
            - data.draw(st.sampled_from([6, 0, -14])) * HOUR
        )
        ended = began + min(max(span, other - one - DAY), 31 * DAY) - data.draw(st.sampled_from([0, 12, 30])) * HOUR
        ended = min(ended, self.now)
        return (began, ended) if began < ended else (self.now - span, self.now)

    def preview(self, began: datetime, ended: datetime) -> tuple[int, int]:
        """Users and days of a dry run, page by page."""
        users = days = 0
        after: UUID | None = None
        while True:
            (row,) = self.database.run("select * from public.preview_streak_repair($1, $2, $3, 2)", began, ended, after)
            users, days, after = users + row["users"], days + row["days"], row["next_after"]
            if after is None:
                return users, days

    def until_finished(self, verb: str, repair: int, limit: int) -> list[int]:
        """Call for batches until there are no more, and once again; the totals."""
        query = f"select * from public.{verb}_streak_repair($1, $2)"  # noqa: S608 - one of two names
        while True:
            (row,) = self.database.run(query, repair, limit)
            if row["finished"]:
                (again,) = self.database.run(query, repair, limit)
                self.same(tuple(again), tuple(row))
                return list(row)[1 if verb == "continue" else 2 : -1]

    @rule(pick=st.integers(0, 5), limit=st.sampled_from([1, 100]))
    def undo_repair(self, pick: int, limit: int) -> None:
        """A repair is undone: its days go, those aside that have become active, and no longest streak falls."""
        known = sorted(repair for repair, users in self.repairs.items() if users)
        if not known:
            return
        self.take_back(known[pick % len(known)], limit)

    def take_back(self, repair: int, limit: int) -> None:
        """One repair is undone, on both sides."""
        self.agreed = False
        gone = kept = 0
        longest = {one: user.row.longest for one, user in self.users.items() if user.row}
        for user_id, days in self.repairs.pop(repair).items():
            self.users[user_id], taken = model_operations.undo_repair(self.users[user_id], self.now, days)
            gone, kept = gone + taken, kept + len(days) - taken
        self.same(self.until_finished("undo", repair, limit), [gone, kept])
        self.compare("undo repair")
        assert all(self.users[one].row.longest == before for one, before in longest.items())  # type: ignore[union-attr]
        if gone:
            self.taken["undone"] += 1

    # Retention and explanation.

    @rule(wait=st.sampled_from([0, 0, 10, 40]), limit=st.sampled_from([1, 3, 1000]))
    def archive(self, wait: int, limit: int) -> None:
        """History of a month ago is archived; what the requests in it answered is forgotten, and nothing else."""
        self.turn(self.now + wait * DAY)
        before = self.now - RETENTION
        self.users = {
            one: model_operations.archived(user, self.written[one], before) for one, user in self.users.items()
        }
        # from the first row, as it does by itself on another day
        self.database.run("update private.history_archive_position set position = 0")
        query = "select finished from public.archive_streak_history($1, $2)"
        while not self.database.run(query, RETENTION, limit)[0]["finished"]:
            pass
        left = self.database.run(
            "select user_id, version from public.streak_history where user_id = any ($1)", self.ids
        )
        stays = {
            (one, version)
            for one, user in self.users.items()
            for version in model_operations.versions(user)
            if self.written[one][version] >= before or version == model_operations.max_version(user)
        }
        self.same({tuple(row) for row in left}, stays)
        self.compare("archive")

    @rule(index=who)
    def erase(self, index: int) -> None:
        """All that is known of a user goes."""
        user_id = self.ids[index]
        if len(self.users[user_id].history) % 4 != 1:
            return  # often enough
        (row,) = self.database.run("select * from public.erase_user_streak($1)", user_id)
        user = self.users[user_id]
        self.same(
            (row["streaks"], row["days"], row["history"] + row["archived"]),
            (int(user.row is not None), len(user.ledger), len(user.history)),
        )
        self.count(user_id)
        self.forget(user_id)
        self.users[user_id], self.versions[user_id] = model_operations.erased(user), 0
        self.written[user_id] = {}
        self.compare("erase")

    @rule(index=who)
    def explain(self, index: int) -> None:
        """The explanation names the run, its odd days and what counts now, and finds nothing that does not agree."""
        user = self.users[self.ids[index]]
        (row,) = self.database.run("select * from public.explain_user_streak($1)", self.ids[index])
        run = model.runs(user.ledger)[-1] if user.ledger else []
        kinds = {kind: [day for day in run if user.ledger[day].kind is kind] for kind in Kind}
        self.same(
            (row["current_streak"], row["first_day"], row["skipped_days"], row["repaired_days"], row["today"]),
            (
                model.effective(user.row, self.now) if user.row else 0,
                run[0] if run else None,
                kinds[Kind.SKIPPED],
                kinds[Kind.REPAIRED],
                local_day(self.now, user.row.zone) if user.row else None,
            ),
        )
        text = " ".join(row["explanation"])
        assert text
        assert "rebuild_user_streak" not in text, text
        assert len(json.loads(row["history"])) == min(10, len(user.history))
        self.taken["explain"] += 1
