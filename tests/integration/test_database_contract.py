"""Each function's contract: parameters, columns, order, limits and errors."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from uuid import UUID, uuid4

import asyncpg
import pytest

from tests.support.migrated import Connection, module_database
from tests.support.noon import DAY, NOON, db

__all__ = ["db", "module_database"]
pytestmark = pytest.mark.asyncio(loop_scope="module")

TODAY = NOON.date()
ANSWER = (
    "success boolean, current_streak integer, longest_streak integer, last_active_date date, change_type text, "
    "message text, timezone text, version integer, expires_at timestamp with time zone, replayed boolean"
)
READING = (
    "current_streak integer, longest_streak integer, last_active_date date, timezone text, is_active_today boolean, "
    "days_since_activity integer, expires_at timestamp with time zone, version integer"
)
CALL = "select * from public.{}"
UPDATE = "select * from public.update_user_streak_atomic($1, $2, $3, $4)"


async def add_user(db: Connection, *ago: int, user_id: UUID | None = None) -> UUID:
    """Sign up a user, active so many days ago."""
    user_id = user_id or uuid4()
    await db.execute("insert into auth.users (id) values ($1)", user_id)
    if ago:
        times = [NOON - n * DAY for n in ago]
        await db.execute("select * from public.import_user_activity($1, $2)", [user_id] * len(ago), times)
    return user_id


@pytest.mark.parametrize(
    ("function", "arguments", "result"),
    [
        (
            "update_user_streak_atomic",
            (
                "p_user_id uuid, p_timezone text DEFAULT NULL::text, p_request_id text DEFAULT NULL::text, "
                "p_activity_at timestamp with time zone DEFAULT NULL::timestamp with time zone"
            ),
            ANSWER,
        ),
        ("get_user_streak", "p_user_id uuid", READING),
        ("get_user_streaks", "p_user_ids uuid[]", f"user_id uuid, {READING}"),
        (
            "get_streak_leaderboard",
            "p_limit integer DEFAULT 100, p_offset integer DEFAULT 0, p_order_by text DEFAULT 'current_streak'::text",
            (
                "rank bigint, user_id uuid, current_streak integer, longest_streak integer, last_active_date date, "
                "is_active_today boolean"
            ),
        ),
        (
            "get_streak_calendar",
            "p_user_id uuid, p_from date, p_to date",
            "day date, kind text, activity_at timestamp with time zone, timezone text",
        ),
        (
            "recover_user_streak",
            "p_user_id uuid, p_from date, p_to date, p_reason text, p_request_id text DEFAULT NULL::text",
            ANSWER,
        ),
        ("rebuild_user_streak", "p_user_id uuid", ANSWER),
        ("expire_lapsed_streaks", "p_limit integer DEFAULT 1000", "expired integer"),
        (
            "update_user_streaks_batch",
            (
                "p_user_ids uuid[], "
                "p_activity_ats timestamp with time zone[] DEFAULT NULL::timestamp with time zone[], "
                "p_timezones text[] DEFAULT NULL::text[], p_request_ids text[] DEFAULT NULL::text[]"
            ),
            f"index integer, user_id uuid, error text, {ANSWER}",
        ),
    ],
)
async def test_signature(db: Connection, function: str, arguments: str, result: str) -> None:
    """Parameters, defaults and result columns are the contract's, in its order."""
    (row,) = await db.fetch(
        "select pg_get_function_arguments(oid) as arguments, pg_get_function_result(oid) as result from pg_proc"
        " where pronamespace = 'public'::regnamespace and proname = $1",
        function,
    )
    assert (row["arguments"], row["result"]) == (arguments, f"TABLE({result})")


