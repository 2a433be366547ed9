"""Signing in by e-mail: Supabase Auth, reached through the bridge so that the page needs no other address."""

import hashlib
import json
import re
from typing import Any

import httpx
from limits import RateLimitItem, RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import FixedWindowRateLimiter
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from realtime_bridge.auth import AccessError
from realtime_bridge.parameters import BadRequest

_LARGEST = 8192
_LONGEST = 4096
# Behind a proxy all have one address: guessing is held back by the e-mail address it is about, floods by theirs.
_OF_EMAIL = RateLimitItemPerMinute(10, namespace="email")
_OF_ADDRESS = RateLimitItemPerMinute(60, namespace="address")
_OF_TOKEN = RateLimitItemPerMinute(10, namespace="token")
_ANSWER = ("access_token", "refresh_token", "expires_at")
_TOO_MANY = 429
# JSON may hold halves of characters, which no text that is sent on may.
_SURROGATE = re.compile("[\ud800-\udfff]")


class SignIn:
    """The endpoints ``/dashboard/sign-in/...``.

    Args:
        http: A client of Supabase Auth that carries the publishable key, as a browser would: with the service key Auth
            would ask for no CAPTCHA. None: there is no such key, and signing in is refused.
    """

    def __init__(self, http: httpx.AsyncClient | None) -> None:
        self._http = http
        # In fixed windows, since the storage forgets those of addresses that nobody uses any more.
        self._limiter = FixedWindowRateLimiter(MemoryStorage())

    async def password(self, request: Request) -> Response:
        """Exchange e-mail address and password for tokens."""
        fields = await self._attempt(request, "email", "password")
        return _tokens(await self._send("token?grant_type=password", fields))

    async def code(self, request: Request) -> Response:
        """Send a code to the e-mail address of a user."""
        fields = await self._attempt(request, "email")
        answer = await self._send("otp", {**fields, "create_user": False})
        if answer.status_code == _TOO_MANY:
            raise AccessError(429, "RATE_LIMITED", "too many codes: wait a minute")
        # The same answer whether or not there is such a user.
        return JSONResponse({}, headers={"Cache-Control": "no-store"})

    async def verify(self, request: Request) -> Response:
        """Exchange the code of an e-mail for tokens."""
        fields = await self._attempt(request, "email", "token")
        return _tokens(await self._send("verify", {**fields, "type": "email"}))

    async def refresh(self, request: Request) -> Response:
        """Exchange a refresh token for new tokens."""
        fields = await _fields(request, "refresh_token")
        self._count(_OF_TOKEN, fields["refresh_token"])
        return _tokens(await self._send("token?grant_type=refresh_token", fields))

    async def _attempt(self, request: Request, *names: str) -> dict[str, Any]:
        self._count(_OF_ADDRESS, request.client.host if request.client else "?")
        fields = await _fields(request, *names)
        self._count(_OF_EMAIL, fields["email"].strip().casefold())
        return fields

    def _count(self, limit: RateLimitItem, whose: str) -> None:
        # A hash has one length, whatever somebody sends, and tells a reader of memory nothing.
        if not self._limiter.hit(limit, hashlib.sha256(whose.encode(errors="replace")).hexdigest()):
            raise AccessError(429, "RATE_LIMITED", "too many attempts: wait a minute")

    async def _send(self, path: str, body: dict[str, Any]) -> httpx.Response:
        if self._http is None:
            reason = "signing in by e-mail is off: set SUPABASE_PUBLISHABLE_KEY for the bridge, or use an access token"
            raise AccessError(403, "SIGN_IN_OFF", reason)
        try:
            answer = await self._http.post(path, json=body)
        except httpx.HTTPError as error:
            reason = f"Supabase Auth cannot be reached ({type(error).__name__})"
            raise AccessError(503, "UNAVAILABLE", reason) from error
        if answer.is_server_error:
            raise AccessError(503, "UNAVAILABLE", f"Supabase Auth answered HTTP {answer.status_code}")
        if not answer.is_success and _body_of(answer).get("error_code") == "captcha_failed":
            raise AccessError(403, "CAPTCHA_REQUIRED", "the project asks for a CAPTCHA: use an access token")
        return answer


async def _fields(request: Request, *names: str) -> dict[str, Any]:
    body = await _body(request)
    try:
        values = json.loads(body)
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict):
        raise BadRequest("body", "a JSON object is required")
    for name in names:
        value = values.get(name)
        if not isinstance(value, str) or not 0 < len(value) <= _LONGEST:
            raise BadRequest(name, f"{name} is required")
        if _SURROGATE.search(value):
            raise BadRequest(name, f"{name} must be valid Unicode")
    return {name: values[name] for name in names}


async def _body(request: Request) -> bytes:
    body = b""
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > _LARGEST:
                raise BadRequest("body", f"at most {_LARGEST} bytes")
    except ClientDisconnect:
        raise BadRequest("body", "the body ended early") from None
    return body


def _body_of(answer: httpx.Response) -> dict[str, Any]:
    try:
        body = answer.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _tokens(answer: httpx.Response) -> Response:
    if answer.status_code == _TOO_MANY:
        raise AccessError(429, "RATE_LIMITED", "too many attempts: wait a minute")
    body = _body_of(answer)
    if not answer.is_success or not isinstance(body.get("access_token"), str):
        raise AccessError(401, "SIGN_IN_FAILED", "Supabase did not accept that: check what you entered")
    return JSONResponse({name: body.get(name) for name in _ANSWER}, headers={"Cache-Control": "no-store"})
