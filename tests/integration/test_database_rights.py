"""Who may do what, over REST with real keys and tokens: the owner, a stranger, an anonymous visitor and the service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import pytest
import pytest_asyncio

from local_supabase.stack import StackInfo
from tests.support.stack import insert_user, user_token

pytestmark = pytest.mark.asyncio(loop_scope="module")

PERSONS = ["owner", "stranger", "anonymous", "service"]
REFUSED = {"owner": 403, "stranger": 403, "anonymous": 401, "service": 403}
TABLES = ["user_streaks", "streak_days", "streak_history", "streak_history_archive", "user_profiles"]
OPERATORS_TABLES = ["streak_repairs"]
WRITABLE_BY_SERVICE = {"user_streaks", "user_profiles"}
NOBODY = UUID(int=0)
CATALOGUE = """
select array(
    select c.relname::text from pg_class c
    where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p', 'v', 'm', 'f') order by 1
  ) as tables,
  array(select p.proname::text from pg_proc p where p.pronamespace = 'public'::regnamespace order by 1) as functions
"""


@dataclass
class Platform:
    """Two users with a streak each, and a client for each person."""

    owner: UUID
    stranger: UUID
    http: dict[str, httpx.AsyncClient]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def platform(stack: StackInfo) -> AsyncIterator[Platform]:
    """Two users in the stack's own database, with a row in every table."""
    connection = await asyncpg.connect(stack.database_url)
    owner, stranger = [await insert_user(connection) for _ in range(2)]
    for user in (owner, stranger):
        await connection.execute("select public.update_user_streak_atomic($1)", user)
        await connection.execute("insert into public.user_profiles (user_id) values ($1)", user)
        await connection.execute(
            "insert into public.streak_history_archive select * from public.streak_history where user_id = $1", user
        )
    repair = await connection.fetchval(
        "select repair_id from public.start_streak_repair('2026-05-18', '2026-05-19', 'an outage')"
    )
    keys = {"apikey": stack.publishable_key}
    headers = {
        "owner": keys | {"authorization": f"Bearer {user_token(stack, owner)}"},
        "stranger": keys | {"authorization": f"Bearer {user_token(stack, stranger)}"},
        "anonymous": keys,
        "service": {"apikey": stack.secret_key},
    }
    http = {
        person: httpx.AsyncClient(base_url=f"{stack.supabase_url}/rest/v1", headers=headers[person], timeout=30)
        for person in PERSONS
    }
    yield Platform(owner, stranger, http)
    for client in http.values():
        await client.aclose()
    await connection.execute("delete from auth.users where id = any ($1)", [owner, stranger])
    await connection.execute("delete from public.streak_repairs where id = $1", repair)
    await connection.close()


def assert_refused(answer: httpx.Response, person: str) -> None:
    """PostgreSQL said no: signed out 401, signed in 403."""
    assert answer.status_code == REFUSED[person], answer.text
    assert answer.json()["code"] == "42501"


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize(("person", "sees"), [("owner", "own"), ("stranger", "none"), ("service", "own")])
async def test_reading_a_table(platform: Platform, table: str, person: str, sees: str) -> None:
    """The owner and the service read the owner's rows; a stranger finds none."""
    answer = await platform.http[person].get(f"/{table}", params={"user_id": f"eq.{platform.owner}"})
    assert answer.status_code == 200
    assert bool(answer.json()) == (sees == "own")


@pytest.mark.parametrize("table", TABLES)
async def test_everything_a_user_can_read(platform: Platform, table: str) -> None:
    """Whatever a user asks for, the rows are the user's; the service gets everybody's."""
    own = await platform.http["owner"].get(f"/{table}")
    assert {row["user_id"] for row in own.json()} == {str(platform.owner)}
    everybody = await platform.http["service"].get(
        f"/{table}", params={"user_id": f"in.({platform.owner},{platform.stranger})"}
    )
    assert {row["user_id"] for row in everybody.json()} == {str(platform.owner), str(platform.stranger)}