BAD = [
    ("update_user_streak_atomic(null)", "22023", "USER_ID_REQUIRED"),
    ("update_user_streak_atomic(gen_random_uuid())", "23503", "USER_NOT_FOUND"),
    ("update_user_streak_atomic({user}, null, repeat('x', 101))", "22023", "REQUEST_ID_TOO_LONG"),
    ("update_user_streak_atomic({user}, null, null, private.now() + '5:01')", "22023", "ACTIVITY_IN_FUTURE"),
    ("update_user_streak_atomic({user}, null, null, 'infinity')", "22023", "ACTIVITY_IN_FUTURE"),
    (
        "update_user_streak_atomic({user}, null, null, private.now() - '7 days 1 second'::interval)",
        "22023",
        "ACTIVITY_TOO_OLD",
    ),
    ("update_user_streak_atomic({user}, null, null, '-infinity')", "22023", "ACTIVITY_TOO_OLD"),
    ("update_user_streaks_batch(null)", "22023", "USER_IDS_REQUIRED"),
    ("update_user_streaks_batch(array_fill({user}, array[1001]))", "22023", "BATCH_TOO_LARGE"),
    ("get_user_streak(null)", "22023", "USER_ID_REQUIRED"),
    ("get_user_streaks(null)", "22023", "USER_IDS_REQUIRED"),
    ("get_user_streaks(array_fill({user}, array[1001]))", "22023", "BATCH_TOO_LARGE"),
    ("get_streak_leaderboard(0)", "22023", "LIMIT_INVALID"),
    ("get_streak_leaderboard(1001)", "22023", "LIMIT_INVALID"),
    ("get_streak_leaderboard(1, -1)", "22023", "OFFSET_INVALID"),
    ("get_streak_leaderboard(1, 0, 'user_id')", "22023", "ORDER_BY_INVALID"),
    ("get_streak_calendar(null, '2026-01-01', '2026-01-02')", "22023", "USER_ID_REQUIRED"),
    ("get_streak_calendar({user}, null, '2026-01-02')", "22023", "RANGE_INVALID"),
    ("get_streak_calendar({user}, '2026-01-03', '2026-01-02')", "22023", "RANGE_INVALID"),
    ("get_streak_calendar({user}, '2020-01-01', '2026-01-02')", "22023", "RANGE_TOO_LONG"),
    ("recover_user_streak(null, '2026-05-18', '2026-05-18', 'x')", "22023", "USER_ID_REQUIRED"),
    ("recover_user_streak(gen_random_uuid(), '2026-05-18', '2026-05-18', 'x')", "23503", "USER_NOT_FOUND"),
    ("recover_user_streak({new}, '2026-05-18', '2026-05-18', 'x')", "22023", "NO_STREAK"),
    ("recover_user_streak({user}, null, '2026-05-18', 'x')", "22023", "RANGE_INVALID"),
    ("recover_user_streak({user}, '2026-05-19', '2026-05-18', 'x')", "22023", "RANGE_INVALID"),
    ("recover_user_streak({user}, '2025-05-18', '2026-05-19', 'x')", "22023", "RANGE_TOO_LONG"),
    ("recover_user_streak({user}, '2026-05-16', '2026-05-18', 'x')", "22023", "RANGE_TOO_EARLY"),
    ("recover_user_streak({user}, '2026-05-18', '2026-05-20', 'x')", "22023", "RANGE_TOO_LATE"),
    ("recover_user_streak({user}, '2026-05-18', '2026-05-18', '  ')", "22023", "REASON_REQUIRED"),
    ("recover_user_streak({user}, '2026-05-18', '2026-05-18', repeat('x', 501))", "22023", "REASON_TOO_LONG"),
    ("recover_user_streak({user}, '2026-05-18', '2026-05-18', 'x', repeat('x', 101))", "22023", "REQUEST_ID_TOO_LONG"),
    ("import_user_activity(null, null)", "22023", "ARRAYS_DIFFER"),
    ("import_user_activity(array[{user}], array[]::timestamptz[])", "22023", "ARRAYS_DIFFER"),
    ("import_user_activity(array[{user}], array[private.now()], array['UTC', 'UTC'])", "22023", "ARRAYS_DIFFER"),
    ("import_user_activity(array[{user}, null], array[private.now(), private.now()])", "22023", "USER_ID_REQUIRED"),
    ("import_user_activity(array[{user}], array[null]::timestamptz[])", "22023", "ACTIVITY_AT_REQUIRED"),
    ("import_user_activity(array[{user}], array[private.now() + '6 minutes'])", "22023", "ACTIVITY_IN_FUTURE"),
    ("import_user_activity(array[{user}], array[timestamptz '1969-12-31Z'])", "22023", "ACTIVITY_TOO_OLD"),
    ("expire_lapsed_streaks(0)", "22023", "LIMIT_INVALID"),
    ("expire_lapsed_streaks(null)", "22023", "LIMIT_INVALID"),
    ("rebuild_user_streak(null)", "22023", "USER_ID_REQUIRED"),
    ("rebuild_user_streak(gen_random_uuid())", "23503", "USER_NOT_FOUND"),
    ("rebuild_user_streak({new})", "22023", "NO_STREAK"),
]
EVERYTHING = """
select array_agg(to_jsonb(x) order by to_jsonb(x)::text) from (
  select to_jsonb(s) from public.user_streaks s union all select to_jsonb(d) from public.streak_days d
  union all select to_jsonb(h) from public.streak_history h
) x
"""


