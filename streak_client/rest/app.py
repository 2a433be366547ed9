"""The ASGI app of the REST API."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, FastAPI, Path, Query, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from pydantic import TypeAdapter

from realtime_bridge.auth import AccessError, Authenticator, Principal
from streak_client import _inputs
from streak_client.async_client import AsyncStreakClient
from streak_client.models import (
    CalendarDay,
    HistoryEntry,
    LeaderboardEntry,
    LeaderboardOrder,
    StreakUpdate,
    UserStreak,
)
from streak_client.rest.boards import Boards, Page
from streak_client.rest.limits import LimitBody
from streak_client.rest.problems import install, problem_of
from streak_client.rest.schemas import ActivityBody, BatchBody, BatchItem, Problem

LEADERBOARD_SECONDS = 300.0
MOST_OFFSET = 10_000
LONGEST_CALENDAR = 366
MOST_ENTRIES = 1_000

# FastAPI's own classes for these would run at each request, to say what is checked in each operation anyway.
_SECURITY = {
    "HTTPBearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "A user's access token, a service_role token, or the secret key.",
    },
    "APIKeyHeader": {"type": "apiKey", "in": "header", "name": "apikey", "description": "The secret key."},
}
_problem: dict[str, Any] = {
    "model": Problem,
    "content": {"application/problem+json": {}},
    "description": "What went wrong",
}
_problems: dict[int | str, dict[str, Any]] = {"4XX": _problem, "5XX": _problem}


class Api:
    """The operations, for one client and one set of rights.

    Args:
        client: Reads and writes streaks.
        authenticator: Tells who asks.
        self_update: Whether users may count their own activities, always as of now.
        leaderboard_seconds: For how long a page of the leaderboard is given again.
    """

    def __init__(
        self, client: AsyncStreakClient, authenticator: Authenticator, *, self_update: bool, leaderboard_seconds: float
    ) -> None:
        self._client = client
        self._authenticator = authenticator
        self._self_update = self_update
        self._boards = Boards(self._load_board, leaderboard_seconds)
        self.router = APIRouter(prefix="/api/streak", responses=_problems)
        add = self.router.add_api_route
        add("/update", self.update, methods=["POST"], response_model=StreakUpdate, summary="Count an activity")
        add(
            "/batch",
            self.batch,
            methods=["POST"],
            response_model=list[BatchItem],
            summary="Count up to 1,000 activities",
        )
        add(
            "/leaderboard",
            self.leaderboard,
            methods=["GET"],
            response_model=list[LeaderboardEntry],
            summary="The best streaks",
        )
        add("/{userId}", self.streak, methods=["GET"], response_model=UserStreak, summary="A user's streak")
        add(
            "/{userId}/history",
            self.history,
            methods=["GET"],
            response_model=list[HistoryEntry],
            summary="What changed a user's streak",
        )
        add(
            "/{userId}/calendar",
            self.calendar,
            methods=["GET"],
            response_model=list[CalendarDay],
            summary="The days that count for a user",
        )

    async def _who(self, request: Request) -> Principal:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        token = token.strip() if scheme.lower() == "bearer" else request.headers.get("apikey", "")
        if not token:
            raise AccessError(401, "TOKEN_REQUIRED", "send Authorization: Bearer <token>, or the secret key as apikey")
        who = await self._authenticator.principal(token)
        if who.user_id is None and not who.service:
            # It came in a dashboard's link, whoever made the authenticator: printed in a terminal, for looking on.
            raise AccessError(401, "INVALID_TOKEN", "the token of a dashboard's link opens the dashboard alone")
        return who

    async def _reader(self, request: Request, user_id: UUID) -> None:
        who = await self._who(request)
        if not who.sees_all and who.user_id != str(user_id):
            raise AccessError(403, "FORBIDDEN", "a user reads that user's streak alone")

    async def update(self, request: Request, body: ActivityBody) -> Response:
        """Count an activity. For the service; for users themselves only where that is switched on, and as of now."""
        who = await self._who(request)
        at = body.activity_at
        if not who.service:
            if not self._self_update or who.user_id != str(body.user_id):
                raise AccessError(403, "FORBIDDEN", "only the service may count activities")
            at = None
        update = await self._client.update_user_streak(
            body.user_id, body.timezone, request_id=body.request_id, activity_at=at
        )
        return _answer(StreakUpdate, update)

    async def batch(self, request: Request, body: BatchBody) -> Response:
        """Count many activities, for the service; each has its own result or error, in the order given."""
        if not (await self._who(request)).service:
            raise AccessError(403, "FORBIDDEN", "only the service may count activities")
        activities = [item.activity(at=item.activity_at) for item in body.activities]
        outcomes = await self._client.update_user_streaks(activities)
        items = [
            BatchItem(result=outcome.result, error=None if outcome.error is None else problem_of(outcome.error))
            for outcome in outcomes
        ]
        return _answer(list[BatchItem], items)

    async def leaderboard(
        self,
        request: Request,
        limit: Annotated[int, Query(ge=1, le=_inputs.MAX_LEADERBOARD_LIMIT)] = 100,
        offset: Annotated[int, Query(ge=0, le=MOST_OFFSET)] = 0,
        order_by: Annotated[LeaderboardOrder, Query(alias="orderBy")] = LeaderboardOrder.CURRENT_STREAK,
    ) -> Response:
        """Give the best streaks, at most a few minutes old, to anybody who is signed in."""
        await self._who(request)
        return _json(await self._boards.get(Page(limit, offset, order_by)))

    async def _load_board(self, page: Page) -> bytes:
        return _dump(list[LeaderboardEntry], await self._client.get_leaderboard(*page))

    async def streak(self, request: Request, user_id: Annotated[UUID, Path(alias="userId")]) -> Response:
        """Give a user's streak as it counts at this moment."""
        await self._reader(request, user_id)
        return _answer(UserStreak, await self._client.get_user_streak(user_id))

    async def history(
        self,
        request: Request,
        user_id: Annotated[UUID, Path(alias="userId")],
        limit: Annotated[int, Query(ge=1, le=MOST_ENTRIES)] = 100,
        before_id: Annotated[int | None, Query(alias="beforeId", ge=0, le=2**63 - 1)] = None,
    ) -> Response:
        """Give the latest changes of a user's streak, newest first."""
        await self._reader(request, user_id)
        return _answer(list[HistoryEntry], await self._client.get_history(user_id, limit, before_id=before_id))

    async def calendar(
        self,
        request: Request,
        user_id: Annotated[UUID, Path(alias="userId")],
        first: Annotated[date, Query(alias="from")],
        last: Annotated[date, Query(alias="to")],
    ) -> Response:
        """Give the days that count for a user, oldest first: at most a year at a time."""
        await self._reader(request, user_id)
        if (last - first).days >= LONGEST_CALENDAR:
            raise _inputs.refuse("last_day", f"must be less than {LONGEST_CALENDAR} days after from")
        return _answer(list[CalendarDay], await self._client.get_calendar(user_id, first, last))


