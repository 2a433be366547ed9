"""What a request asks for and whether it may: shared by every surface."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any

from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse

from realtime_bridge.auth import AccessError, Authenticator, Principal
from realtime_bridge.bridge import Bridge, check_top
from realtime_bridge.leaderboard import MOST_PLACES
from realtime_bridge.parameters import BadRequest, message_id, seconds, single, user, whole_number

#: Longer lists belong to an operator's listener of everybody.
_MOST_USERS = 1000


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a listener asks for.

    Attributes:
        user_ids: Whom it hears of; None: everybody.
        debounce: Seconds; None: the bridge's setting.
        max_wait: Seconds; None: the bridge's setting.
        since: Where it resumes, or None.
        top: Places of the leaderboard instead of users, or None.
    """

    user_ids: list[str] | None
    debounce: float | None
    max_wait: float | None
    since: str | None
    top: int | None

    def as_arguments(self) -> dict[str, Any]:
        """The arguments of `Bridge.listen`."""
        return {name: getattr(self, name) for name in self.__slots__}


class Limits:
    """Counts connections, in all and by user.

    Args:
        total: At most this many.
        per_user: At most this many of one user.
    """

    def __init__(self, total: int, per_user: int) -> None:
        self._total = total
        self._per_user = per_user
        self._of_user: Counter[str] = Counter()
        self.connections = 0

    @contextlib.contextmanager
    def connection(self, principal: Principal) -> Iterator[None]:
        """Hold a place while the block runs.

        Raises:
            AccessError: There is none left (429 for the user, 503 for the bridge).
        """
        user_id = principal.user_id
        if self.connections >= self._total:
            raise AccessError(503, "TOO_MANY_LISTENERS", "this bridge is full: try another or later")
        if user_id is not None and self._of_user[user_id] >= self._per_user:
            raise AccessError(429, "TOO_MANY_CONNECTIONS", f"more than {self._per_user} connections of one user")
        self.connections += 1
        if user_id is not None:
            self._of_user[user_id] += 1
        try:
            yield
        finally:
            self.connections -= 1
            if user_id is not None:
                self._of_user[user_id] -= 1
                if self._of_user[user_id] <= 0:
                    del self._of_user[user_id]


@dataclass(slots=True)
class _Queue:
    turns: asyncio.Semaphore
    length: int = 0


class Turns:
    """Lets each user have a few reads of the database under way; more wait in turn, and too many are refused.

    Whoever came with the service key or an operator link is nobody's user, and not counted.

    Args:
        at_once: Reads of one user under way at most.
        most: Those and the ones that wait, at most.
    """

    def __init__(self, at_once: int = 4, most: int = 100) -> None:
        self._at_once = at_once
        self._most = most
        self._queues: dict[str, _Queue] = {}

    @contextlib.asynccontextmanager
    async def turn(self, request: Request, principal: Principal) -> AsyncIterator[None]:
        """Wait for a turn, and hold it while the block runs.

        Raises:
            AccessError: Too many wait already (429), or the client has gone meanwhile.
        """
        user_id = principal.user_id
        if user_id is None:
            yield
            return
        queue = self._queues.setdefault(user_id, _Queue(asyncio.Semaphore(self._at_once)))
        if queue.length >= self._most:
            reason = f"more than {self._most} reads of one user at a time"
            raise AccessError(429, "TOO_MANY_READS", reason, retry_after=1)
        queue.length += 1
        try:
            async with queue.turns:
                if await request.is_disconnected():
                    raise AccessError(499, "GONE", "nobody waits for the answer")
                yield
        finally:
            queue.length -= 1
            if not queue.length:
                del self._queues[user_id]


async def identify(connection: HTTPConnection, authenticator: Authenticator, *, tickets: bool) -> Principal:
    """Find out who asks.

    Args:
        connection: The request or websocket.
        authenticator: Verifies.
        tickets: Whether a ticket in the URL will do.

    Returns:
        Who it is.

    Raises:
        AccessError: Nobody who may.
        BadRequest: There are several tickets.
    """
    ticket = single(connection, "ticket") if tickets else None
    if ticket is not None:
        return authenticator.redeem(ticket)
    scheme, _, token = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return await authenticator.principal(token.strip())
    key = connection.headers.get("apikey")
    if key:
        return await authenticator.principal(key)
    raise AccessError(401, "TOKEN_REQUIRED", "send Authorization: Bearer <token>, or a ticket from POST /ticket")


def wishes_of(connection: HTTPConnection, principal: Principal, bridge: Bridge) -> Wishes:
    """Read the parameters of a listener.

    Raises:
        BadRequest: One is wrong.
        AccessError: It asks for somebody else.
    """
    debounce, max_wait = seconds(connection, "debounce"), seconds(connection, "max_wait")
    # A browser that reconnects repeats its old URL and adds the header.
    since = connection.headers.get("last-event-id") or single(connection, "since")
    message_id(since, "since", "<epoch>:<seq>, the id of a message")
    users, top = users_of(connection), _top_of(connection, principal)
    try:
        bridge.windows(debounce, max_wait)
    except ValueError as error:
        raise BadRequest(str(error).partition(" ")[0], str(error)) from None
    return Wishes(principal.audience(users) if top is None else None, debounce, max_wait, since, top)


def _top_of(connection: HTTPConnection, principal: Principal) -> int | None:
    top = whole_number(connection, "top", MOST_PLACES)
    if top is None:
        return None
    try:
        check_top(top, named="user_id" in connection.query_params)
    except ValueError as error:
        raise BadRequest("top", str(error)) from None
    if not principal.sees_all:
        raise AccessError(403, "FORBIDDEN", "only an operator or the service hears of the leaderboard")
    return top


def users_of(connection: HTTPConnection) -> list[str]:
    """The users named by ``user_id`` parameters.

    Raises:
        BadRequest: One is no UUID, or there are too many.
    """
    named = connection.query_params.getlist("user_id")
    if len(named) > _MOST_USERS:
        raise BadRequest("user_id", f"at most {_MOST_USERS} users")
    return [user(user_id, "user_id") for user_id in named]


def refusal(error: AccessError | BadRequest) -> JSONResponse:
    """The answer to a request that is refused."""
    if isinstance(error, BadRequest):
        body = {"code": "INVALID_INPUT", "field": error.field, "message": str(error)}
        return JSONResponse({"error": body}, 400)
    headers = {"WWW-Authenticate": "Bearer"} if error.status == 401 else {}  # noqa: PLR2004 - unauthorized
    if error.retry_after is not None:
        headers["Retry-After"] = str(error.retry_after)
    return JSONResponse({"error": {"code": error.code, "message": str(error)}}, error.status, headers)
