"""Changes as subscribers see them: values, filters, rights, identities. PostgreSQL itself is the reference."""

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import asyncpg
import pytest

from local_supabase.realtime import RealtimeServer
from local_supabase.stack import StackInfo
from tests.support.realtime_client import Client, connect, token
from tests.support.realtime_database import PUBLISHABLE_KEY, database, server

ANN = "0f8fad5b-d9cb-469f-a165-70867728950e"
BEN = "7c9e6679-7425-40de-944b-e07fc1f90ae7"

TABLES = """
create type mood as enum ('sad', 'fine');
create type pair as (a int, b text);
create domain score as int check (value >= 0);
create table notes (id int primary key, owner uuid, body text, secret text, n numeric, m mood, day date);
alter publication supabase_realtime add table notes;
create table runs (id int primary key, owner uuid, score int);
alter table runs enable row level security;
create policy own on runs for select to authenticated using (auth.uid() = owner);
alter publication supabase_realtime add table runs;
create table pages (owner uuid, at int, body text, primary key (owner, at));
alter table pages replica identity full;
alter publication supabase_realtime add table pages;
create table late (id int primary key);
"""


@pytest.fixture(scope="module")
def url(stack: StackInfo) -> Iterator[str]:
    """A database with tables of many kinds."""
    with database(stack.database_url, TABLES) as own:
        yield own


