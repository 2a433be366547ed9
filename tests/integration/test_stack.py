"""The local Supabase as a user of Supabase sees it: one origin, keys, roles, rights."""

from __future__ import annotations

import asyncio
import json
import tomllib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import asyncpg
import httpx
import jwt
import pytest
from supabase.lib.client_options import AsyncClientOptions
from websockets.asyncio.client import connect

from local_supabase.stack import StackInfo
from supabase import acreate_client
from tests.support.stack import ROOT, user_token

if TYPE_CHECKING:
    Database = asyncpg.Connection[asyncpg.Record]

NewUser = Callable[[], Awaitable[UUID]]
UPDATE = "/rest/v1/rpc/update_user_streak_atomic"


@pytest.fixture
async def http(stack: StackInfo) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client without any key."""
    async with httpx.AsyncClient(base_url=stack.supabase_url, timeout=30) as client:
        yield client


async def test_without_a_key_nothing_opens(stack: StackInfo, http: httpx.AsyncClient) -> None:
    """A request without a key, with a wrong one, or with a user's token alone is answered with 401."""
    token = user_token(stack, uuid4())
    for headers in ({}, {"apikey": "sb_secret_wrong"}, {"authorization": f"Bearer {token}"}):
        for path in ("/rest/v1/user_streaks", "/auth/v1/user", "/rest/v1/"):
            assert (await http.get(path, headers=headers)).status_code == 401, (path, sorted(headers))


async def test_origin_serves_nothing_else(http: httpx.AsyncClient) -> None:
    """What is no part of a Supabase origin is 404, such as the pages that lite would show without a key."""
    for path in ("/", "/_system/config", "/_system/", "/storage/v1/bucket"):
        answer = await http.get(path)
        assert (answer.status_code, "secret" in answer.text) == (404, False), path


@pytest.mark.parametrize(
    "path",
    [
        "/rest/v1x/user_streaks",
        "/rest/v1/../../_system/config",
        "/rest/v1/%2e%2e/%2E%2e/_system/config",
        "/auth/v1\\..\\..\\_system/config",
        "//rest/v1/user_streaks",
        "http://elsewhere.test/_system/config",
    ],
)
async def test_origin_looks_at_whole_segments(stack: StackInfo, path: str) -> None:
    """A path that only begins like one of the origin, or leaves it by dots, is 404 even with the secret key."""
    url = httpx.URL(stack.supabase_url)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    head = f"GET {path} HTTP/1.1\r\nhost: {url.host}\r\napikey: {stack.secret_key}\r\nconnection: close\r\n\r\n"
    writer.write(head.encode())
    answer = await asyncio.wait_for(reader.read(), 30)
    writer.close()
    await writer.wait_closed()
    assert answer.split(b" ", 2)[1] == b"404", answer


async def test_polls_leave_no_log(stack: StackInfo, db: Database, new_user: NewUser) -> None:
    """The stream of changes reads what was committed without a line in PostgreSQL's log."""
    if not stack.faults_socket:
        pytest.skip("needs the local stack")
    log = Path(stack.faults_socket).with_name("postgres.log")
    await new_user()
    written = await db.fetchval("select pg_current_wal_lsn()::text")
    slots = "select bool_and(confirmed_flush_lsn >= $1::text::pg_lsn) from pg_replication_slots"
    async with asyncio.timeout(30):
        while not await db.fetchval(f"{slots} where slot_name ~ '^realtime_'", written):  # noqa: ASYNC110 - in PostgreSQL
            await asyncio.sleep(0.05)
    assert "logical decoding" not in log.read_text()


async def test_seed_of_the_settings(db: Database) -> None:
    """Each seed file of the settings is there, and the example in ours works, a second time, too."""
    settings = tomllib.loads((ROOT / "supabase/config.toml").read_text())
    assert all((ROOT / "supabase" / path).is_file() for path in settings["db"]["seed"]["sql_paths"])
    seed = (ROOT / "supabase/seed.sql").read_text()
    example = "\n".join(
        line.removeprefix("-- ") for line in seed[seed.index("-- insert") :].splitlines() if line != "--"
    )
    insert, update, _ = example.split(";")
    transaction = db.transaction()
    await transaction.start()
    try:
        for _ in range(2):
            await db.execute(insert)
            assert tuple(await db.fetchrow(update) or ()) == ("FIRST_ACTIVITY", 1)
    finally:
        await transaction.rollback()


