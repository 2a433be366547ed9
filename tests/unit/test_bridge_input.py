"""Bad input to the bridge's surfaces, over a real server: each is refused by its name."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
import pytest_asyncio
import websockets
from pydantic import SecretStr

from realtime_bridge import BridgeSettings, serve

pytestmark = pytest.mark.asyncio(loop_scope="module")

KEY = "sb_secret_unit"
USER = "0b5e7a70-0000-4000-8000-000000000001"
STREAMS = ("/events", "/ws")

STRANGE = ["", "NaN", "inf", "-1", "1_0", "٣", "\x00", "1\n", "[]", "9" * 5000]
NO_USER = [*STRANGE, USER[:-1], USER + "0", "{}", "1_" * 16, "１" * 32, " " * 31 + "1", USER + "\n"]  # noqa: RUF001
NO_ID = ["", ":", ":1", "e:", "e:-1", "e:1.0", "e:٣", "e:1 ", f"e:{'9' * 5000}", "\x00:1", "é:1", "1"]

#: Paths, the parameter, and values of which none is good.
WRONG: list[tuple[tuple[str, ...], str, list[str]]] = [
    (STREAMS, "debounce", [*STRANGE, "3601"]),
    (STREAMS, "max_wait", [*STRANGE, "3601", "1"]),
    (STREAMS, "top", [*STRANGE, "0", "1001", "1.0"]),
    (STREAMS, "since", NO_ID),
    ((*STREAMS, "/snapshot", "/dashboard/user"), "user_id", NO_USER),
    (("/snapshot",), "limit", [*STRANGE, "0", "1001", "1.0"]),
    (("/snapshot",), "after", NO_USER),
    (("/dashboard/summary",), "after", NO_ID[1:]),
    (("/dashboard/users",), "prefix", ["", " ", "g", "٣", "a\n", "\x00", "a" * 33, "%", "_"]),
]
#: Parameters of which one alone is meant.
ONCE = [
    (STREAMS, "debounce", "2"),
    (STREAMS, "max_wait", "5"),
    (STREAMS, "top", "5"),
    (STREAMS, "since", "e:1"),
    ((*STREAMS, "/snapshot"), "ticket", "x"),
    (("/snapshot",), "limit", "5"),
    (("/snapshot", "/dashboard/summary"), "after", "e:1"),
    (("/dashboard/user",), "user_id", USER),
    (("/dashboard/users",), "prefix", "a"),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def http() -> AsyncIterator[httpx.AsyncClient]:
    """A client of a bridge whose Supabase is away, behind its own server."""
    settings = BridgeSettings(
        supabase_url="http://127.0.0.1:9",
        supabase_secret_key=SecretStr(KEY),
        supabase_publishable_key="sb_publishable_unit",
        port=0,
    )
    async with serve(settings) as served, httpx.AsyncClient(base_url=served.url, trust_env=False) as client:
        yield client


@pytest.fixture(autouse=True)
def whole(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Nothing fails inside the server."""
    yield
    records = caplog.get_records("call")
    assert not [record for record in records if record.name.startswith("uvicorn") and record.levelno > logging.WARNING]


def address(http: httpx.AsyncClient, wishes: httpx.QueryParams | str = "") -> str:
    """The URL of the bridge's WebSockets."""
    return f"{str(http.base_url).rstrip('/').replace('http', 'ws', 1)}/ws?{wishes}"


def query(parameters: Sequence[tuple[str, str]]) -> httpx.QueryParams:
    """Parameters, percent-encoded."""
    return httpx.QueryParams(urlencode(parameters))


async def refused(http: httpx.AsyncClient, path: str, wishes: httpx.QueryParams) -> tuple[int, Any]:
    """Status and field with which a surface refuses."""
    headers = {"Authorization": f"Bearer {KEY}"}
    if path != "/ws":
        answer = await http.get(path, params=wishes, headers=headers)
        return answer.status_code, answer.json()["error"].get("field")
    with pytest.raises(websockets.InvalidStatus) as caught:
        await websockets.connect(address(http, wishes), additional_headers=headers, proxy=None)
    response = caught.value.response
    return response.status_code, json.loads(response.body or b"")["error"].get("field")