@pytest.mark.parametrize(("call", "sqlstate", "word"), BAD, ids=[call for call, _, _ in BAD])
async def test_bad_input(db: Connection, call: str, sqlstate: str, word: str) -> None:
    """Bad input is refused with a stable SQLSTATE and word, a message that names the field, and changes nothing."""
    names = {"user": await add_user(db, 3), "new": await add_user(db)}
    call = call.format(**{name: f"'{user_id}'::uuid" for name, user_id in names.items()})
    before = await db.fetchval(EVERYTHING)
    with pytest.raises(asyncpg.PostgresError) as caught:
        async with db.transaction():
            await db.fetch(CALL.format(call))
    assert (caught.value.sqlstate, caught.value.detail) == (sqlstate, word)
    assert "p_" in str(caught.value)
    assert await db.fetchval(EVERYTHING) == before


async def test_limits_are_inclusive(db: Connection) -> None:
    """What is just within the limits is taken: 7 days, 5 minutes, 100 characters, 1000 elements."""
    user_id = await add_user(db)
    for at in (NOON - 7 * DAY, NOON + timedelta(minutes=5)):
        row = await db.fetchrow(UPDATE, user_id, None, f"{at}".ljust(100, "x"), at)
        assert row is not None
        assert row["success"]
    rows = await db.fetch("select * from public.update_user_streaks_batch($1)", [user_id] * 1000)
    assert {row["change_type"] for row in rows} == {"STREAK_MAINTAINED"}


async def test_batch(db: Connection) -> None:
    """One row per element in order, index from 0; a bad one gets a code and harms no other; a user's act in order."""
    one, two = await add_user(db), await add_user(db)
    rows = await db.fetch(
        "select * from public.update_user_streaks_batch($1, $2, $3, $4)",
        [two, one, uuid4(), None, one, two, one],
        [NOON - DAY, NOON - DAY, NOON, NOON, NOON - 9 * DAY, NOON, NOON],
        ["Europe/Berlin"],
        [None, None, None, None, None, "x" * 101],
    )
    assert [row["index"] for row in rows] == list(range(7))
    assert [row["user_id"] for row in rows[:2]] == [two, one]
    assert [row["error"] for row in rows] == [
        *(None, None, "USER_NOT_FOUND", "USER_ID_REQUIRED", "ACTIVITY_TOO_OLD", "REQUEST_ID_TOO_LONG", None),
    ]
    assert [row["success"] for row in rows] == [True, True, False, False, False, False, True]
    assert [rows[n]["change_type"] for n in (0, 1, 6)] == ["FIRST_ACTIVITY", "FIRST_ACTIVITY", "STREAK_INCREMENT"]
    assert [rows[n]["timezone"] for n in (0, 1)] == ["Europe/Berlin", "UTC"]
    assert await db.fetch("select * from public.update_user_streaks_batch('{}')") == []


async def test_batch_answers_as_single_calls_do(db: Connection) -> None:
    """An element's answer is the answer that a single call would get, replay included."""
    one, two = await add_user(db, 2), await add_user(db, 2)
    single = [await db.fetchrow(UPDATE, one, "UTC", "r", NOON - DAY) for _ in range(2)]
    batch = await db.fetch(
        "select * from public.update_user_streaks_batch($1, $2, $3, $4)",
        [two, two],
        [NOON - DAY, NOON - DAY],
        ["UTC", "UTC"],
        ["r", "r"],
    )
    for mine, other in zip(single, batch, strict=True):
        assert mine is not None
        assert dict(mine) == {key: other[key] for key in mine.keys()}  # noqa: SIM118 - a record is no mapping
    assert [row["replayed"] for row in batch] == [False, True]


