"""Runs the REST API in this process."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass

import httpx
import uvicorn
from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from pydantic import SecretStr

from realtime_bridge.auth import Authenticator
from realtime_bridge.server import ServerStoppedError
from realtime_bridge.settings import BridgeSettings
from streak_client._base import DEFAULT_CACHING
from streak_client._cache import Caching
from streak_client._guard import RateLimit
from streak_client._proxies import is_loopback
from streak_client.async_client import AsyncStreakClient
from streak_client.rest.app import create_app
from streak_client.settings import Settings

AUTH_TIMEOUT = 5.0
SHUTDOWN_SECONDS = 5


@asynccontextmanager
async def rest_app(
    settings: Settings,
    *,
    jwt_secret: str | None = None,
    self_update: bool = False,
    rate_limit: RateLimit | None = None,
    caching: Caching | None = DEFAULT_CACHING,
) -> AsyncIterator[FastAPI]:
    """Make the REST API with all that it needs.

    Args:
        settings: Where the project is, and its secret key.
        jwt_secret: The legacy secret that signs users' tokens; None trusts only the project's public keys.
        self_update: Whether users may count their own activities, always as of now.
        rate_limit: How many updates of one user are let through; None means the default of 10 a minute.
        caching: How reads of streaks are cached; None reads each time.

    Yields:
        The ASGI app.

    Raises:
        ConfigurationError: A setting is wrong.
    """
    project = BridgeSettings(
        supabase_url=settings.url,
        supabase_secret_key=SecretStr(settings.secret_key),
        supabase_jwt_secret=SecretStr(jwt_secret) if jwt_secret else None,
    )
    registry = CollectorRegistry()
    async with (
        httpx.AsyncClient(timeout=AUTH_TIMEOUT, trust_env=not is_loopback(settings.url)) as http,
        AsyncStreakClient(
            settings.url,
            settings.secret_key,
            rate_limit=rate_limit or RateLimit(),
            caching=caching,
            registry=registry,
        ) as client,
    ):
        yield create_app(client, Authenticator(project, http), self_update=self_update, registry=registry)


@dataclass(frozen=True, slots=True)
class ServedApi:
    """A REST API that serves.

    Attributes:
        url: Where, such as ``http://127.0.0.1:54340``.
    """

    url: str
    _serving: asyncio.Task[None]

    async def wait(self) -> None:
        """Wait until the server ends.

        Raises:
            ServerStoppedError: It ended by itself.
        """
        await asyncio.wait([self._serving])
        failure = None if self._serving.cancelled() else self._serving.exception()
        raise ServerStoppedError("the REST API's server ended") from failure


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        # Signals belong to whoever runs this process.
        yield


@asynccontextmanager
async def serve_app(app: FastAPI, host: str, port: int, *, signals: bool = False) -> AsyncIterator[ServedApi]:
    """Serve an app while the block runs.

    Args:
        app: The app.
        host: The address to listen on.
        port: 0 picks a free one.
        signals: Whether SIGINT and SIGTERM end the server, and then the process.

    Yields:
        Its URL.

    Raises:
        OSError: The address is taken, or not ours.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with closing(socket.create_server((host, port), family=family)) as listener:
        # No access log: it would hold user ids.
        config = uvicorn.Config(
            app, access_log=False, log_config=None, lifespan="off", timeout_graceful_shutdown=SHUTDOWN_SECONDS
        )
        server = uvicorn.Server(config) if signals else _Server(config)
        serving = asyncio.create_task(server.serve(sockets=[listener]), name="rest-http")
        where = f"[{host}]" if ":" in host else host
        try:
            # The socket listens already: who comes before the server is up waits in its queue.
            yield ServedApi(f"http://{where}:{listener.getsockname()[1]}", serving)
        finally:
            server.should_exit = True
            await asyncio.wait([serving])
