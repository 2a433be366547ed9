"""Replays a captured conversation with a real Realtime server against the stand-in, and compares the answers.

The client's frames and the SQL of a transcript are played as they were; each frame that the server sent then must come
again: the same in every field, except ids (equal where the captured ones are equal), instants, and tokens.
"""

import ast
import asyncio
import json
import re
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import aiohttp
import asyncpg
import jwt

from local_supabase.realtime import RealtimeServer

__all__ = ["SECRET", "Replay", "load", "recorded_deletes", "rename"]

SECRET: Final = "a-secret-for-the-tests-of-realtime-only"  # noqa: S105  (of a database that the test makes)
WAIT: Final = 10.0
_TOKEN: Final = re.compile(r"<JWT ([^>]*)>")
_SECONDS_AGO: Final = re.compile(r"\d+ seconds ago")
_INSTANT: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?\+00:00")
_COMMITTED: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
_MARKER: Final = "contract_marker"
_LIFE_OF_SHORT_TOKEN: Final = 1  # second, from the next full one


def load(path: Path) -> list[dict[str, Any]]:
    """Read a transcript."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def rename(lines: Iterable[dict[str, Any]], names: dict[str, str]) -> list[dict[str, Any]]:
    """Return a transcript with other names and values, as if another database had been captured."""
    pattern = re.compile("|".join(re.escape(name) for name in sorted(names, key=len, reverse=True)))
    return [
        {
            key: pattern.sub(lambda match: names[match[0]], value) if key in ("raw", "text") else value
            for key, value in line.items()
        }
        for line in lines
    ]


def _parts(raw: str) -> tuple[int, Any, Any, str, str, Any]:
    """Return a frame of either version as version, join_ref, ref, topic, event and payload."""
    frame = json.loads(raw, parse_float=str)  # 1.50 is not 1.5 here
    if isinstance(frame, list):
        return (2, *frame)
    assert set(frame) == {"ref", "event", "topic", "payload"}
    return (1, None, frame["ref"], frame["topic"], frame["event"], frame["payload"])


def recorded_deletes(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows (old_record) whose deletion the transcript shows, but not its SQL: that came before."""
    to_milliseconds = len("2026-01-02T03:04:05.678")
    begin = lines[0]["t"][:to_milliseconds]
    rows: dict[str, dict[str, Any]] = {}
    for line in lines:
        if line["dir"] == "recv" and '"postgres_changes' in line["raw"]:
            payload = _parts(line["raw"])[5]
            data = payload.get("data", {})
            if data.get("type") == "DELETE" and data["commit_timestamp"][:to_milliseconds] <= begin:
                rows[json.dumps(data["old_record"])] = data["old_record"]
    return list(rows.values())


class _Ids:
    """The pairing of captured ids with ours: one to one."""

    def __init__(self) -> None:
        self._ours: dict[int, int] = {}

    def same(self, captured: int, ours: int) -> bool:
        assert ours > 0, "id 0 never matches in the official clients"
        if captured not in self._ours and ours in self._ours.values():
            return False
        return self._ours.setdefault(captured, ours) == ours


def _comparable(raw: str, *, any_version: bool) -> tuple[Any, list[int]]:
    """Return a frame without what may differ, and its ids."""
    version, join_ref, ref, topic, event, payload = _parts(raw)
    ids: list[int] = []
    if event == "phx_reply":
        bindings = payload["response"].get("postgres_changes", [])
        ids = [binding.pop("id") for binding in bindings]
    elif event == "postgres_changes":
        ids = sorted(payload.pop("ids"))
        committed = payload["data"]["commit_timestamp"]
        if committed is not None and _COMMITTED.fullmatch(committed):
            payload["data"]["commit_timestamp"] = "<committed>"
    head: tuple[Any, ...] = (topic, event) if any_version else (version, join_ref, ref, topic, event)
    return (*head, _without_instants(payload)), ids


