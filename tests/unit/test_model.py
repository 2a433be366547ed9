"""The reference model against cases worked out by hand from the streak rules, 1 to 9."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from uuid import UUID

import pytest

from tests.model import Activity, Answer, ChangeType, Kind, RefusedError, Row, User, read, update
from tests.model_time import exists, expiry, first_instant, local_day, zone_name
from tests.model_upkeep import batch, import_activity, lapse, rebuild, recover

ADA = UUID(int=1)
BOB = UUID(int=2)
LA, NEW_YORK, AUCKLAND, LONDON = "America/Los_Angeles", "America/New_York", "Pacific/Auckland", "Europe/London"
HONOLULU, APIA, HAVANA = "Pacific/Honolulu", "Pacific/Apia", "America/Havana"


def utc(text: str) -> datetime:
    """An instant written as in ``2026-03-08T08:30Z``."""
    return datetime.fromisoformat(text)


def day(text: str) -> date:
    """A date written as in ``2026-03-08``."""
    return date.fromisoformat(text)


@dataclass(frozen=True)
class Step:
    """A user and the last answer, so that a test reads as a story: ``act(...).then(...)``."""

    user: User
    answer: Answer

    def then(self, when: str, zone: str | None = None, now: str | None = None, request_id: str | None = None) -> Step:
        """The next activity."""
        return act(self.user, when, zone, now, request_id)

    @property
    def said(self) -> tuple[str, int, int, str]:
        """Change type, current and longest streak, last day."""
        one = self.answer
        return one.change_type.value, one.current_streak, one.longest_streak, str(one.last_active_date)

    @property
    def row(self) -> Row:
        """The row, which is there after any activity."""
        assert self.user.row is not None
        return self.user.row


def act(user: User, when: str, zone: str | None = None, now: str | None = None, request_id: str | None = None) -> Step:
    """One activity; the clock stands at the activity unless ``now`` says otherwise."""
    return Step(*update(user, utc(now or when), Activity(ADA, utc(when), zone, request_id)))


NOBODY = User()


# Rule 1 and rule 7: days, midnights, expiry.


@pytest.mark.parametrize(
    ("instant", "zone", "start", "expected"),
    [
        ("2026-03-08T08:30Z", NEW_YORK, 4, "2026-03-08"),
        ("2026-11-01T08:30Z", NEW_YORK, 4, "2026-10-31"),
        ("2026-03-08T08:30Z", NEW_YORK, 0, "2026-03-08"),
        ("2026-07-01T10:30Z", "Pacific/Kiritimati", 0, "2026-07-02"),
        ("2026-07-01T10:30Z", "Pacific/Pago_Pago", 0, "2026-06-30"),
        ("2026-07-01T10:30Z", "UTC", 0, "2026-07-01"),
        ("2028-02-29T23:59Z", "UTC", 0, "2028-02-29"),
        ("2026-12-31T23:30Z", "Europe/Berlin", 0, "2027-01-01"),
    ],
)
def test_day_of_an_instant(instant: str, zone: str, start: int, expected: str) -> None:
    """The day comes from the zone first and the start of day second; three dates can exist on Earth at once."""
    assert local_day(utc(instant), zone, timedelta(hours=start)) == day(expected)


@pytest.mark.parametrize(
    ("of", "zone", "expected"),
    [
        ("2026-09-06", "America/Santiago", "2026-09-06T04:00Z"),
        ("2026-04-24", "Africa/Cairo", "2026-04-23T22:00Z"),
        ("2026-11-01", HAVANA, "2026-11-01T04:00Z"),
        ("2026-03-08", HAVANA, "2026-03-08T05:00Z"),
        ("2011-12-30", APIA, "2011-12-30T10:00Z"),
        ("2011-12-31", APIA, "2011-12-30T10:00Z"),
        ("2010-11-07", "America/St_Johns", "2010-11-07T02:30Z"),
        ("2026-06-01", "Asia/Kathmandu", "2026-05-31T18:15Z"),
    ],
)
def test_first_instant_of_a_day(of: str, zone: str, expected: str) -> None:
    """A day starts at its first instant: where midnight does not exist, comes twice, or comes again a minute later."""
    assert first_instant(day(of), zone) == utc(expected)


@pytest.mark.parametrize(
    ("of", "zone", "hours"),
    [
        ("2026-03-08", NEW_YORK, 23),
        ("2026-11-01", NEW_YORK, 25),
        ("2026-04-05", "Australia/Lord_Howe", 24.5),
        ("2026-10-04", "Australia/Lord_Howe", 23.5),
        ("2026-09-06", "America/Santiago", 23),
        ("2026-11-01", HAVANA, 25),
    ],
)
def test_length_of_a_day(of: str, zone: str, hours: float) -> None:
    """A local day lasts as long as its clocks say, never 86,400 seconds by decree."""
    assert first_instant(day(of) + timedelta(days=1), zone) - first_instant(day(of), zone) == timedelta(hours=hours)


def test_apia_never_had_a_date() -> None:
    """Apia went from 2011-12-29 to 2011-12-31."""
    assert [exists(day(f"2011-12-{d}"), APIA) for d in (29, 30, 31)] == [True, False, True]


@pytest.mark.parametrize(
    ("last", "zone", "expected"),
    [
        ("2026-07-01", "UTC", "2026-07-03T00:00Z"),
        ("2028-02-28", "UTC", "2028-03-01T00:00Z"),
        ("2026-12-30", LONDON, "2027-01-01T00:00Z"),
        ("2011-12-29", APIA, "2011-12-31T10:00Z"),
        ("2011-12-28", APIA, "2011-12-30T10:00Z"),
        ("2026-10-30", HAVANA, "2026-11-01T04:00Z"),
        ("2026-09-04", "America/Santiago", "2026-09-06T04:00Z"),
        ("2026-04-22", "Africa/Cairo", "2026-04-23T22:00Z"),
        ("2026-03-07", NEW_YORK, "2026-03-09T04:00Z"),
    ],
)
def test_expiry(last: str, zone: str, expected: str) -> None:
    """A streak expires at the first instant of the second existing local day after its last."""
    assert expiry(day(last), zone) == utc(expected)


@pytest.mark.parametrize(
    ("sent", "zone"),
    [(NEW_YORK, NEW_YORK), ("america/new_york", NEW_YORK), ("UTC", "UTC")]
    + [(name, None) for name in ("FOO+5", "UTC+3", "PST", "+05:00", "Mars/Olympus", " UTC", "", None)],
)
def test_names_that_are_zones(sent: str | None, zone: str | None) -> None:
    """Only an IANA name is a zone, in whatever case."""
    assert zone_name(sent) == zone


# Rule 3: transitions.


def test_a_plain_week() -> None:
    """First, repeat, next day, missed day: 1, 1, 2, then 1 again with the longest kept."""
    story = act(NOBODY, "2026-07-01T09:00Z")
    assert story.said == ("FIRST_ACTIVITY", 1, 1, "2026-07-01")
    again = story.then("2026-07-01T23:59:59Z")
    assert again.said == ("STREAK_MAINTAINED", 1, 1, "2026-07-01")
    assert again.user is story.user
    story = again.then("2026-07-02T00:00Z")
    assert story.said == ("STREAK_INCREMENT", 2, 2, "2026-07-02")
    story = story.then("2026-07-04T00:00Z")
    assert story.said == ("STREAK_RESET", 1, 2, "2026-07-04")
    assert story.row.version == 3
    assert [one.version for one in story.user.history] == [1, 2, 3]


def test_apia_skips_a_date_without_a_missed_day() -> None:
    """The activities of 29 and 31 December 2011 in Apia are neighbours."""
    story = act(NOBODY, "2011-12-29T20:00Z", APIA).then("2011-12-30T20:00Z", APIA)
    assert story.said == ("STREAK_INCREMENT", 2, 2, "2011-12-31")
    assert story.user.ledger[day("2011-12-30")].kind is Kind.SKIPPED


def test_a_late_day_joins_two_runs() -> None:
    """Days 1, 2 and 4, and then the 3rd arrives: one run of four, recovered."""
    story = act(NOBODY, "2026-07-01T09:00Z").then("2026-07-02T09:00Z").then("2026-07-04T09:00Z")
    story = story.then("2026-07-03T09:00Z", now="2026-07-04T10:00Z")
    assert story.said == ("STREAK_RECOVERED", 4, 4, "2026-07-04")


def test_a_late_day_before_the_run() -> None:
    """A late day that touches nothing is kept, maintained, and takes nothing away."""
    story = act(NOBODY, "2026-07-05T09:00Z").then("2026-07-02T09:00Z", now="2026-07-05T10:00Z")
    assert story.said == ("STREAK_MAINTAINED", 1, 1, "2026-07-05")
    assert sorted(story.user.ledger) == [day("2026-07-02"), day("2026-07-05")]
    assert story.answer.expires_at == utc("2026-07-07T00:00Z")


def test_a_late_day_can_make_an_old_run_the_longest() -> None:
    """A late day in an old run raises the longest streak, which is a recovery, and leaves the current one."""
    story = act(NOBODY, "2026-07-01T09:00Z").then("2026-07-04T09:00Z")
    story = story.then("2026-07-02T09:00Z", now="2026-07-04T10:00Z")
    assert story.said == ("STREAK_RECOVERED", 1, 2, "2026-07-04")


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_any_order_of_arrival_in_one_zone(order: tuple[int, ...]) -> None:
    """Days 1, 2, 3 and 5 end the same in whatever order they arrive."""
    user = NOBODY
    for index in order:
        user, _ = update(user, utc("2026-07-05T12:00Z"), Activity(ADA, utc(f"2026-07-0{(1, 2, 3, 5)[index]}T09:00Z")))
    assert user.row is not None
    assert (user.row.run, user.row.longest, user.row.last, user.row.version) == (1, 3, day("2026-07-05"), 4)


# Rule 6: travel.


def test_monday_in_los_angeles_wednesday_in_auckland() -> None:
    """Nineteen hours after Monday evening in Los Angeles it is Wednesday in Auckland, and the streak is 2."""
    story = act(NOBODY, "2026-11-10T03:00Z", LA)  # Monday 19:00
    story = story.then("2026-11-10T22:00Z", AUCKLAND)  # Wednesday 11:00
    assert story.said == ("STREAK_INCREMENT", 2, 2, "2026-11-11")
    assert story.user.ledger[day("2026-11-10")].kind is Kind.SKIPPED
    assert story.answer.expires_at == utc("2026-11-12T11:00Z")


def test_the_same_journey_heard_of_backwards() -> None:
    """The journey's two events keep the streak also when the later one arrives first."""
    story = act(NOBODY, "2026-11-10T22:00Z", AUCKLAND).then("2026-11-10T03:00Z", LA, now="2026-11-10T22:00Z")
    assert story.said == ("STREAK_RECOVERED", 2, 2, "2026-11-11")