@pytest.mark.parametrize(("paths", "name", "values"), WRONG, ids=lambda value: value if isinstance(value, str) else "")
async def test_a_wrong_parameter_is_named(
    http: httpx.AsyncClient, paths: tuple[str, ...], name: str, values: list[str]
) -> None:
    """Empty, huge, negative, no number, of other scripts or with control characters: 400 and the parameter's name."""
    for path in paths:
        for value in values:
            assert await refused(http, path, query([(name, value)])) == (400, name), (path, value[:60])


@pytest.mark.parametrize(("paths", "name", "value"), ONCE, ids=lambda value: value if isinstance(value, str) else "")
async def test_a_parameter_given_twice_is_named(
    http: httpx.AsyncClient, paths: tuple[str, ...], name: str, value: str
) -> None:
    """Where one value is meant two are refused, rather than one of them silently left out."""
    for path in paths:
        assert await refused(http, path, query([(name, value), (name, value)])) == (400, name), path


async def test_strange_tickets_open_nothing(http: httpx.AsyncClient) -> None:
    """What is no ticket is 401, whatever it consists of."""
    for path in (*STREAMS, "/snapshot"):
        for value in [*STRANGE, "a.b.c", f"{'[' * 9000}.e30.c2ln"]:
            assert await refused(http, path, query([("ticket", value)])) == (401, None), (path, value[:60])


async def test_a_url_without_end_is_refused(http: httpx.AsyncClient) -> None:
    """A WebSocket's URL of any length has an answer, and as many users as one may name do not make it too long."""
    for number, refusal in ((1000, (401, None)), (1600, (400, "url"))):
        assert await refused(http, "/ws", query([("user_id", USER)] * number + [("ticket", "x")])) == refusal


async def test_too_many_users_are_named(http: httpx.AsyncClient) -> None:
    """More users than one may name are 400 and not the server's end."""
    many = query([("user_id", str(number)) for number in range(1001)])
    for path in (*STREAMS, "/snapshot"):
        assert await refused(http, path, many) == (400, "user_id")


@pytest.mark.parametrize("frame", ["", "{}", "null", "[1]", '"x"', "{", "\x00", b"", b"\xff\x00", "{}" * 500])
async def test_every_frame_of_a_client_ends_its_socket(http: httpx.AsyncClient, frame: str | bytes) -> None:
    """The socket only sends: whatever type of frame or JSON a client sends closes it with 4400."""
    async with websockets.connect(address(http), additional_headers={"apikey": KEY}, proxy=None) as socket:
        await socket.send(frame)
        await socket.wait_closed()
        assert socket.close_code == 4400


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"", "body"),
        (b"null", "body"),
        (b"[]", "body"),
        (b"\xff", "body"),
        (b"[" * 8000, "body"),
        (b" " * 9000, "body"),
        (b"9" * 8000, "body"),
        (b"{}", "email"),
        (b'{"email": null, "password": "x"}', "email"),
        (b'{"email": ["a"], "password": "x"}', "email"),
        (b'{"email": "", "password": "x"}', "email"),
        (b'{"email": "\\ud800@example.test", "password": "x"}', "email"),
        (b'{"email": "ann@example.test", "password": 7}', "password"),
        (b'{"email": "ann@example.test", "password": "\\udfff"}', "password"),
        (b'{"email": "ann@example.test", "password": "%s"}' % (b"x" * 4097), "password"),
    ],
)
async def test_a_wrong_field_of_a_sign_in_is_named(http: httpx.AsyncClient, body: bytes, field: str) -> None:
    """A body that is no JSON object, or one with a field of a wrong type, is 400 and the field's name."""
    answer = await http.post("/dashboard/sign-in/password", content=body)
    assert (answer.status_code, answer.json()["error"]["field"]) == (400, field)