async def test_publishable_key_cannot_write(
    stack: StackInfo, http: httpx.AsyncClient, db: Database, new_user: NewUser
) -> None:
    """The publishable key, with or without a user's token, changes no streak: 401 and 403, and no row."""
    user = await new_user()
    anonymous = {"apikey": stack.publishable_key}
    signed_in = anonymous | {"authorization": f"Bearer {user_token(stack, user)}"}
    for headers, status in ((anonymous, 401), (signed_in, 403)):
        called = await http.post(UPDATE, headers=headers, json={"p_user_id": str(user)})
        inserted = await http.post("/rest/v1/user_streaks", headers=headers, json={"user_id": str(user)})
        assert (called.status_code, inserted.status_code) == (status, status)
        assert (called.json()["code"], inserted.json()["code"]) == ("42501", "42501")
    assert await db.fetchval("select count(*) from public.user_streaks where user_id = $1", user) == 0


async def test_official_client_calls_functions(stack: StackInfo, new_user: NewUser) -> None:
    """supabase-py with the secret key records an activity and reads the streak back."""
    user = await new_user()
    async with httpx.AsyncClient() as transport:
        options = AsyncClientOptions(httpx_client=transport, auto_refresh_token=False, persist_session=False)
        client = await acreate_client(stack.supabase_url, stack.secret_key, options)
        updated = await client.rpc("update_user_streak_atomic", {"p_user_id": str(user)}).execute()
        read = await client.rpc("get_user_streak", {"p_user_id": str(user)}).execute()
    assert isinstance(updated.data, list)
    assert isinstance(read.data, list)
    assert updated.data[0].items() >= {"success": True, "current_streak": 1, "change_type": "FIRST_ACTIVITY"}.items()
    assert read.data[0].items() >= {"current_streak": 1, "is_active_today": True}.items()


async def test_users_read_their_own_rows(stack: StackInfo, http: httpx.AsyncClient, new_user: NewUser) -> None:
    """A user's token with the publishable key shows that user's row and no other."""
    users = [await new_user(), await new_user()]
    for user in users:
        written = await http.post(UPDATE, headers={"apikey": stack.secret_key}, json={"p_user_id": str(user)})
        assert written.status_code == 200
    headers = {"apikey": stack.publishable_key, "authorization": f"Bearer {user_token(stack, users[0])}"}
    rows = (await http.get("/rest/v1/user_streaks?select=user_id", headers=headers)).json()
    assert rows == [{"user_id": str(users[0])}]


async def test_requests_change_no_right(stack: StackInfo, http: httpx.AsyncClient, db: Database) -> None:
    """Serving REST grants nothing: the rights on tables are those that the migrations left."""
    rights = "select relname, relacl::text from pg_class where relnamespace = 'public'::regnamespace order by relname"
    before = await db.fetch(rights)
    for key in (stack.publishable_key, stack.secret_key):
        await http.get("/rest/v1/user_streaks?limit=1", headers={"apikey": key})
    assert before
    assert await db.fetch(rights) == before
    assert not await db.fetchval("select has_table_privilege('authenticated', 'public.user_streaks', 'insert')")


async def test_signed_up_user_gets_a_working_token(stack: StackInfo, http: httpx.AsyncClient, db: Database) -> None:
    """Auth signs a user up with a token that carries the project's signature and opens REST as that user."""
    anonymous = {"apikey": stack.publishable_key}
    credentials = {"email": f"{uuid4()}@example.test", "password": "correct horse battery"}
    session = (await http.post("/auth/v1/signup", headers=anonymous, json=credentials)).json()
    claims = jwt.decode(session["access_token"], stack.jwt_secret, algorithms=["HS256"], audience="authenticated")
    try:
        headers = anonymous | {"authorization": f"Bearer {session['access_token']}"}
        read = await http.post("/rest/v1/rpc/get_user_streak", headers=headers, json={"p_user_id": claims["sub"]})
        assert (claims["role"], read.status_code) == ("authenticated", 200)
        assert (await http.get("/auth/v1/user", headers=headers)).json()["email"] == credentials["email"]
    finally:
        await db.execute("delete from auth.users where id = $1", UUID(claims["sub"]))