@pytest.mark.parametrize("table", OPERATORS_TABLES)
@pytest.mark.parametrize("person", PERSONS)
async def test_reading_what_operators_did(platform: Platform, table: str, person: str) -> None:
    """The records of mass repairs are for the service alone."""
    answer = await platform.http[person].get(f"/{table}")
    if person == "service":
        assert (answer.status_code, bool(answer.json())) == (200, True)
    else:
        assert_refused(answer, person)


@pytest.mark.parametrize("table", [*TABLES, *OPERATORS_TABLES, "profiles", "timezones"])
async def test_anonymous_reads_nothing(platform: Platform, table: str) -> None:
    """Without a user's token no table answers, and the private ones are not even there for the service."""
    answer = await platform.http["anonymous"].get(f"/{table}")
    if table in {*TABLES, *OPERATORS_TABLES}:
        assert_refused(answer, "anonymous")
    else:
        assert answer.status_code in {401, 404}
        assert (await platform.http["service"].get(f"/{table}")).status_code == 404


def rows_for(user: UUID) -> dict[str, dict[str, Any]]:
    """A row for each table that breaks no constraint but the keys."""
    day = datetime.now(UTC).date().isoformat()
    change = {
        **{f"{age}_{which}_streak": 0 for age in ("old", "new") for which in ("current", "longest")},
        "user_id": str(user),
        "activity_date": day,
        "change_type": "STREAK_RESET",
        "timezone": "UTC",
        "version_before": 98,
        "version_after": 99,
    }
    return {
        "user_streaks": {"user_id": str(user), "current_streak": 500, "longest_streak": 500, "last_active_date": day},
        "streak_days": {"user_id": str(user), "day": "2020-01-01", "timezone": "UTC"},
        "streak_history": change,
        "streak_history_archive": change | {"id": 1, "created_at": day},
        "user_profiles": {"user_id": str(user), "timezone": "Asia/Tokyo"},
        "streak_repairs": {"outage_from": "2026-05-18", "outage_to": "2026-05-19", "reason": "an outage"},
    }


CHANGES = {
    "user_streaks": {"timezone": "UTC"},
    "streak_days": {"timezone": "UTC"},
    "streak_history": {"reason": "because"},
    "streak_history_archive": {"reason": "because"},
    "streak_repairs": {"reason": "because"},
    "user_profiles": {"timezone": "Asia/Tokyo"},
}


@pytest.mark.parametrize("table", [*TABLES, *OPERATORS_TABLES])
@pytest.mark.parametrize("person", PERSONS)
@pytest.mark.parametrize("verb", ["POST", "PATCH", "DELETE"])
async def test_writing_a_table(platform: Platform, table: str, person: str, verb: str) -> None:
    """Nobody writes a table but the service, and the service writes neither ledger nor history nor repairs."""
    json = {"POST": rows_for(platform.owner)[table], "PATCH": CHANGES[table], "DELETE": None}[verb]
    # the service may delete, so it is asked to delete what is not there
    user = NOBODY if person == "service" and verb == "DELETE" else platform.owner
    whose = {"id": "gt.0"} if table in OPERATORS_TABLES else {"user_id": f"eq.{user}"}
    params = {} if verb == "POST" else whose
    answer = await platform.http[person].request(verb, f"/{table}", params=params, json=json)
    if person != "service" or table not in WRITABLE_BY_SERVICE:
        assert_refused(answer, person)
    elif verb == "POST":
        assert (answer.status_code, answer.json()["code"]) == (409, "23505")
    else:
        assert answer.status_code in {200, 204}


async def test_nothing_changed(platform: Platform) -> None:
    """After all that, the owner's row, ledger and history are the one activity, and the service's change of zone."""
    service = platform.http["service"]
    mine = {"user_id": f"eq.{platform.owner}"}
    (row,) = (await service.get("/user_streaks", params=mine)).json()
    assert (row["current_streak"], row["longest_streak"], row["version"]) == (1, 1, 1)
    assert len((await service.get("/streak_days", params=mine)).json()) == 1
    assert len((await service.get("/streak_history", params=mine)).json()) == 1


