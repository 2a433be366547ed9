"""How many changes a second the stand-in for Realtime delivers, how long each takes, and what idling costs.

    python -m tests.benchmarks.realtime_changes postgresql://postgres@127.0.0.1:5432/postgres

The database's cluster needs `wal_level = logical` and the roles anon, authenticated and service_role. Compare figures
of one machine and one run with each other only.
"""

import asyncio
import json
import resource
import statistics
import sys
import time
from typing import Any, Final

import aiohttp
import asyncpg
import jwt

from tests.support.realtime_database import SECRET_KEY, database, server
from tests.support.realtime_replay import SECRET

ROWS: Final = 20_000
COMMITS: Final = 2_000
SAMPLES: Final = 200
USERS: Final = 50
IDLE_SECONDS: Final = 10

_INSERT: Final = """
insert into user_streaks
select md5(i::text)::uuid, 1, 1, '2026-01-02', 'Europe/Berlin', 1, now() from generate_series(1, $1::int) i
"""


def say(text: str) -> None:
    """Print a result."""
    sys.stdout.write(text + "\n")


async def subscribe(session: aiohttp.ClientSession, port: int, token: str) -> aiohttp.ClientWebSocketResponse:
    """Open a socket and wait until changes flow."""
    url = f"http://127.0.0.1:{port}/realtime/v1/websocket"
    ws = await session.ws_connect(url, params={"apikey": SECRET_KEY}, max_msg_size=0)
    config = {"postgres_changes": [{"event": "*", "schema": "public", "table": "user_streaks"}]}
    payload = {"config": config, "access_token": token}
    join = {"topic": "realtime:bench", "event": "phx_join", "payload": payload, "ref": "1", "join_ref": "1"}
    await ws.send_json(join)
    while "Subscribed" not in await ws.receive_str():
        continue
    return ws


async def count(ws: aiohttp.ClientWebSocketResponse, expected: int) -> None:
    """Wait for a number of changes."""
    for _ in range(expected):
        await ws.receive_str()


async def bulk(db: Any, ws: aiohttp.ClientWebSocketResponse) -> None:
    """One statement, many rows."""
    for name, statement, arguments in (
        ("insert", _INSERT, (ROWS,)),
        ("update", "update user_streaks set version = version + 1", ()),
        ("delete", "delete from user_streaks", ()),
    ):
        started = time.perf_counter()
        await db.execute(statement, *arguments)
        committed = time.perf_counter()
        await count(ws, ROWS)
        say(f"bulk {name}: {ROWS / (time.perf_counter() - committed):,.0f} changes/s after commit")
        say(f"             ({committed - started:.2f} s for the statement itself)")


async def commits(db: Any, ws: aiohttp.ClientWebSocketResponse) -> None:
    """One commit for each row."""
    await db.execute(_INSERT, COMMITS)
    await count(ws, COMMITS)
    update = await db.prepare("update user_streaks set version = version + 1 where user_id = md5($1::int::text)::uuid")
    started = time.perf_counter()
    receiver = asyncio.create_task(count(ws, COMMITS))
    for i in range(COMMITS):
        await update.fetch(i + 1)
    written = time.perf_counter() - started
    await receiver
    total = time.perf_counter() - started
    say(f"single commits: {COMMITS / total:,.0f} changes/s delivered while {COMMITS / written:,.0f}/s are written")


async def latency(db: Any, ws: aiohttp.ClientWebSocketResponse) -> None:
    """From the commit's return to the frame, one at a time, with pauses."""
    samples = []
    for i in range(SAMPLES):
        await asyncio.sleep(0.02)
        started = time.perf_counter()
        await db.execute("update user_streaks set version = version + 1 where user_id = md5($1)::uuid", str(i + 1))
        await ws.receive_str()
        samples.append((time.perf_counter() - started) * 1000)
    samples.sort()
    say(f"statement to frame: median {statistics.median(samples):.1f} ms, p95 {samples[int(SAMPLES * 0.95)]:.1f} ms")


async def users(db: Any, session: aiohttp.ClientSession, port: int) -> None:
    """Signed-in subscribers, each seeing one row."""
    ids = [row[0] for row in await db.fetch("select user_id from user_streaks order by 1 limit $1", USERS)]
    claims = {"role": "authenticated", "exp": int(time.time()) + 600}
    sockets = [await subscribe(session, port, jwt.encode(claims | {"sub": str(user)}, SECRET, "HS256")) for user in ids]
    started = time.perf_counter()
    for _ in range(10):
        await db.execute("update user_streaks set version = version + 1 where user_id = any($1)", ids)
    await asyncio.gather(*(count(ws, 10) for ws in sockets))
    say(f"{USERS} signed-in users: {USERS * 10 / (time.perf_counter() - started):,.0f} deliveries/s under RLS")
    for ws in sockets:
        await ws.close()


async def main(url: str) -> None:
    """Run all measurements."""
    db = await asyncpg.connect(url)
    async with server(url, poll_interval=0.005) as running, aiohttp.ClientSession() as session:
        token = jwt.encode({"role": "service_role", "exp": int(time.time()) + 600}, SECRET, "HS256")
        ws = await subscribe(session, running.port, token)
        await bulk(db, ws)
        await commits(db, ws)
        await latency(db, ws)
        await ws.close()
        await users(db, session, running.port)
        before = resource.getrusage(resource.RUSAGE_SELF)
        await asyncio.sleep(IDLE_SECONDS)
        after = resource.getrusage(resource.RUSAGE_SELF)
        used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        say(f"idle: {used / IDLE_SECONDS * 100:.1f} % of a core in this process")
        say(json.dumps(await running.fault("stats")))
    await db.close()


if __name__ == "__main__":
    with database(sys.argv[1]) as own:
        asyncio.run(main(own))