async def test_reads(db: Connection) -> None:
    """Many reads in one call are the single reads, in order, one per element; a user without a row gets zeros."""
    alive, dead, new = await add_user(db, 1, 0), await add_user(db, 9, 8, 7), await add_user(db)
    asked = [dead, new, alive, dead]
    many = await db.fetch("select * from public.get_user_streaks($1)", asked)
    assert [row["user_id"] for row in many] == asked
    for row in many:
        single = await db.fetchrow("select * from public.get_user_streak($1)", row["user_id"])
        assert single is not None
        assert tuple(single) == tuple(row)[1:]
    assert [row["current_streak"] for row in many] == [0, 0, 2, 0]
    assert tuple(many[0])[2:7] == (3, TODAY - 7 * DAY, "UTC", False, 7)
    assert tuple(many[1])[1:] == (0, 0, None, "UTC", False, None, None, 0)
    assert tuple(many[2])[2:7] == (2, TODAY, "UTC", True, 0)


async def test_leaderboard(db: Connection) -> None:
    """Ranks leave gaps after ties, ties go by user, the lapsed and those who opted out are left out, pages fit."""
    users = [UUID(int=n) for n in range(1, 7)]
    for user_id, ago in zip(users, [(1, 0), (2, 1, 0), (1, 0), (0,), (9, 8, 7, 6), (3, 2, 1, 0)], strict=True):
        await add_user(db, *ago, user_id=user_id)
    await db.execute("insert into public.user_profiles (user_id, leaderboard_opt_out) values ($1, true)", users[5])
    board = "select * from public.get_streak_leaderboard($1, $2, $3)"
    current = await db.fetch(board, 10, 0, "current_streak")
    expected = [(1, users[1], 3), (2, users[0], 2), (2, users[2], 2), (4, users[3], 1)]
    assert [tuple(row)[:3] for row in current] == expected
    assert [tuple(row)[:3] for n in range(5) for row in await db.fetch(board, 1, n, None)] == expected
    longest = await db.fetch(board, None, None, "longest_streak")
    assert [(row["rank"], row["user_id"], row["current_streak"], row["longest_streak"]) for row in longest] == [
        (1, users[4], 0, 4),
        (2, users[1], 3, 3),
        (3, users[0], 2, 2),
        (3, users[2], 2, 2),
        (5, users[3], 1, 1),
    ]


async def test_calendar(db: Connection) -> None:
    """The calendar is the ledger from the first to the last day asked for, both included, in order."""
    user_id = await add_user(db, 9, 5, 4)
    await db.execute(
        "select * from public.recover_user_streak($1, $2, $3, 'x')", user_id, TODAY - 7 * DAY, TODAY - 6 * DAY
    )
    rows = await db.fetch(
        "select * from public.get_streak_calendar($1, $2, $3)", user_id, TODAY - 7 * DAY, TODAY - 5 * DAY
    )
    assert [(row["day"], row["kind"]) for row in rows] == [
        (TODAY - 7 * DAY, "repaired"),
        (TODAY - 6 * DAY, "repaired"),
        (TODAY - 5 * DAY, "active"),
    ]
    assert [row["activity_at"] for row in rows] == [None, None, NOON - 5 * DAY]


async def test_recovery(db: Connection) -> None:
    """A repair joins runs, lets the streak live on, is audited with its reason, and replays by its request id."""
    user_id = await add_user(db, 5, 4)
    call = "select * from public.recover_user_streak($1, $2, $3, $4, $5)"
    arguments = (user_id, TODAY - 3 * DAY, TODAY - DAY, "an outage", "ticket-1")
    first = await db.fetchrow(call, *arguments)
    assert first is not None
    assert (first["change_type"], first["current_streak"], first["last_active_date"]) == (
        *("STREAK_RECOVERED", 5, TODAY - DAY),
    )
    history = await db.fetchrow("select * from public.streak_history where user_id = $1 order by id desc", user_id)
    assert history is not None
    assert (history["reason"], history["change_type"]) == ("an outage", "STREAK_RECOVERED")
    again = await db.fetchrow(call, *arguments)
    assert again is not None
    assert dict(again) == {**first, "replayed": True}
    nothing = await db.fetchrow(call, *arguments[:4], None)
    assert nothing is not None
    assert (nothing["change_type"], nothing["version"]) == ("STREAK_MAINTAINED", first["version"])
    after = await db.fetchrow(UPDATE, user_id, None, None, NOON)
    assert after is not None
    assert (after["change_type"], after["current_streak"]) == ("STREAK_INCREMENT", 6)