def test_westward_travel_never_resets() -> None:
    """Tuesday morning in Auckland, then 20 hours later still Tuesday in Los Angeles: maintained, zone moved."""
    story = act(NOBODY, "2026-11-09T20:00Z", AUCKLAND)  # Tuesday 09:00
    story = story.then("2026-11-10T16:00Z", LA)  # Tuesday 08:00
    assert story.said == ("STREAK_MAINTAINED", 1, 1, "2026-11-10")
    assert (story.row.zone, story.row.version) == (LA, 2)
    assert story.answer.expires_at == utc("2026-11-12T08:00Z")


def test_a_day_before_last_but_later_in_time() -> None:
    """Tuesday in Auckland, and 13 hours later Monday in Honolulu: the Monday enters, joins, and moves the zone."""
    story = act(NOBODY, "2026-11-09T20:00Z", AUCKLAND).then("2026-11-10T09:00Z", HONOLULU)  # Monday 23:00
    assert story.said == ("STREAK_RECOVERED", 2, 2, "2026-11-10")
    assert story.row.zone == HONOLULU
    assert story.answer.expires_at == utc("2026-11-12T10:00Z")


@pytest.mark.parametrize(("minutes", "used"), [(0, NEW_YORK), (720, NEW_YORK), (721, AUCKLAND), (-720, NEW_YORK)])
def test_twelve_hours_hold_the_zone(minutes: int, used: str) -> None:
    """Within twelve hours of an activity that counted, before or after, its zone decides; later the zone sent does."""
    story = act(NOBODY, "2026-07-01T16:00Z", NEW_YORK)
    other = (utc("2026-07-01T16:00Z") + timedelta(minutes=minutes)).isoformat()
    assert story.then(other, AUCKLAND, now="2026-07-03T00:00Z").answer.timezone == used


