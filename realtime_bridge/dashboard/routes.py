"""The endpoints below ``/dashboard/``: for operators, and for users about themselves."""

import asyncio
import re
import time
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from realtime_bridge.access import Turns, identify
from realtime_bridge.auth import AccessError, Authenticator, Principal
from realtime_bridge.bridge import Bridge
from realtime_bridge.dashboard.cache import Cache
from realtime_bridge.dashboard.files import file_routes
from realtime_bridge.dashboard.journal import HOUR, MINUTE, Entry, Journal
from realtime_bridge.dashboard.reads import Reads
from realtime_bridge.dashboard.signin import SignIn
from realtime_bridge.messages import streak_of
from realtime_bridge.parameters import BadRequest, message_id, single, user
from realtime_bridge.reader import ReadError

RISK_HOURS = 6.0
_BOARD = 1000
_RISKS = 500
_FOUND = 8
_CHANGES = 100
_RECENT = 60
_MOST_NEW = 1000
_CHART_SECONDS = 180
_STALE_SECONDS = 120.0
_READS_AT_A_TIME = 8
_JOURNAL_SECONDS = 0.5
_PREFIX = re.compile(r"[0-9a-f]{1,32}")
_NO_STORE = {"Cache-Control": "no-store"}


class _Dashboard:
    """What the page asks for. What is the same for all operators is read once for all of them."""

    def __init__(self, bridge: Bridge, authenticator: Authenticator, turns: Turns) -> None:
        self._bridge = bridge
        self._turns = turns
        self._authenticator = authenticator
        self._reads = Reads(bridge.reader.http)
        self._cache = Cache(500)
        self._users = asyncio.Semaphore(_READS_AT_A_TIME)
        self._journal = Journal()
        self._read_at = 0.0

    async def me(self, request: Request) -> Response:
        """Who the caller is, and what the page should know of the bridge."""
        principal = await identify(request, self._authenticator, tickets=False)
        if principal.service:
            raise AccessError(403, "SERVICE_KEY", "the service key must never be in a browser: sign in")
        health = self._bridge.health
        body = {
            "user_id": principal.user_id,
            "operator": principal.sees_all,
            "expires_at": principal.expires_at and datetime.fromtimestamp(principal.expires_at, UTC).isoformat(),
            "now": _now().isoformat(),
            "state": health.state,
            "reason": health.reason,
            "milestones": list(self._bridge.settings.milestones),
        }
        return JSONResponse(body, headers=_NO_STORE)

    async def summary(self, request: Request) -> Response:
        """Counts, rates, and what is new in the change log."""
        await self._operator(request)
        after = _after(request)
        counts, _ = await asyncio.gather(
            self._cache.get("counts", 2.0, lambda: self._reads.counts(_now())),
            self._cache.get("journal", 0.0, self._read_journal),
        )
        totals = await self._cache.get("totals", 0.9, self._totals)
        entries = self._new_since(after)
        health = self._bridge.health
        body = {
            **totals,
            "counts": counts,
            "entries": [entry.as_dict() for entry in entries],
            "cursor": f"{self._bridge.epoch}:{self._journal.number}",
            "now": _now().isoformat(),
            "state": health.state,
            "reason": health.describe(),
        }
        return JSONResponse(body, headers=_NO_STORE)

    def _new_since(self, after: tuple[str, int] | None) -> list[Entry]:
        if after is None:
            return self._journal.entries(0, _RECENT)
        epoch, number = after
        # What a page of another run lacks is not known: it gets all that there is room for, and leaves out what it has.
        known = epoch == self._bridge.epoch and number <= self._journal.number
        return self._journal.entries(number if known else 0, _MOST_NEW)

    async def leaderboard(self, request: Request) -> Response:
        """The best current streaks."""
        await self._operator(request)
        board = await self._cache.get("board", 2.0, lambda: self._reads.leaderboard(_BOARD))
        return JSONResponse({"streaks": board}, headers=_NO_STORE)

    async def at_risk(self, request: Request) -> Response:
        """The streaks that lapse within the next hours."""
        await self._operator(request)
        risks = await self._cache.get("risk", 2.0, lambda: self._reads.at_risk(_now(), RISK_HOURS, _RISKS))
        return JSONResponse({"hours": RISK_HOURS, **risks}, headers=_NO_STORE)

    async def users(self, request: Request) -> Response:
        """Users whose id begins as given."""
        principal = await self._operator(request)
        prefix = (single(request, "prefix") or "").lower().replace("-", "")
        if not _PREFIX.fullmatch(prefix):
            raise BadRequest("prefix", "prefix must be the beginning of a user's id: 1 to 32 hexadecimal digits")
        async with self._turns.turn(request, principal):
            found = await self._cache.get(("users", prefix), 5.0, lambda: self._reads.users(prefix, _FOUND))
        return JSONResponse({"users": found}, headers=_NO_STORE)

    async def user(self, request: Request) -> Response:
        """One user's streak, year and history; of oneself, or for an operator."""
        principal = await identify(request, self._authenticator, tickets=False)
        user_id = _user(request, principal)
        # Not kept: the page asks because something has changed.
        async with self._turns.turn(request, principal), self._users:
            return JSONResponse(await self._read_user(user_id), headers=_NO_STORE)

    async def _operator(self, request: Request) -> Principal:
        principal = await identify(request, self._authenticator, tickets=False)
        if not principal.sees_all:
            raise AccessError(403, "FORBIDDEN", "for operators (app_metadata.streak_operator)")
        return principal

    async def _read_user(self, user_id: str) -> dict[str, Any]:
        try:
            rows = await self._bridge.reader.rows_of([user_id])
        except ReadError as error:
            raise AccessError(503, "UNAVAILABLE", error.fault.reason) from error
        now = _now()
        calendar, history = await asyncio.gather(
            self._reads.calendar(user_id, now.date()), self._reads.history(user_id, _CHANGES)
        )
        streak = streak_of(rows.get(user_id), now.timestamp()).as_dict()
        return {
            "user_id": user_id,
            "streak": streak,
            "calendar": calendar,
            "history": history,
            "now": now.isoformat(),
        }

    async def _read_journal(self) -> None:
        now = time.time()
        if now - self._read_at < _JOURNAL_SECONDS:
            return
        if self._journal.since is None or now - self._read_at > _STALE_SECONDS:
            # Nobody looked for a while: the end of the log is cheaper to read than all that was written meanwhile.
            rows, complete = await self._reads.log_tail(datetime.fromtimestamp(now - HOUR, UTC))
            self._journal = self._journal.anew()
            self._journal.begin(rows, now, complete=complete)
        else:
            self._journal.add(await self._reads.log_after(self._journal.start()), now)
        self._read_at = now

    async def _totals(self) -> dict[str, Any]:
        now = time.time()
        since = max(self._journal.since or now, now - HOUR)
        return {
            "minute": self._journal.totals(now, MINUTE),
            "hour": self._journal.totals(now, HOUR),
            "since": datetime.fromtimestamp(since, UTC).isoformat(),
            "per_second": self._journal.per_second(now, _CHART_SECONDS),
        }


