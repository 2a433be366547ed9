from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from realtime_bridge.auth import AccessError, Authenticator, Principal
from realtime_bridge.settings import BridgeSettings

URL = "https://project.example"
SECRET = "a-legacy-secret-of-at-least-32-characters"  # noqa: S105 - signs nothing real
SERVICE_KEY = "sb_secret_0123456789"
USER = str(uuid4())


class AuthServer:
    """Answers with the project's present public keys, over httpx's own in-memory transport."""

    def __init__(self) -> None:
        self.keys: dict[str, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey] = {}
        self.asked = 0
        self.extra: list[dict[str, Any]] = []
        self.body: Any = None
        self.failing = False
        self.awake = asyncio.Event()
        self.awake.set()
        self.heard = asyncio.Event()

    def rotate(self, kid: str) -> None:
        """Publish one new key instead of the old ones."""
        self.keys = {kid: ec.generate_private_key(ec.SECP256R1())}

    async def serve(self, request: httpx.Request) -> httpx.Response:
        """Answer a request for the keys, once awake."""
        assert request.url.path == "/auth/v1/.well-known/jwks.json"
        self.asked += 1
        self.heard.set()
        await self.awake.wait()
        if self.failing or self.body is not None:
            return httpx.Response(503 if self.failing else 200, json=self.body)
        return self.answer()

    def token(self, kid: str) -> str:
        """A token signed with a key."""
        return jwt.encode(claims(), self.keys[kid], algorithm="ES256", headers={"kid": kid})

    def answer(self) -> httpx.Response:
        """The keys."""
        documents = []
        for kid, key in self.keys.items():
            if isinstance(key, ec.EllipticCurvePrivateKey):
                document = jwt.algorithms.ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
            else:
                document = jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
            documents.append({**document, "kid": kid})
        return httpx.Response(200, json={"keys": [*documents, *self.extra]})


@pytest.fixture
def server() -> AuthServer:
    """The project's auth server."""
    made = AuthServer()
    made.rotate("first")
    return made


@pytest.fixture
def make(server: AuthServer) -> Callable[..., Authenticator]:
    """Build authenticators that ask that server."""

    def build(secret: str | None = SECRET) -> Authenticator:
        settings = BridgeSettings(supabase_url=URL, supabase_secret_key=SERVICE_KEY, supabase_jwt_secret=secret)
        return Authenticator(settings, httpx.AsyncClient(transport=httpx.MockTransport(server.serve)))

    return build


def claims(**changes: Any) -> dict[str, Any]:
    """What a token of a signed-in user says."""
    made = {"sub": USER, "role": "authenticated", "aud": "authenticated", "exp": time.time() + 600, **changes}
    return {name: value for name, value in made.items() if value is not None}


def legacy(secret: str = SECRET, **changes: Any) -> str:
    """A token signed with the legacy secret."""
    return jwt.encode(claims(**changes), secret, algorithm="HS256")


async def refused(authenticator: Authenticator, token: str) -> tuple[int, str]:
    """Status and code with which a token is refused."""
    with pytest.raises(AccessError) as caught:
        await authenticator.principal(token)
    assert token not in str(caught.value)
    return caught.value.status, caught.value.code


async def test_the_service_key_hears_of_all(make: Callable[..., Authenticator]) -> None:
    """The service key itself, and a token of role service_role, open everything."""
    assert await make().principal(SERVICE_KEY) == Principal(None, sees_all=True, expires_at=None, service=True)
    assert (await make().principal(legacy(role="service_role", sub=None))).sees_all


async def test_a_user_is_a_user(make: Callable[..., Authenticator]) -> None:
    """A signed-in user hears of that user alone and is refused anybody else."""
    principal = await make().principal(legacy())
    assert (principal.user_id, principal.sees_all) == (USER, False)
    assert principal.audience([]) == [USER]
    with pytest.raises(AccessError) as caught:
        principal.audience([USER, str(uuid4())])
    assert caught.value.status == 403