def test_hopping_between_zones_earns_one_day() -> None:
    """Two zones in the same minute are one day."""
    story = act(NOBODY, "2026-07-01T10:30Z", "Pacific/Pago_Pago").then("2026-07-01T10:31Z", "Pacific/Kiritimati")
    assert story.said == ("STREAK_MAINTAINED", 1, 1, "2026-06-30")


def test_expiry_never_moves_back_on_a_counted_day() -> None:
    """A repeat that moves the zone east keeps the later expiry that was promised."""
    story = act(NOBODY, "2026-01-05T06:00Z", NEW_YORK).then("2026-01-05T20:00Z", LONDON)
    assert story.said == ("STREAK_MAINTAINED", 1, 1, "2026-01-05")
    assert story.answer.expires_at == utc("2026-01-07T05:00Z")
    assert story.row.zone == LONDON
    assert story.then("2026-01-07T04:59:59Z", LONDON).said == ("STREAK_INCREMENT", 2, 2, "2026-01-07")
    assert story.then("2026-01-07T05:00Z", LONDON).said == ("STREAK_RESET", 1, 1, "2026-01-07")


def test_late_event_of_another_zone_leaves_the_stored_one() -> None:
    """An earlier activity that arrives late is dated by its own zone and does not move the stored one."""
    story = act(NOBODY, "2026-07-04T10:00Z", LONDON)
    story = story.then("2026-07-03T03:00Z", LA, now="2026-07-04T11:00Z")
    assert story.answer.timezone == LA
    assert story.row.zone == LONDON
    assert sorted(story.user.ledger) == [day("2026-07-02"), day("2026-07-04")]


