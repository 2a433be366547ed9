"""The bridge's ASGI application, for any server."""

import contextlib
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp, Lifespan, Receive, Scope, Send

from realtime_bridge.access import Limits, Turns, identify, refusal, users_of
from realtime_bridge.auth import AccessError, Authenticator
from realtime_bridge.bridge import Bridge
from realtime_bridge.changes import StreakRow
from realtime_bridge.dashboard import dashboard_routes
from realtime_bridge.health import BridgeState
from realtime_bridge.messages import streak_of
from realtime_bridge.parameters import BadRequest, single, user, whole_number
from realtime_bridge.reader import PAGE_USERS, ReadError
from realtime_bridge.settings import BridgeSettings
from realtime_bridge.shutdown import told_of_signals
from realtime_bridge.sse import Abort, Events
from realtime_bridge.websocket import Sockets
from realtime_bridge.widget import widget_routes

_MOST_ROWS = 1000
_ROWS = 100


class _Surfaces:
    """The small endpoints."""

    def __init__(self, bridge: Bridge, authenticator: Authenticator, limits: Limits, turns: Turns) -> None:
        self._bridge = bridge
        self._authenticator = authenticator
        self._limits = limits
        self._turns = turns
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    async def ticket(self, request: Request) -> Response:
        """A ticket for the caller, to put into the URL of an EventSource or WebSocket."""
        principal = await identify(request, self._authenticator, tickets=False)
        ticket, ends = self._authenticator.ticket(principal)
        body = {"ticket": ticket, "expires_at": datetime.fromtimestamp(ends, UTC).isoformat()}
        return JSONResponse(body, headers={"Cache-Control": "no-store"})

    async def snapshot(self, request: Request) -> Response:
        """The present streaks that the caller may see, a page at a time."""
        principal = await identify(request, self._authenticator, tickets=True)
        wanted = principal.audience(users_of(request))
        limit, after = whole_number(request, "limit", _MOST_ROWS) or _ROWS, _after(request)
        async with self._turns.turn(request, principal):
            epoch, _, seq = self._bridge.head().rpartition(":")
            try:
                rows = await self._rows(wanted, after, limit)
            except ReadError as error:
                raise AccessError(503, "UNAVAILABLE", error.fault.reason) from error
        wall = time.time()
        streaks = [{"user_id": user_id, "streak": streak_of(row, wall, zone).as_dict()} for user_id, row, zone in rows]
        # A short page is no last one: PostgREST may be set to send fewer rows than were asked for.
        more = rows[-1][0] if wanted is None and rows else None
        body = {"epoch": epoch, "seq": int(seq), "streaks": streaks, "next": more}
        return JSONResponse(body, headers={"Cache-Control": "no-store"})

    async def _rows(
        self, wanted: list[str] | None, after: str | None, limit: int
    ) -> list[tuple[str, StreakRow | None, str | None]]:
        reader = self._bridge.reader
        if wanted is None:
            return [(row.user_id, row, None) for row in await reader.page(after, limit)]
        rows = []
        for start in range(0, len(wanted), PAGE_USERS):
            users = wanted[start : start + PAGE_USERS]
            found = await reader.find(users)
            # whose row Python cannot hold is left out: zeros would be wrong
            sure = (user_id for user_id in users if user_id not in found.unreadable)
            rows += [(user_id, found.rows.get(user_id), found.zones.get(user_id)) for user_id in sure]
        return rows

    async def healthz(self, _: Request) -> Response:
        """Whether the process lives."""
        return JSONResponse({"status": "ok"})

    async def readyz(self, _: Request) -> Response:
        """Whether listeners get every change at once."""
        health = self._bridge.health
        ready = health.state in (BridgeState.LIVE, BridgeState.CATCHING_UP)
        body = {"state": health.state, "reason": health.reason, "remedy": health.remedy}
        return JSONResponse(body, 200 if ready else 503, {"Cache-Control": "no-store"})

    async def metrics(self, _: Request) -> Response:
        """The counters, as Prometheus reads them."""
        return Response(generate_latest(self._registry), media_type="text/plain; version=0.0.4; charset=utf-8")

    def collect(self) -> list[Metric]:
        """What Prometheus asks of a collector."""
        families: list[Metric] = [
            CounterMetricFamily(f"streak_bridge_{name}", f"See Counters.{name}.", value)
            for name, value in self._bridge.counters.as_dict().items()
        ]
        families.append(GaugeMetricFamily("streak_bridge_listeners", "Listeners now.", self._bridge.listeners))
        connections = GaugeMetricFamily(
            "streak_bridge_connections", "Listeners' connections over HTTP now.", self._limits.connections
        )
        families.append(connections)
        state = GaugeMetricFamily("streak_bridge_state", "1 for the present state.", labels=["state"])
        for name in BridgeState:
            state.add_metric([name.value], float(name is self._bridge.health.state))
        return [*families, state]