@pytest.fixture
async def sql(url: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """A connection to the test's database; its tables are empty."""
    connection = await asyncpg.connect(url, server_settings={"timezone": "UTC"})
    await connection.execute("truncate notes, runs, pages, late")
    yield connection
    await connection.close()


@pytest.fixture
async def realtime(url: str, sql: object) -> AsyncIterator[RealtimeServer]:
    """A server of the test's own."""
    assert sql is not None
    async with server(url) as running:
        yield running


@pytest.fixture
async def service(realtime: RealtimeServer) -> AsyncIterator[Client]:
    """A socket of service_role."""
    async with connect(realtime) as client:
        yield client


def on(table: str, **more: Any) -> dict[str, Any]:
    """A binding."""
    return {"event": "*", "schema": "public", "table": table, **more}


# Literals of each type whose encoding is easy to get wrong.
VALUES = {
    "bool": ["true", "false"],
    "int2": ["-32768"],
    "int8": ["9223372036854775807"],
    "float4": ["1e-7", "-0", "123456.7"],
    "float8": ["1e22", "1.7976931348623157e308", "5e-324", "0.1"],
    "numeric": ["1.500", "-0.000", "12345678901234567890.123456789"],
    "text": ["", " ", 'ü"\\\u0001\n\u2028\U0001f3c1', "NaN"],
    "varchar": ["null"],
    "char(4)": ["ab"],
    '"char"': ["x"],
    "name": ["a name"],
    "uuid": [ANN],
    "date": ["2024-02-29", "infinity", "0044-03-15 BC", "12345-01-01"],
    "time": ["24:00", "03:04:05.000001"],
    "timetz": ["03:04:05+05:30"],
    "timestamp": ["2026-01-02 03:04:05", "-infinity", "0044-03-15 01:02:03 BC"],
    "timestamptz": ["2026-01-02 03:04:05.10+05:45", "infinity", "0044-03-15 01:02:03+00 BC", "12345-01-01 00:00+00"],
    "interval": ["-1 day +02:03:04.5", "1 year 2 mons"],
    "json": ['{"b": 1.0, "a": [1e2, "\\u00fc"], "b": 2}', "null", '"x"'],
    "jsonb": ['{"b": 1.0, "a": [1e2, "\\u00fc"]}', "null"],
    "int4[]": ["{}", "{1,null,-3}", "{{1,2},{3,4}}", "[0:1]={5,6}"],
    "float8[]": ["{NaN,Infinity,1e300}"],
    "text[]": ['{"a,b",null,"q\\"z"}'],
    "timestamptz[]": ["{2026-01-02 03:04:05+02}"],
    "mood": ["fine"],
    "mood[]": ["{sad,fine}"],
    "pair": ['(1,"x y")'],
    "score": ["7"],
    "int4range": ["[1,5)"],
    "inet": ["10.0.0.1/8"],
    "point": ["(1,2)"],
    "oid": ["4000000000"],
    "money": ["12.50"],
    "bit(3)": ["101"],
    "tsvector": ["a:1 fat:2"],
    "xml": ["<a>1</a>"],
}


async def test_values_are_those_of_to_jsonb(service: Client, sql: Any) -> None:
    """A value of any type arrives as PostgreSQL's `to_jsonb` writes it in UTC."""
    columns = [(f"c{at}", kind, text) for at, (kind, text) in enumerate((k, t) for k, ts in VALUES.items() for t in ts)]
    await sql.execute(f"create table kinds (id int primary key, {', '.join(f'{c} {kind}' for c, kind, _ in columns)})")
    await sql.execute("alter publication supabase_realtime add table kinds")
    try:
        await service.join("realtime:kinds", on("kinds"))
        await sql.execute(
            f"insert into kinds select 1, {', '.join(f'${at + 1}::text::{k}' for at, (_, k, _) in enumerate(columns))}",
            *(text for _, _, text in columns),
        )
        record = (await service.change())["record"]
        expected = json.loads(await sql.fetchval("select to_jsonb(kinds)::text from kinds"), parse_float=str)
        assert record == expected
    finally:
        await sql.execute("drop table kinds")


async def test_what_json_has_no_number_for_is_null(service: Client, sql: Any) -> None:
    """NaN and the infinities arrive as null, and bytes as hexadecimal digits without a prefix."""
    await sql.execute("create table odd (id int primary key, f float4, g float8, n numeric, o numeric, b bytea)")
    await sql.execute("alter publication supabase_realtime add table odd")
    try:
        await service.join("realtime:odd", on("odd"))
        await sql.execute("insert into odd values (1, 'NaN', '-Infinity', 'NaN', 'Infinity', '\\x00ff')")
        assert (await service.change())["record"] == {"id": 1, "f": None, "g": None, "n": None, "o": None, "b": "00ff"}
    finally:
        await sql.execute("drop table odd")


FILTERS = {
    "id=eq.2": "id = 2",
    "id=neq.2": "id <> 2",
    "id=lt.3": "id < 3",
    "id=lte.3": "id <= 3",
    "id=gt.2": "id > 2",
    "id=gte.2,id=lt.4": "id >= 2 and id < 4",
    "id=in.(1,3,99)": "id in (1, 3)",
    "n=eq.1.0": "n = 1.0",
    "n=gt.9": "n > 9",
    'body=eq."a, b"': "body = 'a, b'",
    'body=in.("a, b",zz)': "body in ('a, b', 'zz')",
    "body=gt.a": "body > 'a'",
    "body=like.%b": "body like '%b'",
    "body=not.ilike.A%": "not (body ilike 'A%')",
    "body=match.^z+$": "body ~ '^z+$'",
    "body=is.null": "body is null",
    "body=not.is.null": "body is not null",
    "body=isdistinct.zz": "body is distinct from 'zz'",
    "body=neq.zz": "body <> 'zz'",
    "m=gt.sad": "m > 'sad'",
    "day=gte.2026-01-02": "day >= '2026-01-02'",
    "day=eq.2026-1-2": "day = '2026-01-02'",
    f"owner=eq.{ANN.upper()}": f"owner = '{ANN}'",
    f"owner=not.in.({ANN})": f"not owner = any('{{{ANN}}}')",
}
ROWS = f"""
insert into notes (id, owner, body, n, m, day) values
  (1, '{ANN}', 'a, b', 1.00, 'sad', '2026-01-01'), (2, '{BEN}', 'zz', 10, 'fine', '2026-01-02'),
  (3, '{ANN}', null, null, null, null), (4, null, 'Ab', 9.5, 'fine', '2027-01-01')
"""  # noqa: S608  (values of this test)


async def test_filters_mean_what_they_mean_in_sql(service: Client, sql: Any) -> None:
    """Each operator lets exactly those rows through for which PostgreSQL says so."""
    for at, text in enumerate(FILTERS):
        await service.join(f"realtime:{at}", on("notes", filter=text))
    await service.join("realtime:end", {"event": "UPDATE", "schema": "public", "table": "notes"})
    await sql.execute(ROWS)
    await sql.execute("update notes set secret = '' where id = 1")
    heard: dict[str, list[int]] = {text: [] for text in FILTERS}
    while True:
        frame = await service.receive()
        data = frame["payload"]["data"]
        if data["type"] == "UPDATE":
            break
        heard[list(FILTERS)[int(frame["topic"].removeprefix("realtime:"))]].append(data["record"]["id"])
    expected = {
        text: [row[0] for row in await sql.fetch(f"select id from notes where {condition} order by id")]  # noqa: S608  (conditions of this test)
        for text, condition in FILTERS.items()
    }
    assert heard == expected


REFUSED = {
    "body=is.true": "is true filter requires a boolean column, got text",
    "id=like.1": "operator like requires a text-compatible column type, got integer",
    "id=in.(" + ",".join(map(str, range(101))) + ")": "too many values for `in` filter. Maximum 100",
    "body=match.(": "invalid regular expression for match filter",
    "id=eq.x": 'ERROR 22P02 (invalid_text_representation) invalid input syntax for type integer: "x"',
    "id=eq.1,": "filter must not contain empty segments",
    "id=in.1": "`in` filter value must be wrapped by parentheses",
}


@pytest.mark.parametrize("text", REFUSED)
async def test_filters_that_fit_no_column_are_refused_with_the_reason(service: Client, text: str) -> None:
    """A filter that the column's type cannot serve ends the subscription with a message that says why."""
    await service.join("realtime:x", on("notes", filter=text), wait=False)
    assert REFUSED[text] in await service.system()


async def test_a_signed_in_user_hears_of_rows_only_while_policies_show_them(
    realtime: RealtimeServer, sql: Any, service: Client
) -> None:
    """A row that changes hands is heard of by its new owner, no more by the old one, and by service_role throughout."""
    await service.join("realtime:all", on("runs"))
    async with connect(realtime, key=PUBLISHABLE_KEY) as ann, connect(realtime, key=PUBLISHABLE_KEY) as ben:
        await ann.join("realtime:runs", on("runs"), access_token=token("authenticated", ANN))
        await ben.join("realtime:runs", on("runs"), access_token=token("authenticated", BEN))
        await sql.execute("insert into runs values (1, $1, 10)", ANN)
        assert (await ann.change())["record"]["score"] == 10
        assert (await service.change())["record"]["score"] == 10
        await sql.execute("update runs set owner = $1, score = 11", BEN)
        assert (await ben.change())["record"]["score"] == 11
        assert (await service.change())["type"] == "UPDATE"
        assert await ann.alive()
        await sql.execute("delete from runs")
        assert [(await client.change())["old_record"] for client in (ann, ben)] == [{"id": 1}, {"id": 1}]
        assert await ben.alive()


async def test_a_policy_that_fails_shows_nothing_and_harms_nobody(
    realtime: RealtimeServer, sql: Any, service: Client
) -> None:
    """A policy that raises for one subscriber hides the row from that one; others go on hearing."""
    condition = f"1 / (case auth.uid() when '{BEN}' then 0 else 1 end) > 0"
    await sql.execute(f"create policy broken on runs for select to authenticated using ({condition})")
    try:
        await service.join("realtime:all", on("runs"))
        async with connect(realtime, key=PUBLISHABLE_KEY) as ann, connect(realtime, key=PUBLISHABLE_KEY) as ben:
            await ben.join("realtime:runs", on("runs"), access_token=token("authenticated", BEN))
            await ann.join("realtime:runs", on("runs"), access_token=token("authenticated", ANN))
            await sql.execute("insert into runs values (1, $1, 13)", ANN)
            assert (await service.change())["record"]["id"] == 1
            assert (await ann.change())["record"]["id"] == 1
            assert await ben.alive()
    finally:
        await sql.execute("drop policy broken on runs")


async def test_columns_without_privilege_stay_hidden(realtime: RealtimeServer, sql: Any) -> None:
    """A role sees neither value nor name of a column that it may not read, and cannot filter on it."""
    await sql.execute("revoke all on notes from anon; grant select (id, body) on notes to anon")
    try:
        async with connect(realtime, key=PUBLISHABLE_KEY) as client:
            await client.join("realtime:notes", on("notes"))
            await sql.execute("insert into notes (id, body, secret) values (1, 'open', 'hidden')")
            change = await client.change()
            assert change["record"] == {"id": 1, "body": "open"}
            assert [column["name"] for column in change["columns"]] == ["id", "body"]
            await client.join("realtime:spy", on("notes", filter="secret=eq.hidden"), wait=False, join_ref="2")
            assert "invalid column for filter secret" in await client.system()
    finally:
        await sql.execute("grant all on notes to anon")


async def test_select_narrows_the_columns_to_those_asked_for_and_the_key(service: Client, sql: Any) -> None:
    """`select` leaves the named columns and the primary key, also in the old row."""
    await service.join("realtime:notes", on("notes", select=["body"]))
    await sql.execute("insert into notes (id, body, secret) values (1, 'x', 'y')")
    change = await service.change()
    assert change["record"] == {"id": 1, "body": "x"}
    assert [column["name"] for column in change["columns"]] == ["id", "body"]


async def test_the_old_row_is_what_the_replica_identity_knows(service: Client, sql: Any) -> None:
    """By default the old row is the key as it was; with identity FULL it is the whole row, also of deleted rows."""
    await service.join("realtime:all", on("notes"), on("pages"))
    await sql.execute("insert into notes (id, body) values (1, 'x')")
    await sql.execute("insert into pages values ($1, 1, 'x')", ANN)
    await sql.execute("update notes set id = 5, body = 'y'")
    await sql.execute("update pages set body = 'y'")
    await sql.execute("delete from notes")
    await sql.execute("delete from pages")
    changes = [await service.change() for _ in range(6)]
    key = {"owner": ANN, "at": 1}
    assert [change.get("old_record") for change in changes] == [
        None,
        None,
        {"id": 1},
        {**key, "body": "x"},
        {"id": 5},
        {**key, "body": "y"},
    ]


async def test_a_large_value_left_alone_comes_from_the_old_row_where_that_is_known(service: Client, sql: Any) -> None:
    """With identity FULL, a record is complete although PostgreSQL does not log unchanged large values again."""
    await service.join("realtime:pages", on("pages"))
    large = await sql.fetchval("select string_agg(md5(i::text), '') from generate_series(1, 500) i")
    await sql.execute("insert into pages values ($1, 1, $2)", ANN, large)
    await sql.execute("update pages set at = 2")
    await service.change()
    change = await service.change()
    assert change["record"] == {"owner": ANN, "at": 2, "body": large}


async def test_a_table_that_joins_the_publication_is_noticed(service: Client, sql: Any) -> None:
    """A subscriber of a whole schema is subscribed anew, with a frame that says so, when a table is published."""
    await service.join("realtime:all", {"event": "*", "schema": "public"})
    await sql.execute("alter publication supabase_realtime add table late")
    try:
        assert await service.system() == "Subscribed to PostgreSQL"
        await sql.execute("insert into late values (1)")
        assert (await service.change())["table"] == "late"
    finally:
        await sql.execute("alter publication supabase_realtime drop table late")


async def test_one_transaction_of_many_rows_arrives_whole_and_in_order(service: Client, sql: Any) -> None:
    """Thousands of changes of several tables in one transaction come in the order in which they were made."""
    await service.join("realtime:all", on("notes"), on("runs"))
    async with sql.transaction():
        await sql.execute("insert into notes (id) select generate_series(1, 1000)")
        await sql.execute("insert into runs (id, score) select i, i from generate_series(1, 1000) i")
        await sql.execute("update notes set body = 'x'")
    heard = [
        (change["table"], change["type"], change["record"]["id"])
        for change in [await service.change() for _ in range(3000)]
    ]
    ids = range(1, 1001)
    assert heard == [(*kind, i) for kind in (("notes", "INSERT"), ("runs", "INSERT"), ("notes", "UPDATE")) for i in ids]


async def test_versions_share_a_topic_each_in_its_own_form(realtime: RealtimeServer, service: Client, sql: Any) -> None:
    """A version 1 and a version 2 socket on one topic hear the same changes, each in frames of its version."""
    async with connect(realtime, vsn="2.0.0") as other:
        await service.join("realtime:notes", on("notes"))
        await other.join("realtime:notes", on("notes"))
        await sql.execute("insert into notes (id) values (1)")
        one, two = await service.receive(), await other.receive()
        assert "join_ref" not in one
        assert "join_ref" in two
        assert one["payload"] == two["payload"]