@pytest.mark.parametrize(
    ("sent", "profile", "used"),
    [
        (None, None, "UTC"),
        ("FOO+5", None, "UTC"),
        ("PST", AUCKLAND, AUCKLAND),
        (None, "FOO+5", "UTC"),
        (LA, AUCKLAND, LA),
    ],
)
def test_a_missing_or_wrong_zone(sent: str | None, profile: str | None, used: str) -> None:
    """Without a zone that is one, the profile's is used, else UTC; the day counts all the same."""
    story = act(User(profile_zone=profile), "2026-07-01T09:00Z", sent)
    assert (story.answer.timezone, story.answer.current_streak) == (used, 1)
    assert story.then("2026-07-02T21:01Z", "Mars/Olympus").answer.timezone == used


# Rules 4 and 5: times and requests.


def test_a_replay_returns_the_first_answer() -> None:
    """The same request id gives the first answer, days later and whatever else it carries, and writes nothing."""
    first = act(NOBODY, "2026-07-01T09:00Z", request_id="r")
    later = first.then("2026-07-02T09:00Z", request_id="s")
    again = later.then("2026-07-01T09:00Z", now="2026-07-20T09:00Z", request_id="r")
    assert again.said == first.said
    assert again.answer.replayed
    assert again.user is later.user


def test_a_repeat_is_not_recorded() -> None:
    """A call that wrote nothing leaves its request id free."""
    story = act(NOBODY, "2026-07-01T09:00Z", request_id="r").then("2026-07-01T10:00Z", request_id="s")
    assert "s" not in story.user.requests
    assert story.then("2026-07-02T10:00Z", request_id="s").said[0] == "STREAK_INCREMENT"


@pytest.mark.parametrize(
    ("offset", "word"),
    [
        (timedelta(minutes=5), None),
        (timedelta(minutes=5, microseconds=1), "ACTIVITY_IN_FUTURE"),
        (-timedelta(days=7), None),
        (-timedelta(days=7, microseconds=1), "ACTIVITY_TOO_OLD"),
    ],
)
def test_limits_of_activity_times(offset: timedelta, word: str | None) -> None:
    """Five minutes ahead and seven days ago are in; a microsecond more is out."""
    now = utc("2026-07-10T12:00Z")
    if word is None:
        assert update(NOBODY, now, Activity(ADA, now + offset))[1].change_type is ChangeType.FIRST_ACTIVITY
        return
    with pytest.raises(RefusedError, match=word):
        update(NOBODY, now, Activity(ADA, now + offset))


def test_an_overlong_request_id_is_refused() -> None:
    """One hundred characters are a request id, 101 are an error."""
    assert act(NOBODY, "2026-07-01T09:00Z", request_id="x" * 100).answer.success
    with pytest.raises(RefusedError, match="REQUEST_ID_TOO_LONG"):
        act(NOBODY, "2026-07-01T09:00Z", request_id="x" * 101)


# Rule 7: lapse.