async def test_service_changes_count_as_changes(platform: Platform) -> None:
    """A row that the service changes by hand over REST gets the next version and a history row."""
    service = platform.http["service"]
    mine = {"user_id": f"eq.{platform.stranger}"}
    change = {"longest_streak": 9}
    changed = await service.patch(
        "/user_streaks", params=mine, json=change, headers={"prefer": "return=representation"}
    )
    assert (changed.json()[0]["longest_streak"], changed.json()[0]["version"]) == (9, 2)
    history = await service.get("/streak_history", params={**mine, "order": "id.desc"})
    newest = history.json()[0]
    assert (newest["version_before"], newest["version_after"], newest["new_longest_streak"]) == (1, 2, 9)


def arguments(function: str, user: UUID) -> dict[str, Any]:
    """Valid arguments that concern a user."""
    today = datetime.now(UTC).date()
    every: dict[str, dict[str, Any]] = {
        "update_user_streak_atomic": {"p_user_id": str(user)},
        "update_user_streaks_batch": {"p_user_ids": [str(user)]},
        "get_user_streak": {"p_user_id": str(user)},
        "get_user_streaks": {"p_user_ids": [str(user)]},
        "get_streak_leaderboard": {},
        "get_streak_calendar": {
            "p_user_id": str(user),
            "p_from": str(today - timedelta(days=2)),
            "p_to": str(today + timedelta(days=2)),
        },
        "recover_user_streak": {
            "p_user_id": str(user),
            "p_from": str(today),
            "p_to": str(today),
            "p_reason": "an outage",
        },
        "import_user_activity": {"p_user_ids": [str(user)], "p_activity_ats": [datetime.now(UTC).isoformat()]},
        "expire_lapsed_streaks": {"p_limit": 1},
        "rebuild_user_streak": {"p_user_id": str(user)},
        "explain_user_streak": {"p_user_id": str(user)},
        "undo_user_activity": {"p_user_id": str(user), "p_day": "2020-01-01", "p_reason": "a mistake"},
        "merge_user_streaks": {"p_from": str(user), "p_into": str(user), "p_reason": "one person"},
        "export_user_streak": {"p_user_id": str(user)},
        "erase_user_streak": {"p_user_id": str(user)},
        "preview_streak_repair": {"p_from": "2026-05-18", "p_to": "2026-05-19", "p_limit": 1},
        "start_streak_repair": {"p_from": "2026-05-18", "p_to": "2026-05-19", "p_reason": ""},
        "continue_streak_repair": {"p_repair_id": 0},
        "undo_streak_repair": {"p_repair_id": 0},
        "archive_streak_history": {"p_older_than": "1 day"},
        "diagnose_streaks": {"p_limit": 1},
    }
    return every[function]


FOR_USERS = ["get_user_streak", "get_streak_calendar", "get_streak_leaderboard", "explain_user_streak"]
# What the service is told: that it is the arguments that are wrong shows that the call got through.
FOR_SERVICE: dict[str, str | None] = {
    "update_user_streak_atomic": None,
    "update_user_streaks_batch": None,
    "get_user_streaks": None,
    "recover_user_streak": "RANGE_TOO_LATE",
    "import_user_activity": None,
    "expire_lapsed_streaks": None,
    "rebuild_user_streak": None,
    "undo_user_activity": "DAY_NOT_COUNTED",
    "merge_user_streaks": "USERS_SAME",
    "export_user_streak": None,
    "erase_user_streak": "USER_NOT_FOUND",
    "preview_streak_repair": None,
    "start_streak_repair": "REASON_REQUIRED",
    "continue_streak_repair": "REPAIR_NOT_FOUND",
    "undo_streak_repair": "REPAIR_NOT_FOUND",
    "archive_streak_history": "AGE_TOO_SHORT",
    "diagnose_streaks": None,
}


