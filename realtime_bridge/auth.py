"""Who a listener is: a Supabase JWT, the service key, or a ticket. One fixed algorithm per key."""

import asyncio
import hashlib
import hmac
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import httpx
import jwt

from realtime_bridge.links import Links
from realtime_bridge.settings import BridgeSettings

_TICKET_LIFE = 60.0
_TICKET_AUDIENCE = "realtime-bridge:ticket"
_LEEWAY = 5.0
# Fetched anew beside the requests after this many seconds, and before them after that many.
_JWKS_LIFE = 600.0
_JWKS_OLD = 1200.0
_ALGORITHMS: dict[tuple[Any, Any], str] = {
    ("RSA", None): "RS256",
    ("EC", "P-256"): "ES256",
    ("OKP", "Ed25519"): "EdDSA",
}
# An unknown id must not make us hammer the auth server.
_JWKS_PAUSE = 10.0
_JWKS_RETRY = 2.0
_JWKS_PATIENCE = 10.0
# 9999-12-31: no clock of Python's goes further.
_LAST_EXPIRY = 253_402_214_400.0


class AccessError(Exception):
    """A listener is refused.

    Attributes:
        status: HTTP status: 401 (who are you?), 403 (not for you), 503 (cannot be checked now).
        code: For programs.
        retry_after: Seconds after which it may do, if that is known.
    """

    def __init__(self, status: int, code: str, message: str, *, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class Principal:
    """Who listens.

    Attributes:
        user_id: The user; None for the service itself, and for whoever came by an operator link.
        sees_all: Whether it may hear of every user.
        expires_at: When its token ends, in epoch seconds; None: never.
        service: Whether it is the service, which no browser should be; nobody else may write.
    """

    user_id: str | None
    sees_all: bool
    expires_at: float | None
    service: bool = False

    def audience(self, wanted: list[str]) -> list[str] | None:
        """Whom it will hear of.

        Args:
            wanted: The users that it asks for; none: all that it may.

        Returns:
            Users; None: everybody.

        Raises:
            AccessError: It asks for somebody else.
        """
        if self.sees_all:
            return wanted or None
        if any(user_id != self.user_id for user_id in wanted):
            raise AccessError(403, "FORBIDDEN", "a user hears of that user alone")
        return [str(self.user_id)]


class Authenticator:
    """Verifies keys, tokens and tickets.

    Args:
        settings: The project and its keys.
        http: Fetches the project's public keys.
    """

    def __init__(self, settings: BridgeSettings, http: httpx.AsyncClient) -> None:
        self._service_key = settings.supabase_secret_key.get_secret_value()
        secret = settings.supabase_jwt_secret
        self._jwt_secret = secret.get_secret_value() if secret else None
        # Derived, so that every bridge of the project accepts it and it tells nothing about the key.
        self._ticket_key = hmac.digest(self._service_key.encode(), b"realtime-bridge ticket v1", hashlib.sha256)
        self._links = Links(settings)
        self._keys = PublicKeys(f"{settings.supabase_url}/auth/v1/.well-known/jwks.json", http)

    async def principal(self, token: str) -> Principal:
        """Verify a service key or a JWT.

        Args:
            token: As sent in ``Authorization: Bearer`` or ``apikey``.

        Returns:
            Who it is.

        Raises:
            AccessError: It is nobody, or nobody who may listen.
        """
        if hmac.compare_digest(token.encode(), self._service_key.encode()):
            return Principal(None, sees_all=True, expires_at=None, service=True)
        ends = self._links.expiry(token)
        if ends is not None:
            return Principal(None, sees_all=True, expires_at=ends)
        try:
            key, algorithm = await self._key_for(token)
            claims = jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                leeway=_LEEWAY,
                options={"require": ["exp"], "verify_aud": False},
            )
        except jwt.ExpiredSignatureError:
            raise AccessError(401, "TOKEN_EXPIRED", "the token has expired") from None
        except (jwt.InvalidTokenError, jwt.PyJWKError):
            raise AccessError(401, "INVALID_TOKEN", "not a valid token of this project") from None
        return _principal_of(claims)

    def ticket(self, principal: Principal) -> tuple[str, float]:
        """Make a ticket, for URLs of browsers.

        Args:
            principal: For whom.

        Returns:
            The ticket and when it ends, in epoch seconds.
        """
        ends = time.time() + _TICKET_LIFE
        if principal.expires_at is not None:
            ends = min(ends, principal.expires_at)
        claims = {
            "aud": _TICKET_AUDIENCE,
            "exp": ends,
            "user": principal.user_id,
            "all": principal.sees_all,
            "until": principal.expires_at,
        }
        return jwt.encode(claims, self._ticket_key, algorithm="HS256"), ends

    def redeem(self, ticket: str) -> Principal:
        """Verify a ticket.

        Raises:
            AccessError: It is none, or too old.
        """
        try:
            claims = jwt.decode(
                ticket, self._ticket_key, algorithms=["HS256"], audience=_TICKET_AUDIENCE, options={"require": ["exp"]}
            )
        except jwt.ExpiredSignatureError:
            raise AccessError(401, "TICKET_EXPIRED", "the ticket has expired: fetch a new one") from None
        except jwt.InvalidTokenError:
            raise AccessError(401, "INVALID_TICKET", "not a valid ticket") from None
        return Principal(claims["user"], claims["all"], claims["until"])

    async def _key_for(self, token: str) -> tuple[Any, str]:
        header = jwt.get_unverified_header(token)
        if header.get("alg") == "HS256":
            # Only ever the legacy secret: a public key never gets here, whatever the header says.
            if self._jwt_secret is None:
                raise jwt.InvalidTokenError("no legacy secret is set")
            return self._jwt_secret, "HS256"
        key = await self._keys.get(str(header.get("kid")))
        return key.key, key.algorithm_name