@pytest.mark.parametrize(
    ("metadata", "operator"),
    [
        ({"app_metadata": {"streak_operator": True}}, True),
        ({"app_metadata": {"streak_operator": "true"}}, False),
        ({"app_metadata": {"streak_operator": 1}}, False),
        ({"app_metadata": [True]}, False),
        ({"user_metadata": {"streak_operator": True}}, False),
        ({"streak_operator": True}, False),
    ],
)
async def test_only_app_metadata_makes_an_operator(
    make: Callable[..., Authenticator],
    metadata: dict[str, Any],
    operator: bool,  # noqa: FBT001
) -> None:
    """An operator is whom the server calls one: what users write about themselves counts for nothing."""
    assert (await make().principal(legacy(**metadata))).sees_all is operator


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        (lambda: "garbage", (401, "INVALID_TOKEN")),
        (lambda: "sb_publishable_0123456789", (401, "INVALID_TOKEN")),
        (lambda: SERVICE_KEY[:-1], (401, "INVALID_TOKEN")),
        (lambda: legacy(role="anon", sub=None), (403, "FORBIDDEN")),
        (lambda: legacy(role="postgres"), (403, "FORBIDDEN")),
        (lambda: legacy(role=None), (403, "FORBIDDEN")),
        (lambda: legacy(sub=None), (401, "INVALID_TOKEN")),
        (lambda: legacy(sub="not-a-uuid"), (401, "INVALID_TOKEN")),
        (lambda: legacy(exp=None), (401, "INVALID_TOKEN")),
        (lambda: legacy(exp=time.time() - 60), (401, "TOKEN_EXPIRED")),
        (lambda: legacy("another-secret-of-at-least-32-characters"), (401, "INVALID_TOKEN")),
        (lambda: jwt.encode(claims(), "", algorithm="none"), (401, "INVALID_TOKEN")),
    ],
)
async def test_nobody_else_gets_in(
    make: Callable[..., Authenticator], token: Callable[[], str], expected: tuple[int, str]
) -> None:
    """Anything but a whole, fresh token of a user or the service is refused with its status and code."""
    assert await refused(make(), token()) == expected


async def test_without_a_legacy_secret_no_hs256_token_is_good(make: Callable[..., Authenticator]) -> None:
    """Where no secret is set nothing signed with one is accepted, the empty secret included."""
    assert await refused(make(None), legacy()) == (401, "INVALID_TOKEN")
    with pytest.warns(jwt.InsecureKeyLengthWarning):
        unsigned = jwt.encode(claims(), "x", algorithm="HS256")
    assert await refused(make(""), unsigned) == (401, "INVALID_TOKEN")


async def test_keys_come_from_jwks(make: Callable[..., Authenticator], server: AuthServer) -> None:
    """A token signed with the project's key is verified with its published half, fetched once."""
    authenticator = make(None)
    token = jwt.encode(claims(), server.keys["first"], algorithm="ES256", headers={"kid": "first"})
    for _ in range(3):
        assert (await authenticator.principal(token)).user_id == USER
    assert server.asked == 1