def dashboard_routes(bridge: Bridge, authenticator: Authenticator, turns: Turns) -> list[Route]:
    """Build the routes of the dashboard.

    Args:
        bridge: The bridge that runs.
        authenticator: Verifies who asks.
        turns: Holds back who asks too much.

    Returns:
        The page, its files, and its endpoints.
    """
    page = _Dashboard(bridge, authenticator, turns)
    sign_in = SignIn(bridge.auth_http)
    return [
        *file_routes(),
        Route("/dashboard/me", page.me),
        Route("/dashboard/summary", page.summary),
        Route("/dashboard/leaderboard", page.leaderboard),
        Route("/dashboard/at-risk", page.at_risk),
        Route("/dashboard/users", page.users),
        Route("/dashboard/user", page.user),
        Route("/dashboard/sign-in/password", sign_in.password, methods=["POST"]),
        Route("/dashboard/sign-in/code", sign_in.code, methods=["POST"]),
        Route("/dashboard/sign-in/verify", sign_in.verify, methods=["POST"]),
        Route("/dashboard/sign-in/refresh", sign_in.refresh, methods=["POST"]),
    ]


def _now() -> datetime:
    return datetime.now(UTC)


def _user(request: Request, principal: Principal) -> str:
    text = single(request, "user_id")
    named = principal.user_id if text is None else user(text, "user_id")
    if named is None:
        raise BadRequest("user_id", "user_id is required")
    wanted = principal.audience([named])
    assert wanted is not None  # noqa: S101 - somebody was named
    return wanted[0]


def _after(request: Request) -> tuple[str, int] | None:
    """The run of the bridge and the number of the last entry that the page has; None if it has none."""
    return message_id(single(request, "after") or None, "after", "the `cursor` of an earlier answer")
