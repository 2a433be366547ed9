"""The state machine: the same random schedule for the database and for the model, compared after every step."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from datetime import date, datetime, timedelta
from typing import ClassVar
from uuid import UUID

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from tests import model, model_upkeep
from tests.model import Activity, Answer, RefusedError, User
from tests.model_time import first_instant, local_day
from tests.support.schedules import (
    DAY,
    HOUR,
    TICK,
    Season,
    lags,
    old_lags,
    seasons,
    stale_lags,
    waits,
    zones_of,
)
from tests.support.streak_database import StreakDatabase

USERS = 3
EVERYBODY = range(USERS)
who = st.sampled_from(EVERYBODY)
tick = st.sampled_from([-TICK, timedelta(0), TICK])
again = st.booleans()
hours = st.integers(0, 23).map(lambda n: n * HOUR)
FAULTS = ["time", "time", "time", "user", "request", "request", "gone"]
serial = itertools.count(1)


class StreakMachine(RuleBasedStateMachine):
    """Three users, one clock, and everything that may happen to a streak."""

    database: ClassVar[StreakDatabase]
    taken: ClassVar[Counter[str]] = Counter()

    @initialize(season=seasons, profile=st.sampled_from([None, 0, 1, "FOO+5"]))
    def begin(self, season: Season, profile: int | str | None) -> None:
        """Sign up users, one of them with a zone in the profile."""
        self.agreed = False
        self.season = season
        self.now = season.start
        self.requests = 0
        self.ids = [UUID(int=next(serial)) for _ in EVERYBODY]
        self.users = {user_id: User() for user_id in self.ids}
        self.users[self.ids[0]] = User(profile_zone=season.zones[profile] if isinstance(profile, int) else profile)
        self.versions = dict.fromkeys(self.ids, 0)
        self.database.set_now(self.now)
        self.database.add_users(self.users)

    # Time.

    def turn(self, now: datetime) -> None:
        """Move the clock on; it never goes back."""
        self.agreed = False  # until the step has been compared
        self.now = max(self.now, now)
        self.database.set_now(self.now)

    @rule(index=who, wait=waits)
    def time_passes(self, index: int, wait: timedelta) -> None:
        """Nothing happens for a while: what reads say may change by itself."""
        self.turn(self.now + wait)
        user_id = self.ids[index]
        self.same(self.database.read_one(user_id), model.read(self.users[user_id], self.now))
        self.compare("wait")

    # Activities.

    @rule(data=st.data(), index=who, lag=lags, named=st.booleans())
    def activity(self, data: st.DataObject, index: int, lag: timedelta, *, named: bool) -> None:
        """An activity, just now or some time ago, in some zone."""
        self.act(self.at(data, index, self.now - lag, named=named))

    @rule(data=st.data(), index=who, wait=waits)
    def journey(self, data: st.DataObject, index: int, wait: timedelta) -> None:
        """Time passes, and the user is active wherever they are then."""
        self.turn(self.now + wait)
        self.act(self.at(data, index, self.now, named=True))

    @rule(data=st.data(), index=who, into=hours)
    def next_day(self, data: st.DataObject, index: int, into: timedelta) -> None:
        """The user comes back on the day after the last one: what makes runs grow."""
        row = self.users[self.ids[index]].row
        if row is not None:
            self.turn(first_instant(row.last + DAY, row.zone) + into)
        self.act(self.at(data, index, self.now, named=False))

    @rule(data=st.data(), index=who, late=tick)
    def last_moment(self, data: st.DataObject, index: int, late: timedelta) -> None:
        """The user comes back at the instant of expiry, or a microsecond beside it."""
        row = self.users[self.ids[index]].row
        if row is not None:
            self.turn(row.expires_at + late)
        self.act(self.at(data, index, self.now, named=False))

    @rule(data=st.data(), index=who, into=hours, back=st.integers(0, 6), named=st.booleans())
    def missed_day(self, data: st.DataObject, index: int, into: timedelta, back: int, *, named: bool) -> None:
        """An activity of one of the last days arrives late: first of all of a day that is missing."""
        user = self.users[self.ids[index]]
        zone = model.fallback_zone(user)
        today = local_day(self.now, zone)
        days = [today - n * DAY for n in range(7)]
        missing = [day for day in days if day not in user.ledger] or days
        at = first_instant(missing[back % len(missing)], zone) + into
        self.act(self.at(data, index, min(max(at, self.now - model.AGE_LIMIT), self.now), named=named))

    @rule(data=st.data(), index=who, pick=st.integers(0, 50), wait=waits, lag=lags)
    def replay(self, data: st.DataObject, index: int, pick: int, wait: timedelta, lag: timedelta) -> None:
        """A request comes again, with whatever else in it, sooner or later."""
        user_id = self.ids[index]
        known = sorted(self.users[user_id].requests) or ["request 0"]
        self.turn(self.now + wait / 4)
        zone = data.draw(zones_of(self.season))
        self.act(Activity(user_id, self.now - 4 * lag, zone, known[pick % len(known)]))

    @rule(index=st.integers(0, USERS), lag=stale_lags, fault=st.sampled_from(FAULTS))
    def refusal(self, index: int, lag: timedelta, fault: str) -> None:
        """Bad input is refused and changes nothing; of a user who is gone, nothing is left."""
        if fault == "gone" and index < USERS:
            self.sign_up_anew(self.ids[index])
            return
        user_id = UUID(int=0) if fault == "user" or index == USERS else self.ids[index]
        at = self.now - lag if fault == "time" and index < USERS else None
        self.act(Activity(user_id, at, None, "x" * 101 if fault == "request" and index < USERS else None))

    def sign_up_anew(self, user_id: UUID) -> None:
        """A user is deleted, and comes back as somebody without a past."""
        self.count(user_id)
        self.database.remove_users([user_id])
        del self.users[user_id]
        self.both(
            lambda: model_upkeep.known(self.users, user_id), lambda: self.database.update(Activity(user_id, self.now))
        )
        self.users[user_id], self.versions[user_id] = User(), 0
        self.database.add_users({user_id: User()})
        self.compare("deletion")

    @rule(data=st.data(), count=st.integers(1, 6))
    def batch(self, data: st.DataObject, count: int) -> None:
        """Several activities in one call, of several users and of one, good and bad, new and repeated."""
        ones: list[Activity] = []
        for _ in range(count):
            one = self.at(data, data.draw(who), self.now - data.draw(lags), named=data.draw(st.booleans()))
            ones.append(data.draw(st.sampled_from([one, one, ones[-1] if ones else one])))
        self.agreed = False
        self.users, expected = model_upkeep.batch(self.users, self.now, ones)
        got = self.database.batch(ones)
        assert [index for index, _, _ in got] == list(range(count))
        assert [user_id for _, user_id, _ in got] == [one.user_id for one in ones]
        self.same([outcome(one) for _, _, one in got], [outcome(one) for one in expected])
        self.compare("batch")

    def at(self, data: st.DataObject, index: int, at: datetime, *, named: bool) -> Activity:
        """An activity in a zone of the season's, with a request id of its own or without."""
        self.requests += named
        sent = None if at == self.now and data.draw(st.booleans()) else at
        zone = data.draw(zones_of(self.season))
        return Activity(self.ids[index], sent, zone, f"request {self.requests}" if named else None)

    def act(self, one: Activity) -> None:
        """One activity, for both sides."""

        def expected() -> Answer:
            user = model_upkeep.known(self.users, one.user_id)
            self.users[one.user_id], answer = model.update(user, self.now, one)
            return answer

        answer = self.both(expected, lambda: self.database.update(one))
        if isinstance(answer, Answer) and answer.replayed:
            self.taken["replay"] += 1
        self.compare("update")

    # Maintenance.

    @rule(index=who, limit=st.sampled_from([1, 2, 10]), wait=st.booleans())
    def sweep(self, index: int, limit: int, *, wait: bool) -> None:
        """The lapse job runs, by chance just when somebody's streak has expired."""
        row = self.users[self.ids[index]].row
        if row is not None and row.current and wait:
            self.turn(row.expires_at)
        rows = [user.row for user in self.users.values() if user.row is not None]
        if len({row.expires_at for row in rows}) < len(rows):
            limit = USERS  # of those that expired at one instant, any may be left to the next sweep
        self.agreed = False
        swept = model_upkeep.lapse(self.users, self.now, limit)
        self.users |= swept
        self.same(self.database.sweep(limit), len(swept))
        self.compare("sweep")

    @rule(
        data=st.data(),
        index=who,
        back=st.integers(0, 6),
        days=st.sampled_from([1, 1, 2, 2, 3, 5, 9, 367]),
        named=st.booleans(),
    )
    def recovery(self, data: st.DataObject, index: int, back: int, days: int, *, named: bool) -> None:
        """Missed days are repaired; some ranges are not allowed."""
        user = self.users[self.ids[index]]
        last = local_day(self.now, model.fallback_zone(user)) - back * DAY
        first = last - (days - 1) * DAY
        if data.draw(st.booleans()) and user.ledger:
            first = max(first, min(user.ledger))
        self.requests += named
        self.recover(index, first, last, f"request {self.requests}" if named else None)

    def recover(self, index: int, first: date, last: date, request_id: str | None) -> None:
        """One recovery, for both sides."""
        user_id = self.ids[index]

        def expected() -> Answer:
            self.users[user_id], answer = model_upkeep.recover(self.users[user_id], self.now, first, last, request_id)
            return answer

        self.both(expected, lambda: self.database.recover(user_id, first, last, request_id))
        self.compare("recover")

    @rule(data=st.data(), count=st.integers(1, 8), future=st.sampled_from([False] * 9 + [True]))
    def back_fill(self, data: st.DataObject, count: int, *, future: bool) -> None:
        """Old events are imported, in any order, some of them twice."""
        lag = old_lags.map(lambda lag: lag - timedelta(minutes=6)) if future else old_lags
        events = list[Activity]()
        for _ in range(count):
            at = self.now - data.draw(lag)
            if data.draw(again) and events:
                at = events[-1].at or at  # two at one instant, in zones where it falls on two days
            events.append(Activity(self.ids[data.draw(who)], at, data.draw(zones_of(self.season))))
        self.both(
            lambda: self.users.update(model_upkeep.import_activity(self.users, self.now, events)),
            lambda: self.database.import_activity(events),
        )
        self.compare("import")

    @rule(index=who, run=st.integers(0, 3), longest=st.integers(0, 3))
    def rebuild(self, index: int, run: int, longest: int) -> None:
        """Somebody spoils the counters by hand, and the rebuild puts them right from the ledger."""
        user_id = self.ids[index]
        user = self.users[user_id]
        if user.row is not None and longest:
            self.users[user_id] = model_upkeep.falsify(user, run, run + longest)
            self.database.falsify(user_id, run, run + longest)

        def expected() -> None:
            self.users[user_id] = model_upkeep.rebuild(self.users[user_id], self.now)

        self.both(expected, lambda: self.database.rebuild(user_id))
        self.compare("rebuild")

    # Comparing.

    def both(self, expected: Callable[[], object], got: Callable[[], object]) -> object:
        """Ask both sides, and compare their answers or refusals."""
        self.agreed = False
        answer = attempt(expected)
        said = attempt(got)
        if said != answer and self.users.keys() == self.versions.keys():
            self.compare("disagreement")  # says more: which days or rows differ
        self.same(said, answer)
        if isinstance(answer, str):
            self.taken["refusal"] += 1
        return answer

    def same(self, got: object, expected: object, user: User | None = None) -> None:
        """The database says what the model says."""
        assert got == expected, f"\ndatabase: {got}\n   model: {expected}\n   clock: {self.now}\n{told(user)}"

    def compare(self, step: str) -> None:
        """Rows, ledger, history and reads of all users are what the model holds."""
        stored = self.database.stored(self.versions)
        for user_id, user in self.users.items():
            here = stored[user_id]
            ours, theirs = set(user.ledger.items()), set(here.ledger.items())
            self.same(sorted(theirs - ours), sorted(ours - theirs), user)
            self.same(here.row, user.row, user)
            self.same(here.history, user.history[self.versions[user_id] :])
            self.versions[user_id] = len(user.history)
            at, _, zone = max(model.instants(user.ledger), default=(None, None, None))
            self.same(here.latest, (at, zone), user)
            self.same(here.reading, model.read(user, self.now))
        self.agreed = True
        self.taken["step"] += 1
        self.taken[step] += 1

    def count(self, user_id: UUID) -> None:
        """Add a user's transitions to those that were taken."""
        self.taken.update(change.change_type.value for change in self.users[user_id].history)

    def teardown(self) -> None:
        """At the end: counters equal a rebuild, versions count changes, and history explains each of them."""
        try:
            if getattr(self, "agreed", False):  # otherwise the step's own error says what is wrong
                self.check_at_the_end()
        finally:
            # Also after a schedule that was broken off within a step: a sweep would find its users.
            self.database.remove_users(getattr(self, "ids", ()))

    def check_at_the_end(self) -> None:
        """Recount every user, and read the history from its beginning."""
        for user_id, user in self.users.items():
            self.count(user_id)
            if user.row is None:
                continue
            self.database.rebuild(user_id)
            after = self.database.stored({user_id: 0})[user_id]
            assert after.row is not None
            self.same((after.row.run, after.row.longest), (user.row.run, user.row.longest))
            assert [change.version for change in after.history] == list(range(1, after.row.version + 1))
            for one, other in itertools.pairwise(after.history):
                assert (one.new_current, one.new_longest) == (other.old_current, other.old_longest)


def told(user: User | None) -> str:
    """A user's ledger and history, a line each."""
    if user is None:
        return ""
    days = [f"{day} {one.kind} {one.at} {one.zone}" for day, one in sorted(user.ledger.items())]
    return "\n".join([*days, *map(str, user.history[-3:])])


def attempt(call: Callable[[], object]) -> object:
    """The answer of a call, or the words of its refusal."""
    try:
        return call()
    except RefusedError as refusal:
        return outcome(refusal)


def outcome(one: Answer | RefusedError) -> Answer | str:
    """An answer as it is, a refusal as its word."""
    return one.word if isinstance(one, RefusedError) else one