async def test_nothing_is_forgotten_here(own_database: str) -> None:
    """The tables and functions that these tests go through are all that the API exposes."""
    connection = await asyncpg.connect(own_database)
    exposed = await connection.fetchrow(CATALOGUE)
    await connection.close()
    assert exposed is not None
    assert sorted([*TABLES, *OPERATORS_TABLES]) == exposed["tables"]
    assert sorted([*FOR_USERS, *FOR_SERVICE]) == exposed["functions"]


@pytest.mark.parametrize("function", [*FOR_USERS, *FOR_SERVICE])
@pytest.mark.parametrize("person", PERSONS)
async def test_calling_a_function(platform: Platform, function: str, person: str) -> None:
    """Signed-in users call the four reads that are for them, the service calls everything, anonymous nothing."""
    user = NOBODY if person == "service" and function == "erase_user_streak" else platform.owner
    answer = await platform.http[person].post(f"/rpc/{function}", json=arguments(function, user))
    if person == "service" and (word := FOR_SERVICE.get(function)):
        assert (answer.is_client_error, answer.json()["details"]) == (True, word)
    elif person == "service" or (person != "anonymous" and function in FOR_USERS):
        assert answer.status_code == 200, answer.text
    else:
        assert_refused(answer, person)


@pytest.mark.parametrize("person", ["owner", "stranger", "service"])
async def test_what_reads_tell(platform: Platform, person: str) -> None:
    """Of the owner's streak a stranger gets zeros, no days and no explanation; on the leaderboard the owner is seen."""
    http = platform.http[person]
    allowed = person != "stranger"
    read = await http.post("/rpc/get_user_streak", json=arguments("get_user_streak", platform.owner))
    assert [row["current_streak"] for row in read.json()] == [int(allowed)]
    calendar = await http.post("/rpc/get_streak_calendar", json=arguments("get_streak_calendar", platform.owner))
    assert len(calendar.json()) == int(allowed)
    told, of_nobody = [
        (await http.post("/rpc/explain_user_streak", json=arguments("explain_user_streak", user))).json()
        for user in (platform.owner, NOBODY)
    ]
    assert (told == of_nobody, [(row["version"], bool(row["history"])) for row in told]) == (
        not allowed,
        [(int(allowed), allowed)],
    )
    board = await http.post("/rpc/get_streak_leaderboard", json={"p_limit": 1000})
    assert {str(platform.owner), str(platform.stranger)} <= {row["user_id"] for row in board.json()}


@pytest.mark.parametrize("person", PERSONS)
@pytest.mark.parametrize("function", ["apply_activity", "import_user_activity", "now", "known_timezone"])
async def test_private_functions_are_not_there(platform: Platform, person: str, function: str) -> None:
    """No person reaches a function of the private schema, by its name or by naming the schema."""
    body: dict[str, Any] = {}
    by_schema = {"content-profile": "private", "accept-profile": "private"}
    for headers in ({}, by_schema):
        if function == "import_user_activity" and not headers:
            continue  # has a public namesake
        answer = await platform.http[person].post(f"/rpc/{function}", json=body, headers=headers)
        assert 400 <= answer.status_code < 500, answer.text


async def test_far_pages_of_the_leaderboard(platform: Platform) -> None:
    """A signed-in user pages to 10,000 and no further; the service may."""
    far = {"p_offset": 10_001}
    refused = await platform.http["owner"].post("/rpc/get_streak_leaderboard", json=far)
    assert (refused.status_code, refused.json()["details"]) == (400, "OFFSET_INVALID")
    assert (
        await platform.http["owner"].post("/rpc/get_streak_leaderboard", json={"p_offset": 10_000})
    ).status_code == 200
    assert (await platform.http["service"].post("/rpc/get_streak_leaderboard", json=far)).status_code == 200
