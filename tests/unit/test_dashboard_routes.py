"""The dashboard's endpoints as they answer before any database is asked."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from uuid import UUID

import httpx
import jwt
import pytest
from pydantic import SecretStr

from realtime_bridge import Bridge, BridgeSettings
from realtime_bridge.app import create_app
from realtime_bridge.links import Links

SECRET = "sb_secret_unit"  # noqa: S105 - opens nothing
PUBLISHABLE = "sb_publishable_unit"
LEGACY = "legacy.service.key"
ANN = {"email": "ann@example.test", "password": "x"}
OPERATOR = {"apikey": SECRET}
TOKENS = {"access_token": "a", "refresh_token": "r", "expires_at": 1}


class AuthServer(ThreadingHTTPServer):
    """A server that takes the place of Supabase Auth and remembers who asked with what.

    Attributes:
        asked: Path, ``apikey`` and ``Authorization`` of each request to Auth.
        answer: Status and body of what it answers.
        log: The change log that it shows, newest first.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[tuple[str, str | None, str | None]] = []
        self.answer: tuple[int, dict[str, Any]] = (200, TOKENS)
        self.log: list[dict[str, Any]] = []

    @property
    def url(self) -> str:
        """The project's URL."""
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: AuthServer

    def do_POST(self) -> None:
        """Answer as told; everything but Auth is absent."""
        self.rfile.read(int(self.headers.get("content-length", 0)))
        status: int = 404
        body: dict[str, Any] = {}
        if self.path.startswith("/auth/v1/"):
            keys = self.headers.get("apikey"), self.headers.get("authorization")
            self.server.asked.append((self.path.removeprefix("/auth/v1/"), *keys))
            status, body = self.server.answer
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def do_GET(self) -> None:
        """Show the change log in one page."""
        whole = self.path.startswith("/rest/v1/streak_history") and "id=" not in self.path
        body = json.dumps(self.server.log if whole else []).encode()
        self.send_response(200)
        self.send_header("Content-Range", "*/0")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def auth() -> Iterator[AuthServer]:
    """The auth server of the project."""
    with AuthServer() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@contextlib.asynccontextmanager