def create_app(bridge: Bridge, *, abort: Abort | None = None) -> Starlette:
    """Build the application around a bridge that runs.

    Args:
        bridge: The bridge, entered by the caller.
        abort: Breaks a connection at once; where the server cannot, its task is cancelled.

    Returns:
        The ASGI application.
    """
    app = _application(bridge.settings)
    _mount(app, bridge, abort)
    return app


def create_app_from_env() -> Starlette:
    """Build the application with a bridge of its own, for any server.

    For example ``uvicorn --factory realtime_bridge.app:create_app_from_env --timeout-graceful-shutdown 5``. When the
    process is told to end, listeners are sent elsewhere at once; the time-out is for those that read nothing.

    Raises:
        SettingsError: A setting is missing or wrong.
    """
    settings = BridgeSettings.from_env()

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with Bridge(settings) as bridge:
            _mount(app, bridge, None)
            with told_of_signals(bridge.stop):
                yield

    return _application(settings, lifespan)


class _Application(Starlette):
    """Starlette, past which the two streams go.

    A connection lasts for hours, and so would the calls of router and middleware around it: kilobytes for each.
    """

    streams: dict[tuple[str, str], ASGIApp]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        streams = getattr(self, "streams", {})
        stream = streams.get((scope["type"], scope.get("path", "")))
        if stream is None or scope.get("method", "GET") != "GET":
            await super().__call__(scope, receive, send)
        else:
            await stream(scope, receive, send)


def _application(settings: BridgeSettings, lifespan: Lifespan[Starlette] | None = None) -> Starlette:
    # Starlette builds its stack of middleware at the first event, which is that of the lifespan: routes may come
    # later, middleware may not.
    return _Application(
        lifespan=lifespan,
        middleware=_middleware(settings),
        exception_handlers={AccessError: _refuse, BadRequest: _refuse},
    )


def _mount(app: Starlette, bridge: Bridge, abort: Abort | None) -> None:
    settings = bridge.settings
    authenticator = Authenticator(settings, bridge.reader.http)
    limits = Limits(settings.max_listeners, settings.max_listeners_per_user)
    turns = Turns()
    surfaces = _Surfaces(bridge, authenticator, limits, turns)
    events, sockets = Events(bridge, authenticator, limits, abort), Sockets(bridge, authenticator, limits, abort)
    if isinstance(app, _Application):
        app.streams = {("http", "/events"): _with_cors(events, settings), ("websocket", "/ws"): sockets}
    app.router.routes.extend(
        [
            Route("/events", events, methods=["GET"]),
            WebSocketRoute("/ws", sockets),
            Route("/ticket", surfaces.ticket, methods=["POST"]),
            Route("/snapshot", surfaces.snapshot),
            Route("/healthz", surfaces.healthz),
            Route("/readyz", surfaces.readyz),
            Route("/metrics", surfaces.metrics),
            *dashboard_routes(bridge, authenticator, turns),
            *widget_routes(settings),
        ]
    )


def _middleware(settings: BridgeSettings) -> list[Middleware]:
    if not settings.allowed_origins:
        return []
    cors = Middleware(
        CORSMiddleware,
        allow_origins=list(settings.allowed_origins),
        allow_methods=["GET", "POST"],
        allow_headers=["Authorization", "apikey", "Last-Event-ID"],
    )
    return [cors]


def _with_cors(app: ASGIApp, settings: BridgeSettings) -> ASGIApp:
    for made in _middleware(settings):
        app = made.cls(app, *made.args, **made.kwargs)
    return app


async def _refuse(_: Request, error: Exception) -> Response:
    assert isinstance(error, AccessError | BadRequest)  # noqa: S101 - registered for these
    return refusal(error)


def _after(request: Request) -> str | None:
    text = single(request, "after")
    return None if text is None else user(text, "after")