def _without_instants(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: "<ref>" if key == "phx_ref" else _without_instants(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_instants(item) for item in value]
    if isinstance(value, str):
        # What now() wrote differs from run to run; instants that the transcript sets itself must come back as they are.
        value = _SECONDS_AGO.sub("<n> seconds ago", value)
        return (
            "<instant>" if _INSTANT.fullmatch(value) and "03:04:05" not in value and "01:04:05" not in value else value
        )
    return value


class Replay:
    """One transcript, played against one server.

    Args:
        lines: The transcript.
        server: The stand-in, started with faults.
        database: A connection for the transcript's SQL; the table `contract_marker` is published in it.
        any_version: Do not compare the form of frames, only their content.
        subjects: The `sub` of tokens by its first eight characters.
    """

    def __init__(
        self,
        lines: list[dict[str, Any]],
        server: RealtimeServer,
        database: "asyncpg.Connection[asyncpg.Record]",
        *,
        subjects: dict[str, str],
        any_version: bool = False,
    ) -> None:
        self._lines = lines
        self._server = server
        self._database = database
        self._any_version = any_version
        self._subjects = subjects
        self._ids = _Ids()
        self._note = ""
        self._tokens = 0
        self._held = False
        self._sockets: dict[str, aiohttp.ClientWebSocketResponse] = {}
        self._control: aiohttp.ClientWebSocketResponse | None = None
        self._stop: asyncio.Task[None] | None = None
        self.compared = 0

    async def run(self) -> None:
        """Play the transcript to its end; fails at the first difference."""
        async with aiohttp.ClientSession() as session:
            self._session = session
            await self._open_control()
            await self._empty_tables()
            if deleted := recorded_deletes(self._lines):
                await self._delete_before(deleted)
            for lines in self._steps():
                await self._step(lines)
            if self._stop is not None:
                await self._stop

    async def _delete_before(self, rows: list[dict[str, Any]]) -> None:
        frames = (line["raw"] for line in self._lines if "DELETE" in line.get("raw", ""))
        table = _parts(next(frames))[5]["data"]["table"]
        for row in rows:
            name, value = next(iter(row.items()))
            await self._database.execute(f"insert into {table} ({name}) values ($1)", value)  # noqa: S608  (names of the transcript)
        await self._hold()
        await self._release()
        await self._hold()
        await self._database.execute(f"delete from {table}")  # noqa: S608  (a name of the transcript)

    def _steps(self) -> Iterator[list[dict[str, Any]]]:
        """Yield the lines one by one, but together neighbouring SQL, and the frames of one change on one socket."""
        group: list[dict[str, Any]] = []
        for line in self._lines:
            if line["dir"] == "note" and group and group[-1]["dir"] == "sql" and "SIGTERM" not in line["text"]:
                continue
            if group and not self._together(group[-1], line):
                yield group
                group = []
            group.append(line)
        yield group

    def _together(self, before: dict[str, Any], line: dict[str, Any]) -> bool:
        if before["dir"] != line["dir"] or line["dir"] not in ("sql", "recv"):
            return False
        if line["dir"] == "sql":
            return True
        change = self._change(line)
        return before["conn"] == line["conn"] and change is not None and change == self._change(before)

    def _change(self, line: dict[str, Any]) -> str | None:
        _, _, _, _, event, payload = _parts(line["raw"])
        return json.dumps(payload["data"], sort_keys=True) if event == "postgres_changes" else None

    async def _step(self, lines: list[dict[str, Any]]) -> None:
        line = lines[0]
        match line["dir"]:
            case "note":
                self._note = line["text"]
                if line["text"].startswith("SIGTERM"):
                    self._stop = asyncio.create_task(self._server.stop())
            case "connect":
                await self._connect(line)
            case "http_reject" | "connect_error":
                self._check_rejection(line)
            case "send":
                await self._sockets[line["conn"]].send_str(self._with_tokens(line["raw"]))
            case "sql":
                await self._execute(lines)
            case "recv":
                await self._receive(lines)
            case "close":
                await self._close(line)

    def _with_tokens(self, text: str) -> str:
        return _TOKEN.sub(lambda match: self._token(match[1]), text)

    def _token(self, label: str) -> str:
        """Mint the token that a placeholder stands for; each is another one, as after a refresh."""
        self._tokens += 1
        kind = self._note.rsplit(" ", 1)[-1]
        role, *rest = label.split(":")
        claims: dict[str, Any] = {"role": role, "exp": int(time.time()) + 3600, "jti": str(self._tokens)}
        if role == "?":
            del claims["role"]
        if kind == "noexp" and role == "anon":
            del claims["exp"]
        for part in rest:
            if part == "expired":
                claims["exp"] = int(time.time()) - 3
            else:
                claims["sub"] = self._subjects[part]
        if self._expires_soon() and rest:
            claims["exp"] = int(time.time()) + 1 + _LIFE_OF_SHORT_TOKEN
        return jwt.encode(claims, SECRET + ("!" if kind == "badsig" and role == "service_role" else ""), "HS256")

    def _expires_soon(self) -> bool:
        """Whether the transcript is the one in which a token runs out by itself."""
        return any("expired 0 seconds ago" in line.get("raw", "") for line in self._lines)

    async def _connect(self, line: dict[str, Any]) -> None:
        if not self._sockets and not self._held and any(line["dir"] == "sql" for line in self._lines):
            await self._empty_tables()
        url = urlsplit(line["text"].split("  ")[0])
        query = {name: values[0] for name, values in parse_qs(url.query, keep_blank_values=True).items()}
        query = {name: self._with_tokens(value) for name, value in query.items()}
        headers = {"x-api-key": self._token("anon")} if line["conn"] == "hdr" else {}
        address = f"http://127.0.0.1:{self._server.port}{url.path}"
        self._rejection: tuple[int, str] | None = None
        try:
            socket = await self._session.ws_connect(
                address, params=query, headers=headers, autoping=False, max_msg_size=0
            )
        except aiohttp.WSServerHandshakeError:
            async with self._session.get(address, params=query, headers=headers) as response:
                self._rejection = response.status, await response.text()
        else:
            self._sockets[line["conn"]] = socket

    async def _empty_tables(self) -> None:
        """Begin each conversation of a transcript with empty tables, as its recorder did."""
        names = "select quote_ident(tablename) from pg_tables where schemaname = 'public' and tablename <> $1"
        for (name,) in await self._database.fetch(names, _MARKER):
            await self._database.execute(f"truncate {name}")

    def _check_rejection(self, line: dict[str, Any]) -> None:
        status = int(re.search(r"\b(401|403|404)\b", line["text"])[0])  # type: ignore[index]
        body = line.get("body")
        if body is None:
            body = re.search(r"bytearray\(b'(.*?)'\)", line["text"])[1]  # type: ignore[index]
        assert self._rejection is not None, f"{line['conn']} was let in"
        assert self._rejection[0] == status
        assert (json.loads(self._rejection[1]) if body else self._rejection[1]) == (json.loads(body) if body else "")
        self.compared += 1

    async def _execute(self, lines: list[dict[str, Any]]) -> None:
        """Run SQL while the server looks at no change: then it finds what the captured server found when it polled."""
        await self._hold()
        for line in lines:
            statement, _, arguments = line["text"].partition(" -- (")
            if arguments:
                values = ast.literal_eval("(" + arguments)
                for value in values:
                    statement = statement.replace("%s", f"'{value}'" if isinstance(value, str) else str(value), 1)
            await self._database.execute(statement)
        await self._release()

    async def _hold(self) -> None:
        if not self._held:
            self._held = True
            await self._server.fault("hold_changes")

    async def _release(self) -> None:
        """Let the server deliver, and wait until it has delivered everything committed so far."""
        if not self._held:
            return
        self._held = False
        await self._database.execute(f"insert into {_MARKER} default values")
        await self._server.fault("hold_changes", seconds=0)
        assert self._control is not None
        while '"postgres_changes"' not in await asyncio.wait_for(self._control.receive_str(), WAIT):
            continue

    async def _receive(self, lines: list[dict[str, Any]]) -> None:
        if _parts(lines[0]["raw"])[4] == "postgres_changes":
            await self._release()
        expected = [_comparable(line["raw"], any_version=self._any_version) for line in lines]
        socket_name = lines[0]["conn"]
        socket = self._sockets[socket_name]
        for _ in lines:
            raw = await asyncio.wait_for(socket.receive_str(), WAIT)
            frame, ids = _comparable(raw, any_version=self._any_version)
            # One change goes to several topics in no particular order.
            at = next((i for i, (wanted, _) in enumerate(expected) if wanted == frame), 0)
            wanted, captured = expected.pop(at)
            assert frame == wanted, f"{socket_name}: expected {wanted}, not {frame}"
            assert len(ids) == len(captured)
            assert _ids_match(self._ids, captured, ids), (captured, ids)
            self.compared += 1

    async def _close(self, line: dict[str, Any]) -> None:
        socket = self._sockets.pop(line["conn"])
        code = int(re.search(r"code=(\d+)", line["text"])[1])  # type: ignore[index]
        if code == aiohttp.WSCloseCode.OK:
            await self._nothing_more(socket)
            await socket.close()
        else:
            message = await asyncio.wait_for(socket.receive(), WAIT)
            assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, code)
        self.compared += 1

    async def _nothing_more(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        """Check that the server has sent nothing that the transcript does not have, and still answers."""
        version_2 = "vsn=2.0.0" in str(socket._response.url)  # noqa: SLF001  (aiohttp has no other way to ask)
        probe: list[Any] = [None, "probe", "phoenix", "heartbeat", {}]
        frame = {"topic": "phoenix", "event": "heartbeat", "payload": {}, "ref": "probe"}
        await socket.send_str(json.dumps(probe if version_2 else frame))
        _, _, ref, topic, event, _ = _parts(await asyncio.wait_for(socket.receive_str(), WAIT))
        assert (ref, topic, event) == ("probe", "phoenix", "phx_reply")

    async def _open_control(self) -> None:
        """Subscribe to the marker table on a socket of its own."""
        token = self._token("service_role")
        url = f"http://127.0.0.1:{self._server.port}/socket/websocket"
        self._control = await self._session.ws_connect(url, params={"apikey": token})
        config = {"postgres_changes": [{"event": "*", "schema": "public", "table": _MARKER}]}
        join = {
            "topic": "realtime:marker",
            "event": "phx_join",
            "payload": {"config": config},
            "ref": "1",
            "join_ref": "1",
        }
        await self._control.send_str(json.dumps(join))
        for _ in range(2):
            await asyncio.wait_for(self._control.receive_str(), WAIT)


def _ids_match(ids: _Ids, captured: list[int], ours: list[int]) -> bool:
    """Whether ids pair one to one; in a change's frame their order is free."""
    remaining = list(ours)
    for one in captured:
        match = next((other for other in remaining if ids.same(one, other)), None)
        if match is None:
            return False
        remaining.remove(match)
    return True