def test_a_lapse_shows_in_reads_at_once_and_in_the_row_after_the_sweep() -> None:
    """From ``expires_at`` on every read is 0; the sweep adds a version and changes nothing else."""
    user = act(NOBODY, "2026-07-01T09:00Z").user
    just_before, at_expiry = utc("2026-07-02T23:59:59.999999Z"), utc("2026-07-03T00:00Z")
    assert (read(user, just_before).current_streak, read(user, at_expiry).current_streak) == (1, 0)
    assert lapse({ADA: user}, just_before, 10) == {}
    swept = lapse({ADA: user}, at_expiry, 10)[ADA]
    assert swept.row is not None
    assert user.row is not None
    assert (swept.row.current, swept.row.run, swept.row.version) == (0, 1, 2)
    assert swept.ledger == user.ledger
    assert lapse({ADA: swept}, at_expiry, 10) == {}
    late = update(swept, at_expiry, Activity(ADA, utc("2026-07-02T09:00Z")))[1]
    assert (late.change_type, late.current_streak) == (ChangeType.STREAK_INCREMENT, 2)


def test_the_sweep_takes_the_longest_expired_first() -> None:
    """A limit leaves the streaks that expired last for the next sweep."""
    users = {ADA: act(NOBODY, "2026-07-02T09:00Z").user, BOB: act(NOBODY, "2026-07-01T09:00Z").user}
    assert list(lapse(users, utc("2026-07-09T00:00Z"), 1)) == [BOB]


def test_an_answer_about_an_expired_streak_is_zero() -> None:
    """A late first activity whose day is long over enters the ledger and answers 0 at present."""
    story = act(NOBODY, "2026-07-01T09:00Z", now="2026-07-05T09:00Z")
    assert story.said == ("FIRST_ACTIVITY", 0, 1, "2026-07-01")


def test_reading_travellers() -> None:
    """A last day ahead of today's date is active today, and no count of days is negative."""
    user = act(NOBODY, "2026-11-09T20:00Z", AUCKLAND).then("2026-11-10T09:00Z", HONOLULU).user
    reading = read(user, utc("2026-11-10T09:00Z"))
    assert (reading.is_active_today, reading.days_since_activity, reading.current_streak) == (True, 0, 2)
    assert read(NOBODY, utc("2026-11-10T09:00Z")).current_streak == 0


# Section 4: recovery, rebuild, import, batch.


def test_a_recovery_after_a_lapse_lives_on() -> None:
    """Missed days enter as repaired and count; the next day increments instead of resetting."""
    story = act(NOBODY, "2026-07-01T09:00Z").then("2026-07-02T09:00Z")
    now = utc("2026-07-05T09:00Z")
    swept = lapse({ADA: story.user}, now, 1)[ADA]
    user, answer = recover(swept, now, day("2026-07-03"), day("2026-07-04"), "fix")
    assert (answer.change_type, answer.current_streak) == (ChangeType.STREAK_RECOVERED, 4)
    assert (answer.last_active_date, answer.expires_at) == (day("2026-07-04"), utc("2026-07-06T00:00Z"))
    assert act(user, "2026-07-05T10:00Z").said == ("STREAK_INCREMENT", 5, 5, "2026-07-05")
    late = act(user, "2026-07-04T10:00Z", now="2026-07-05T10:00Z")
    assert late.said == ("STREAK_MAINTAINED", 4, 4, "2026-07-04")
    assert late.user.ledger[day("2026-07-04")].kind is Kind.ACTIVE
    assert recover(user, now, day("2026-07-03"), day("2026-07-04"), "fix")[1].replayed


@pytest.mark.parametrize(
    ("first", "last"),
    [
        ("2026-07-02", "2026-07-05"),
        ("2026-06-30", "2026-07-02"),
        ("2026-07-03", "2026-07-02"),
        ("2026-07-02", "2028-01-01"),
    ],
)
def test_ranges_that_cannot_be_recovered(first: str, last: str) -> None:
    """Today, days before the first, reversed and over-long ranges are refused."""
    user = act(NOBODY, "2026-07-01T09:00Z").user
    with pytest.raises(RefusedError):
        recover(user, utc("2026-07-05T09:00Z"), day(first), day(last))


def test_a_recovery_without_missed_days_writes_nothing() -> None:
    """Nothing missed, nothing written."""
    user = act(NOBODY, "2026-07-01T09:00Z").user
    after, answer = recover(user, utc("2026-07-02T09:00Z"), day("2026-07-01"), day("2026-07-01"))
    assert after is user
    assert answer.change_type is ChangeType.STREAK_MAINTAINED


def test_an_import_is_the_same_as_living_through_it() -> None:
    """Events of a journey, in any order, import to the run that the calls would have built, and only once."""
    trip = [Activity(ADA, utc("2026-11-10T22:00Z"), AUCKLAND), Activity(ADA, utc("2026-11-10T03:00Z"), LA)]
    now = utc("2027-01-01T00:00Z")
    user = import_activity({ADA: NOBODY}, now, trip)[ADA]
    assert user.row is not None
    assert (user.row.run, user.row.longest, user.row.current, user.row.zone) == (2, 2, 0, AUCKLAND)
    assert [one.change_type for one in user.history] == [ChangeType.STREAK_IMPORTED]
    assert import_activity({ADA: user}, now, trip[::-1]) == {}


