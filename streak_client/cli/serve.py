"""``streaks serve``: the REST API."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import click

from streak_client._cache import Caching
from streak_client._guard import RateLimit
from streak_client.cli._common import WRONG_INPUT, CommandError
from streak_client.cli._extras import extra
from streak_client.settings import Settings, environment

API_PORT = 54340


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", default=API_PORT, show_default=True, type=click.IntRange(0, 65535), help="0: any free port.")
@click.option("--self-update", is_flag=True, help="Let users count their own activities, always as of now.")
@click.option("--rate-limit", default="10/minute", show_default=True, help="Updates of one user that are let through.")
@click.option(
    "--rate-store",
    default="memory://",
    envvar="STREAKS_RATE_STORE",
    help="redis://... where several processes share the count; with a password better as STREAKS_RATE_STORE.",
)
@click.option(
    "--cache-store",
    default="memory://",
    envvar="STREAKS_CACHE_STORE",
    help="redis://... where several processes share what they have read; or as STREAKS_CACHE_STORE.",
)
def serve(  # noqa: PLR0913, PLR0917 - options
    host: str, port: int, self_update: bool, rate_limit: str, rate_store: str, cache_store: str
) -> None:
    """Serve the REST API until Ctrl-C; /docs shows it, /openapi.json describes it.

    Prints READY with a JSON object that holds API_URL.

    SUPABASE_JWT_SECRET, if set, is the legacy secret that signs users' tokens. SENTRY_DSN, if set, is where
    errors are reported to, without keys, ids and what requests held.
    """
    settings = Settings.from_env()
    how = {"rate_limit": RateLimit(rate_limit, rate_store), "caching": Caching(store=cache_store)}
    with extra("api"):
        from realtime_bridge import error_reports  # noqa: PLC0415 - only this command needs it
        from realtime_bridge.server import fast_loop  # noqa: PLC0415 - the same
    try:
        error_reports.start("api", environment())
    except error_reports.ErrorReportsError as error:
        raise CommandError(str(error), WRONG_INPUT) from error
    try:
        with asyncio.Runner(loop_factory=fast_loop()) as runner:
            runner.run(_serve(settings, host, port, self_update=self_update, **how))
    finally:
        error_reports.stop()


async def _serve(settings: Settings, host: str, port: int, **how: Any) -> None:
    with extra("api"):
        from streak_client.rest.serving import rest_app, serve_app  # noqa: PLC0415 - only this command needs it
    secret = environment().get("SUPABASE_JWT_SECRET")
    async with rest_app(settings, jwt_secret=secret, **how) as app:
        try:
            async with serve_app(app, host, port, signals=True) as served:
                click.echo(f"READY {json.dumps({'API_URL': served.url})}")
                await served.wait()
        except OSError as error:
            raise CommandError(f"The API cannot use port {port} of {host}: {error.strerror}.", WRONG_INPUT) from error