async def test_import(db: Connection) -> None:
    """An import counts each event of any age in its own zone, once, with one history row a user."""
    new, old, stranger = await add_user(db), await add_user(db, 1), uuid4()
    events = [
        (new, datetime(2020, 1, 1, 22, tzinfo=UTC), "Asia/Tokyo"),  # the 2nd there
        (new, datetime(2020, 1, 1, 12, tzinfo=UTC), "UTC"),
        (new, datetime(2020, 1, 1, 13, tzinfo=UTC), "UTC"),
        (old, NOON - 2 * DAY, "Mars/Phobos"),
        (stranger, NOON, None),
    ]
    arguments = [list(column) for column in zip(*events, strict=True)]
    call = "select * from public.import_user_activity($1, $2, $3)"
    rows = {row["user_id"]: row for row in await db.fetch(call, *arguments)}
    assert list(rows) == sorted(rows)
    assert (rows[new]["days_added"], rows[new]["longest_streak"], rows[new]["timezone"]) == (2, 2, "Asia/Tokyo")
    assert rows[new]["last_active_date"] == date(2020, 1, 2)
    assert (rows[old]["days_added"], rows[old]["current_streak"], rows[old]["timezone"]) == (1, 2, "UTC")
    assert (rows[stranger]["error"], rows[stranger]["version"]) == ("USER_NOT_FOUND", None)
    before = await db.fetchval(EVERYTHING)
    again = {row["user_id"]: row["change_type"] for row in await db.fetch(call, *arguments)}
    assert again == {new: "STREAK_MAINTAINED", old: "STREAK_MAINTAINED", stranger: None}
    assert await db.fetchval(EVERYTHING) == before
    assert await db.fetchval("select count(*) from public.streak_history where user_id = $1", new) == 1


async def test_sweep(db: Connection) -> None:
    """A sweep sets what has lapsed to 0 up to its limit, records it, and changes no answer but the version."""
    users = [await add_user(db) for _ in range(3)]
    await db.execute("select set_config('streaks.test_now', $1, true)", (NOON - 5 * DAY).isoformat())
    await db.execute("select * from public.update_user_streaks_batch($1)", users)
    await db.execute("select set_config('streaks.test_now', $1, true)", NOON.isoformat())
    reads = "select * from public.get_user_streaks($1)"
    before = await db.fetch(reads, users)
    swept = [await db.fetchval("select expired from public.expire_lapsed_streaks($1)", limit) for limit in (2, 2, 2)]
    assert swept == [2, 1, 0]
    after = await db.fetch(reads, users)
    assert [tuple(row)[:-1] for row in before] == [tuple(row)[:-1] for row in after]
    assert [row["version"] for row in after] == [2, 2, 2]
    history = await db.fetch("select change_type from public.streak_history where version_after = 2")
    assert [row["change_type"] for row in history] == ["STREAK_LAPSED"] * 3


async def test_rebuild(db: Connection) -> None:
    """A rebuild mends counters that were falsified, records it, and writes nothing where all is right."""
    user_id = await add_user(db, 2, 1, 0)
    right = await db.fetchrow("select * from public.rebuild_user_streak($1)", user_id)
    assert right is not None
    assert (right["change_type"], right["version"]) == ("STREAK_MAINTAINED", 1)
    await db.execute(
        "update public.user_streaks set current_streak = 40, run_length = 40, longest_streak = 40 where user_id = $1",
        user_id,
    )
    mended = await db.fetchrow("select * from public.rebuild_user_streak($1)", user_id)
    assert mended is not None
    assert (mended["change_type"], mended["current_streak"], mended["longest_streak"]) == ("STREAK_REBUILT", 3, 3)
    assert mended["version"] == 3


async def test_message_names_an_ignored_zone(db: Connection) -> None:
    """The message names a zone that was ignored, on a first call and on a repeat."""
    user_id = await add_user(db)
    for _ in range(2):
        row = await db.fetchrow(UPDATE, user_id, "FOO+5", None, NOON)
        assert row is not None
        assert "FOO+5" in row["message"]
        assert row["timezone"] == "UTC"


async def test_history_keeps_how_long_it_took(db: Connection) -> None:
    """Each history row that a call writes holds its duration in milliseconds."""
    user_id = await add_user(db)
    await db.fetchrow(UPDATE, user_id, None, None, NOON)
    assert await db.fetchval(
        "select duration_ms between 0 and 10000 from public.streak_history where user_id = $1", user_id
    )