async def test_keys_are_published(http: httpx.AsyncClient) -> None:
    """The address of the verification keys answers without a key; a shared secret is not among them."""
    answer = await http.get("/auth/v1/.well-known/jwks.json")
    assert (answer.status_code, answer.json()) == (200, {"keys": []})


async def test_schema_reload(stack: StackInfo, http: httpx.AsyncClient, db: Database) -> None:
    """`notify pgrst` makes a function that is newer than the stack callable."""
    name = f"born_{uuid4().hex[:8]}"
    headers = {"apikey": stack.secret_key}
    assert (await http.post(f"/rest/v1/rpc/{name}", headers=headers, json={})).json()["code"] == "PGRST202"
    try:
        await db.execute(f"create function public.{name}() returns int language sql set search_path = '' as 'select 7'")
        await db.execute("notify pgrst, 'reload schema'")
        async with asyncio.timeout(20):
            while (await http.post(f"/rest/v1/rpc/{name}", headers=headers, json={})).status_code != 200:
                continue
        assert (await http.post(f"/rest/v1/rpc/{name}", headers=headers, json={})).json() == 7
    finally:
        await db.execute(f"drop function if exists public.{name}()")


async def test_realtime_answers_on_the_same_origin(stack: StackInfo, http: httpx.AsyncClient) -> None:
    """A websocket and a broadcast reach Realtime through the origin that serves REST."""
    url = stack.supabase_url.replace("http", "ws", 1)
    for path in ("/realtime/v1/websocket", "/socket/websocket"):
        async with connect(f"{url}{path}?apikey={stack.secret_key}&vsn=1.0.0", proxy=None) as socket:
            beat = {"topic": "phoenix", "event": "heartbeat", "payload": {}, "ref": "1"}
            await socket.send(json.dumps(beat))
            answer = json.loads(await socket.recv())
            assert (answer["event"], answer["payload"]["status"], answer["ref"]) == ("phx_reply", "ok", "1"), path
    messages = {"messages": [{"topic": "room", "event": "e", "payload": {}}]}
    sent = await http.post("/realtime/v1/api/broadcast", headers={"apikey": stack.secret_key}, json=messages)
    assert sent.status_code == 202
    assert (await http.post("/realtime/v1/api/broadcast", json=messages)).status_code == 401


async def test_database_settings(db: Database) -> None:
    """PostgreSQL 17 in UTC with logical decoding and room for 250 connections, as Supabase sets it up."""
    shown = {name: await db.fetchval(f"show {name}") for name in ("wal_level", "timezone", "max_connections")}
    assert (shown["wal_level"], shown["timezone"]) == ("logical", "UTC")
    assert int(shown["max_connections"]) >= 250
    assert await db.fetchval("select current_setting('server_version_num')::int / 10000") == 17


async def test_claims_reach_policies_either_way(db: Database) -> None:
    """`auth.uid()` and `auth.role()` read the JSON of all claims, as hosted projects set it, and single claims."""
    user = uuid4()
    for settings in (
        {"request.jwt.claims": json.dumps({"sub": str(user), "role": "authenticated"})},
        {"request.jwt.claim.sub": str(user), "request.jwt.claim.role": "authenticated"},
    ):
        async with db.transaction():
            for name, value in settings.items():
                await db.execute("select set_config($1, $2, true)", name, value)
            assert await db.fetchval("select auth.uid()") == user
            assert await db.fetchval("select auth.role()") == "authenticated"
    assert await db.fetchval("select num_nulls(auth.uid(), auth.role())") == 2