class _App(FastAPI):
    def openapi(self) -> dict[str, Any]:
        """Add to the document who may ask.

        Returns:
            The OpenAPI document.
        """
        document = super().openapi()
        document.setdefault("components", {})["securitySchemes"] = _SECURITY
        document["security"] = [{name: []} for name in _SECURITY]
        return document


# What is answered is already what its model checked: checking it again would take longer than all the rest.
_ANSWERS: dict[Any, TypeAdapter[Any]] = {
    model: TypeAdapter(model)
    for model in (
        StreakUpdate,
        list[BatchItem],
        list[LeaderboardEntry],
        UserStreak,
        list[HistoryEntry],
        list[CalendarDay],
    )
}


def _dump(model: Any, content: object) -> bytes:
    return _ANSWERS[model].dump_json(content)


def _json(body: bytes) -> Response:
    return Response(body, media_type="application/json")


def _answer(model: Any, content: object) -> Response:
    return _json(_dump(model, content))


def _exposition(registry: CollectorRegistry) -> Callable[[Request], Response]:
    def metrics(_: Request) -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return metrics


def create_app(
    client: AsyncStreakClient,
    authenticator: Authenticator,
    *,
    self_update: bool = False,
    leaderboard_seconds: float = LEADERBOARD_SECONDS,
    registry: CollectorRegistry | None = None,
) -> FastAPI:
    """Make the REST API.

    Args:
        client: Reads and writes streaks; its rate guard, if it has one, guards the API.
        authenticator: Tells who asks: Supabase's JWTs (JWKS or the legacy secret) and the secret key.
        self_update: Whether users may count their own activities, always as of now.
        leaderboard_seconds: For how long a page of the leaderboard is given again.
        registry: What ``/metrics`` shows; None leaves it out.

    Returns:
        An ASGI app; ``/openapi.json`` describes it, ``/docs`` shows it.
    """
    app = _App(title="Streaks", summary="Daily streaks, right in every time zone.")
    api = Api(client, authenticator, self_update=self_update, leaderboard_seconds=leaderboard_seconds)
    app.include_router(api.router)
    if registry is not None:
        app.add_route("/metrics", _exposition(registry), include_in_schema=False)
    app.add_middleware(LimitBody)
    install(app)
    return app