def _principal_of(claims: Mapping[str, Any]) -> Principal:
    role, expires_at = claims.get("role"), min(float(claims["exp"]), _LAST_EXPIRY)
    if role == "service_role":
        return Principal(None, sees_all=True, expires_at=expires_at, service=True)
    if role != "authenticated":
        raise AccessError(403, "FORBIDDEN", "this role may not listen: sign in")
    try:
        user_id = str(UUID(claims["sub"]))
    except (KeyError, ValueError, TypeError, AttributeError):
        raise AccessError(401, "INVALID_TOKEN", "the token names no user") from None
    # Never user_metadata: users write that themselves.
    metadata = claims.get("app_metadata")
    operator = isinstance(metadata, Mapping) and metadata.get("streak_operator") is True
    return Principal(user_id, sees_all=operator, expires_at=expires_at)


class PublicKeys:
    """The project's signing keys: fetched when they are needed, when they are old and when one is unknown (rotation).

    However many ask, one fetch is under way at most, and after each comes a pause. Neither an Auth that hangs nor
    tokens with made-up key ids hold up those whose keys are known.

    Args:
        url: The JWKS document.
        http: The client.
    """

    def __init__(self, url: str, http: httpx.AsyncClient) -> None:
        self._url = url
        self._http = http
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched_at = self._tried_at = float("-inf")
        self._failed = False
        self._fetching: asyncio.Task[None] | None = None

    async def get(self, kid: str) -> jwt.PyJWK:
        """The key of an id.

        Raises:
            jwt.InvalidTokenError: The project has no such key.
            AccessError: The keys cannot be fetched.
        """
        known, age = kid in self._keys, time.monotonic() - self._fetched_at
        if not known or age > _JWKS_LIFE:
            fetching = self._fetch_soon()
            # A key that nobody looked after for long may have been revoked, unless Auth is known not to answer.
            if fetching is not None and (not known or (age > _JWKS_OLD and not self._failed)):
                await asyncio.shield(fetching)
        if kid in self._keys:
            return self._keys[kid]
        if self._failed:
            raise AccessError(503, "UNAVAILABLE", "the project's keys cannot be read now")
        raise jwt.InvalidTokenError("unknown key id")

    def _fetch_soon(self) -> asyncio.Task[None] | None:
        """The fetch under way, or a new one; None in the pause after the last."""
        if self._fetching is None or self._fetching.done():
            pause = _JWKS_RETRY if self._failed else _JWKS_PAUSE
            due = time.monotonic() - self._tried_at > pause
            self._fetching = asyncio.create_task(self._fetch(), name="bridge-jwks") if due else None
        return self._fetching

    async def _fetch(self) -> None:
        try:
            async with asyncio.timeout(_JWKS_PATIENCE):
                response = await self._http.get(self._url)
            documents = response.raise_for_status().json()["keys"]
            self._keys = {key.key_id: key for key in map(_public_key, documents) if key is not None and key.key_id}
        except (httpx.HTTPError, TimeoutError, RuntimeError, ValueError, KeyError, TypeError):
            # RuntimeError: the bridge has stopped meanwhile, and its client with it.
            self._failed = True
        else:
            self._failed, self._fetched_at = False, time.monotonic()
        self._tried_at = time.monotonic()


def _public_key(document: Any) -> jwt.PyJWK | None:
    """A key with the one algorithm that its type allows; symmetric and unknown ones are left out."""
    if not isinstance(document, dict):
        return None
    try:
        algorithm = _ALGORITHMS.get((document.get("kty"), document.get("crv")))
        if algorithm is None or document.get("alg", algorithm) != algorithm:
            return None
        return jwt.PyJWK(document, algorithm=algorithm)
    except (jwt.PyJWTError, ValueError, TypeError):
        return None
