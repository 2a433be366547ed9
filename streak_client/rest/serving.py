"""Runs the REST API in this process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
from fastapi import FastAPI
from pydantic import SecretStr

from realtime_bridge.auth import Authenticator
from realtime_bridge.settings import BridgeSettings
from streak_client._guard import RateLimit
from streak_client._proxies import is_loopback
from streak_client.async_client import AsyncStreakClient
from streak_client.rest.app import create_app
from streak_client.settings import Settings

AUTH_TIMEOUT = 5.0


@asynccontextmanager
async def rest_app(
    settings: Settings,
    *,
    jwt_secret: str | None = None,
    self_update: bool = False,
    rate_limit: RateLimit | None = None,
) -> AsyncIterator[FastAPI]:
    """Make the REST API with all that it needs.

    Args:
        settings: Where the project is, and its secret key.
        jwt_secret: The legacy secret that signs users' tokens; None trusts only the project's public keys.
        self_update: Whether users may count their own activities, always as of now.
        rate_limit: How many updates of one user are let through; None means the default of 10 a minute.

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
    async with (
        httpx.AsyncClient(timeout=AUTH_TIMEOUT, trust_env=not is_loopback(settings.url)) as http,
        AsyncStreakClient(settings.url, settings.secret_key, rate_limit=rate_limit or RateLimit()) as client,
    ):
        yield create_app(client, Authenticator(project, http), self_update=self_update)