async def bridge_of(auth: AuthServer, **changes: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a bridge of the project."""
    values = {"supabase_secret_key": SecretStr(SECRET), "supabase_publishable_key": PUBLISHABLE, **changes}
    async with Bridge(BridgeSettings(supabase_url=auth.url, **values)) as bridge:
        transport = httpx.ASGITransport(create_app(bridge))
        async with httpx.AsyncClient(transport=transport, base_url="http://bridge/dashboard/") as http:
            yield http


@pytest.mark.parametrize("secret", [SECRET, LEGACY])
async def test_signing_in_takes_the_rights_of_a_browser(auth: AuthServer, secret: str) -> None:
    """Every call to Supabase Auth carries the publishable key, and none the service key, new or legacy."""
    async with bridge_of(auth, supabase_secret_key=SecretStr(secret)) as http:
        assert (await http.post("sign-in/password", json=ANN)).json() == TOKENS
        assert (await http.post("sign-in/code", json=ANN)).json() == {}
        assert (await http.post("sign-in/verify", json={**ANN, "token": "123456"})).json() == TOKENS
        assert (await http.post("sign-in/refresh", json={"refresh_token": "r"})).json() == TOKENS
    assert auth.asked == [
        (path, PUBLISHABLE, None)
        for path in ("token?grant_type=password", "otp", "verify", "token?grant_type=refresh_token")
    ]


async def test_without_a_publishable_key_nobody_signs_in_by_email(auth: AuthServer) -> None:
    """Where the bridge has no publishable key it says so, names the variable, and asks Supabase Auth nothing."""
    async with bridge_of(auth, supabase_publishable_key=None) as http:
        answer = await http.post("sign-in/password", json=ANN)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "SIGN_IN_OFF")
    assert "SUPABASE_PUBLISHABLE_KEY" in answer.json()["error"]["message"]
    assert auth.asked == []


@pytest.mark.parametrize("path", ["password", "code"])
async def test_a_captcha_is_named(auth: AuthServer, path: str) -> None:
    """A project that asks for a CAPTCHA is told apart from a wrong password, and no code is said to be sent."""
    auth.answer = (400, {"code": 400, "error_code": "captcha_failed", "msg": "captcha protection: request disallowed"})
    async with bridge_of(auth) as http:
        answer = await http.post(f"sign-in/{path}", json=ANN)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "CAPTCHA_REQUIRED")


async def statuses(http: httpx.AsyncClient, path: str, bodies: Iterable[dict[str, str]]) -> list[int]:
    """The statuses of attempts, one after another."""
    return [(await http.post(f"sign-in/{path}", json=body)).status_code for body in bodies]


@pytest.fixture
def still(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the limits' window not end during a test."""
    monkeypatch.setattr("limits.storage.memory.time.time", lambda: 1_800_000_000.0)


@pytest.mark.usefixtures("still")
async def test_guessing_is_held_back_by_email(auth: AuthServer) -> None:
    """After ten attempts for one e-mail address, however written, it is refused; others and renewals are not."""
    async with bridge_of(auth) as http:
        spellings = ({**ANN, "email": email} for email in ["ann@example.test", " ANN@example.test"] * 5)
        assert await statuses(http, "password", spellings) == [200] * 10
        assert await statuses(http, "verify", [{**ANN, "token": "1"}]) == [429]
        assert await statuses(http, "password", [{**ANN, "email": "bob@example.test"}]) == [200]
        assert await statuses(http, "refresh", [{"refresh_token": "r"}] * 11) == [200] * 10 + [429]
        assert await statuses(http, "refresh", [{"refresh_token": "other"}]) == [200]
    assert len(auth.asked) == 22


@pytest.mark.usefixtures("still")
async def test_floods_are_held_back_by_address(auth: AuthServer) -> None:
    """After sixty attempts from one address it is refused, whomever they are about; sessions are still renewed."""
    async with bridge_of(auth) as http:
        many = ({**ANN, "email": f"{number}@example.test"} for number in range(61))
        assert await statuses(http, "code", many) == [200] * 60 + [429]
        assert await statuses(http, "refresh", [{"refresh_token": "r"}]) == [200]


async def test_a_feed_loses_nothing_when_the_bridge_is_another(auth: AuthServer) -> None:
    """A page without a cursor gets the newest entries; one whose cursor is of another run gets all that are kept."""
    at = datetime.now(UTC).isoformat()
    values = {"user_id": str(UUID(int=1)), "change_type": "STREAK_RESET", "version_after": 1, "created_at": at}
    auth.log = [
        {**values, "id": number, "old_current_streak": 1, "new_current_streak": 2} for number in range(100, 0, -1)
    ]
    async with bridge_of(auth) as http:

        async def summary(after: str) -> dict[str, Any]:
            answer = await http.get("summary", params={"after": after}, headers=OPERATOR)
            made: dict[str, Any] = answer.raise_for_status().json()
            return made

        first = await summary("")
        epoch, _, number = first["cursor"].rpartition(":")
        assert (len(first["entries"]), number) == (60, "100")
        assert len((await summary("gone:90"))["entries"]) == 100
        assert len((await summary(f"{epoch}:101"))["entries"]) == 100
        assert len((await summary(f"{epoch}:90"))["entries"]) == 10
        assert (await summary(first["cursor"]))["entries"] == []


@pytest.mark.parametrize(
    ("path", "field"),
    [("/dashboard/summary?after=e:{}", "after"), ("/events?since=e:{}", "since"), ("/snapshot?limit={}", "limit")],
)
async def test_numbers_without_end_are_bad_input(auth: AuthServer, path: str, field: str) -> None:
    """A number of thousands of digits is answered with 400 and the name of the parameter."""
    async with bridge_of(auth) as http:
        answer = await http.get(f"http://bridge{path.format('9' * 5000)}", headers=OPERATOR)
    assert (answer.status_code, answer.json()["error"]["field"]) == (400, field)


async def test_the_service_does_not_open_the_page(auth: AuthServer) -> None:
    """The page refuses the service key and tokens of role service_role, and lets a link in."""
    signed = "a legacy secret of thirty-two bytes or more"
    async with bridge_of(auth, supabase_jwt_secret=SecretStr(signed)) as http:
        service = jwt.encode({"role": "service_role", "exp": time.time() + 600}, signed, algorithm="HS256")
        link = Links(BridgeSettings(supabase_url=auth.url, supabase_secret_key=SecretStr(SECRET))).make()
        answers = [
            await http.get("me", headers={"Authorization": f"Bearer {token}"}) for token in (SECRET, service, link)
        ]
    assert [answer.status_code for answer in answers] == [403, 403, 200]
    assert answers[1].json()["error"]["code"] == "SERVICE_KEY"