async def test_a_rotated_key_is_fetched(
    make: Callable[..., Authenticator], server: AuthServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unknown key id makes the keys be read again, but not more often than every few seconds."""
    authenticator = make(None)
    await authenticator.principal(
        jwt.encode(claims(), server.keys["first"], algorithm="ES256", headers={"kid": "first"})
    )
    server.rotate("second")
    token = jwt.encode(claims(), server.keys["second"], algorithm="ES256", headers={"kid": "second"})
    for _ in range(5):
        assert await refused(authenticator, token) == (401, "INVALID_TOKEN")
    assert server.asked == 1
    monkeypatch.setattr("realtime_bridge.auth._JWKS_PAUSE", -1.0)
    assert (await authenticator.principal(token)).user_id == USER


@pytest.fixture
def old(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let keys be so old at once that they are to be fetched anew."""
    monkeypatch.setattr("realtime_bridge.auth._JWKS_LIFE", -1.0)
    monkeypatch.setattr("realtime_bridge.auth._JWKS_PAUSE", -1.0)


@pytest.fixture
def very_old(old: None, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ARG001 - one goes with the other
    """Let keys be so old at once that they may have been revoked."""
    monkeypatch.setattr("realtime_bridge.auth._JWKS_OLD", -1.0, raising=False)


@pytest.mark.usefixtures("old")
async def test_a_hanging_auth_holds_up_nobody_whose_key_is_known(
    make: Callable[..., Authenticator], server: AuthServer
) -> None:
    """While Auth does not answer, known keys are good at once, and made-up key ids share one fetch and then end."""
    authenticator = make(None)
    token = server.token("first")
    await authenticator.principal(token)
    server.awake.clear()
    server.heard.clear()
    strangers = [
        jwt.encode(claims(), server.keys["first"], algorithm="ES256", headers={"kid": str(n)}) for n in range(50)
    ]
    waiting = [asyncio.create_task(refused(authenticator, stranger)) for stranger in strangers]
    async with asyncio.timeout(60):
        await server.heard.wait()
        for _ in range(100):
            assert (await authenticator.principal(token)).user_id == USER
        server.awake.set()
        assert await asyncio.gather(*waiting) == [(401, "INVALID_TOKEN")] * 50
    assert server.asked == 2


@pytest.mark.usefixtures("very_old")
async def test_a_failing_auth_is_left_alone_for_a_while(
    make: Callable[..., Authenticator], server: AuthServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a fetch that failed known keys stay good, unknown ones are 503, and none is tried again in the pause."""
    monkeypatch.setattr("realtime_bridge.auth._JWKS_RETRY", 3600.0, raising=False)
    authenticator = make(None)
    known = server.token("first")
    await authenticator.principal(known)
    server.rotate("second")
    server.failing = True
    for _ in range(20):
        assert (await authenticator.principal(known)).user_id == USER
        assert await refused(authenticator, server.token("second")) == (503, "UNAVAILABLE")
    assert server.asked == 2
    server.failing = False
    monkeypatch.setattr("realtime_bridge.auth._JWKS_RETRY", -1.0, raising=False)
    assert (await authenticator.principal(server.token("second"))).user_id == USER


@pytest.mark.usefixtures("very_old")
async def test_a_revoked_key_opens_no_idle_bridge(make: Callable[..., Authenticator], server: AuthServer) -> None:
    """Keys that nobody used for long are fetched before they are believed: one withdrawn meanwhile is refused."""
    authenticator = make(None)
    revoked = server.token("first")
    await authenticator.principal(revoked)
    server.rotate("second")
    assert await refused(authenticator, revoked) == (401, "INVALID_TOKEN")


@pytest.mark.parametrize("body", [[], {}, {"keys": 5}, {"keys": None}, "keys"])
async def test_a_document_without_keys_is_a_failure_of_auth(
    make: Callable[..., Authenticator], server: AuthServer, body: object
) -> None:
    """What Auth sends instead of a JWKS is answered with 503."""
    server.body = body
    assert await refused(make(None), server.token("first")) == (503, "UNAVAILABLE")


async def test_a_broken_key_spoils_no_other(make: Callable[..., Authenticator], server: AuthServer) -> None:
    """Keys that cannot be read are left out, and the others are good."""
    server.extra = [
        {"kty": "RSA", "kid": "a", "n": "!", "e": 5},
        {"kty": "EC", "crv": "P-256", "kid": "b", "x": "AA", "y": None},
        {"kty": ["RSA"], "kid": "c"},
    ]
    assert (await make(None).principal(server.token("first"))).user_id == USER


async def test_an_expiry_in_milliseconds_is_far_away(make: Callable[..., Authenticator]) -> None:
    """A token whose end lies beyond the calendar ends with it."""
    principal = await make().principal(legacy(exp=time.time() * 1000))
    assert principal.expires_at is not None
    assert datetime.fromtimestamp(principal.expires_at, UTC).year == 9999


async def test_a_key_has_one_algorithm(make: Callable[..., Authenticator], server: AuthServer) -> None:
    """A key is used with the algorithm of its type only, and symmetric keys in the document are no keys."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    server.keys = {"rsa": key}
    server.extra = [{"kty": "oct", "kid": "oct", "k": "c2VjcmV0", "alg": "HS256"}]
    authenticator = make(None)
    good = jwt.encode(claims(), key, algorithm="RS256", headers={"kid": "rsa"})
    assert (await authenticator.principal(good)).user_id == USER
    other = jwt.encode(claims(), key, algorithm="RS512", headers={"kid": "rsa"})
    assert await refused(authenticator, other) == (401, "INVALID_TOKEN")
    symmetric = jwt.encode(claims(), "secret" * 12, algorithm="HS512", headers={"kid": "oct"})
    assert await refused(authenticator, symmetric) == (401, "INVALID_TOKEN")


async def test_a_ticket_is_its_owner(make: Callable[..., Authenticator]) -> None:
    """A ticket stands for the user and the expiry of the token it was made for, at every bridge of the project."""
    ends = time.time() + 600
    principal = await make().principal(legacy(exp=ends))
    ticket, ticket_ends = make().ticket(principal)
    assert make().redeem(ticket) == principal
    assert 55 < ticket_ends - time.time() <= 60
    assert make().ticket(Principal(USER, sees_all=False, expires_at=time.time() + 5))[1] - time.time() <= 5


async def test_a_ticket_is_no_token_and_a_token_no_ticket(make: Callable[..., Authenticator]) -> None:
    """The two are signed with different keys: neither opens what the other does, and none outlives a minute."""
    authenticator = make()
    ticket, _ = authenticator.ticket(Principal(USER, sees_all=False, expires_at=None))
    assert await refused(authenticator, ticket) == (401, "INVALID_TOKEN")
    for wrong in (legacy(), ticket[:-2], ""):
        with pytest.raises(AccessError):
            authenticator.redeem(wrong)
    key = jwt.decode(ticket, options={"verify_signature": False})
    assert SERVICE_KEY not in str(key)


async def test_an_old_ticket_is_refused(make: Callable[..., Authenticator], monkeypatch: pytest.MonkeyPatch) -> None:
    """After its minute a ticket opens nothing, and says so."""
    authenticator = make()
    monkeypatch.setattr("realtime_bridge.auth._TICKET_LIFE", -10.0)
    ticket, _ = authenticator.ticket(Principal(USER, sees_all=False, expires_at=None))
    with pytest.raises(AccessError) as caught:
        authenticator.redeem(ticket)
    assert caught.value.code == "TICKET_EXPIRED"