def test_an_import_leaves_the_stored_zone() -> None:
    """A stored zone stays; events in between join the run."""
    user = act(NOBODY, "2026-07-01T09:00Z", LONDON).then("2026-07-03T09:00Z", LONDON).user
    event = Activity(ADA, utc("2026-07-02T20:00Z"), LA)
    after = import_activity({ADA: user}, utc("2026-07-03T10:00Z"), [event])[ADA]
    assert after.row is not None
    assert (after.row.zone, after.row.run, after.row.current) == (LONDON, 3, 3)


def test_an_import_without_zones_takes_the_stored_one() -> None:
    """An event without a zone takes the stored one, a new user's the latest event's: importing again adds no day."""
    events = [Activity(ADA, utc("2026-07-02T03:00Z")), Activity(ADA, utc("2026-07-05T03:00Z"), LA)]
    user = import_activity({ADA: NOBODY}, utc("2026-07-06T00:00Z"), events)[ADA]
    assert sorted(user.ledger) == [day("2026-07-01"), day("2026-07-04")]
    assert import_activity({ADA: user}, utc("2026-07-06T00:00Z"), events) == {}


def test_an_import_before_expiry_keeps_the_streak() -> None:
    """An activity before the row's ``expires_at`` keeps the streak also when it comes through the import."""
    story = act(NOBODY, "2026-07-06T06:00Z", LONDON).then("2026-07-06T19:00Z", LA)
    assert story.answer.expires_at == utc("2026-07-08T07:00Z")
    event = Activity(ADA, utc("2026-07-08T05:00Z"), AUCKLAND)
    user = import_activity({ADA: story.user}, event.at or utc(""), [event])[ADA]
    assert user.row is not None
    assert (user.row.run, user.row.last) == (2, day("2026-07-08"))


def test_a_late_day_leaves_gaps_that_are_not_its_own() -> None:
    """A streak that was reset stays reset when an old day arrives that joins nothing."""
    user = act(NOBODY, "2026-07-04T19:00Z", AUCKLAND).user
    event = Activity(ADA, utc("2026-07-06T19:00Z"), "UTC")
    user = import_activity({ADA: user}, utc("2026-07-06T20:00Z"), [event])[ADA]
    story = act(user, "2026-07-07T19:00Z", AUCKLAND)
    assert story.said == ("STREAK_RESET", 1, 2, "2026-07-08")
    late = story.then("2026-07-02T19:00Z", AUCKLAND, now="2026-07-07T20:00Z")
    assert late.said == ("STREAK_MAINTAINED", 1, 2, "2026-07-08")


def test_an_import_is_all_or_nothing() -> None:
    """An event in the future or of nobody refuses the whole import."""
    now = utc("2026-07-03T10:00Z")
    with pytest.raises(RefusedError, match="USER_NOT_FOUND"):
        import_activity({ADA: NOBODY}, now, [Activity(ADA, now), Activity(BOB, now)])
    with pytest.raises(RefusedError, match="ACTIVITY_IN_FUTURE"):
        import_activity({ADA: NOBODY}, now, [Activity(ADA, now + timedelta(minutes=6))])


def test_a_rebuild_of_right_counters_writes_nothing() -> None:
    """Counters that equal the ledger need no rebuilding."""
    user = act(NOBODY, "2026-07-01T09:00Z").user
    assert rebuild(user, utc("2026-07-09T09:00Z")) is user


def test_a_bad_element_harms_no_other() -> None:
    """A batch answers each element by itself and keeps the order of one user's elements."""
    now = utc("2026-07-03T10:00Z")
    days = [utc("2026-07-02T10:00Z"), utc("2026-06-01T10:00Z"), utc("2026-07-03T10:00Z")]
    elements = [*(Activity(ADA, at) for at in days), Activity(BOB, now)]
    users, answers = batch({ADA: NOBODY}, now, elements)
    kinds = [one.word if isinstance(one, RefusedError) else one.change_type.value for one in answers]
    assert kinds == ["FIRST_ACTIVITY", "ACTIVITY_TOO_OLD", "STREAK_INCREMENT", "USER_NOT_FOUND"]
    assert set(users) == {ADA}
