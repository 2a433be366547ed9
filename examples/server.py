# ruff: noqa: INP001 - a program, no package
"""A small platform that shows `<streak-widget>`: pages, sessions and the REST API on one origin, the bridge on another.

    uv run streaks up --env-file .env          # in one terminal
    uv run python examples/server.py           # in another, then open http://127.0.0.1:54350/

Signing in is a cookie with a name here; a real platform has its own sessions, or Supabase Auth's. What counts is
`GET /session`: it gives the browser the signed-in user's access token, never the secret key.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from uuid import NAMESPACE_DNS, UUID, uuid5

import jwt
from pydantic import SecretStr
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp

from realtime_bridge import BridgeSettings, serve
from streak_client import Settings
from streak_client.cli._users import create_users
from streak_client.rest.serving import rest_app, serve_app
from streak_client.settings import environment

PORT = 54350
HERE = Path(__file__).parent
#: Where the pages say that the bridge is; replaced by where it really is.
BRIDGE_IN_PAGES = "http://127.0.0.1:54330"
_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript"}


@dataclass(frozen=True)
class Platform:
    """What the pages need.

    Attributes:
        bridge_url: The bridge, which must allow this platform's origin.
        jwt_secret: Signs the users' access tokens.
        users: Ids by name.
        bundles: Holds ``main.js``, the React example as esbuild left it.
        token_seconds: For how long an access token is good.
    """

    bridge_url: str
    jwt_secret: str
    users: Mapping[str, UUID]
    bundles: Path = HERE / "react/build"
    token_seconds: float = 3600.0

    def app(self, api: ASGIApp) -> Starlette:
        """Make the application.

        Args:
            api: The REST API, for users too (``self_update``).

        Returns:
            The ASGI application.
        """
        pages = {"/": HERE / "widget.html", "/widget.js": HERE / "widget.js", "/page.css": HERE / "page.css"}
        pages |= {"/react/": HERE / "react/index.html", "/react/main.js": self.bundles / "main.js"}
        routes = [Route(path, self._page(file)) for path, file in pages.items()]
        routes += [Route("/session", self.session), Route("/sign-in", self.sign_in)]
        routes += [Route("/favicon.ico", lambda _: Response(status_code=204))]
        return Starlette(routes=[*routes, Mount("/", api)])

    async def session(self, request: Request) -> Response:
        """Give the browser who is signed in, and the access token that shows it to bridge and API."""
        user = self.users.get(request.cookies.get("name", next(iter(self.users))))
        if user is None:
            return JSONResponse({"error": {"code": "SIGNED_OUT", "message": "nobody is signed in"}}, 401)
        ends = time.time() + self.token_seconds
        claims = {"sub": str(user), "role": "authenticated", "aud": "authenticated", "exp": ends}
        token = jwt.encode(claims, self.jwt_secret, algorithm="HS256")
        return JSONResponse({"userId": str(user), "token": token}, headers={"Cache-Control": "no-store"})

    async def sign_in(self, request: Request) -> Response:
        """Sign in by name."""
        response = RedirectResponse(request.query_params.get("to", "/") if _is_local(request) else "/", 303)
        response.set_cookie("name", request.query_params.get("name", ""), httponly=True, samesite="lax")
        return response

    def _page(self, file: Path) -> Callable[[Request], Response]:
        policy = self._policy()

        def respond(_: Request) -> Response:
            if not file.exists():
                return Response("Build it first: npm install && npm run build, in examples/react.", 404)
            text = file.read_text(encoding="utf-8").replace(BRIDGE_IN_PAGES, self.bridge_url)
            headers = {"Content-Security-Policy": policy, "Cache-Control": "no-store"}
            return Response(text, media_type=_TYPES[file.suffix], headers=headers)

        return respond

    def _policy(self) -> str:
        """The strictest policy under which both examples work: nothing inline, and Trusted Types."""
        sockets = self.bridge_url.replace("http", "ws", 1)
        return (
            f"default-src 'none'; script-src 'self' {self.bridge_url}; style-src 'self'; "
            f"connect-src 'self' {self.bridge_url} {sockets}; img-src 'self'; base-uri 'none'; form-action 'none'; "
            "frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
        )


def _is_local(request: Request) -> bool:
    target = request.query_params.get("to", "/")
    return target.startswith("/") and not target.startswith(("//", "/\\"))


async def main() -> None:
    """Serve until Ctrl-C, with a bridge that allows these pages."""
    values, settings = environment(), Settings.from_env()
    secret, database = values.get("SUPABASE_JWT_SECRET"), values.get("DATABASE_URL")
    if not secret or not database:
        sys.exit("Set SUPABASE_JWT_SECRET and DATABASE_URL; `streaks up --env-file .env` writes them.")
    users = {name: uuid5(NAMESPACE_DNS, f"{name}.example") for name in ("ada", "grace")}
    await create_users(database, list(users.values()))
    origins = tuple(f"http://{host}:{PORT}" for host in ("127.0.0.1", "localhost"))
    of_bridge = BridgeSettings(
        supabase_url=settings.url,
        supabase_secret_key=SecretStr(settings.secret_key),
        supabase_jwt_secret=SecretStr(secret),
        port=0,
        debounce=0.5,
        allowed_origins=origins,
    )
    async with serve(of_bridge) as bridge, rest_app(settings, jwt_secret=secret, self_update=True) as api:
        platform = Platform(bridge.url, secret, users)
        async with serve_app(platform.app(api), "127.0.0.1", PORT, signals=True) as served:
            print(f"{served.url}/ and {served.url}/react/ ({served.url}/sign-in?name=grace is another user)")  # noqa: T201
            await asyncio.wait([asyncio.ensure_future(bridge.wait()), asyncio.ensure_future(served.wait())])


if __name__ == "__main__":
    asyncio.run(main())
