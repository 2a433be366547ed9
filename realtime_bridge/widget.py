"""``/streak-widget.js``: the custom element for any page, its types, and what it must know of this bridge.

All of it is public: it holds no user's data, so that any page may load it. What a page then hears is decided as for
every listener, by its ticket and by ``allowed_origins``.
"""

import hashlib
from datetime import UTC, datetime
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from realtime_bridge.settings import BridgeSettings

# `mimetypes` takes .ts for video, and .js for what the machine's own table says.
_FILES = {
    "streak-widget.js": "text/javascript; charset=utf-8",
    "streak-widget.d.ts": "text/plain; charset=utf-8",
}
_ANY_PAGE = {
    "Access-Control-Allow-Origin": "*",
    "Cross-Origin-Resource-Policy": "cross-origin",
    "X-Content-Type-Options": "nosniff",
}
# Pages pick up a new version within minutes; meanwhile, and while the bridge is away, they start with what they have.
_CACHING = "public, max-age=300, stale-while-revalidate=86400, stale-if-error=86400"


class _File:
    """A file of the package, known by its content: every bridge of one version gives it the same tag."""

    def __init__(self, name: str, media_type: str) -> None:
        self._body = files("realtime_bridge").joinpath("web", name).read_bytes()
        self._media_type = media_type
        self._tag = f'"{hashlib.sha256(self._body).hexdigest()[:32]}"'

    async def respond(self, request: Request) -> Response:
        headers = {**_ANY_PAGE, "Cache-Control": _CACHING, "ETag": self._tag}
        if _holds(request.headers.get("if-none-match", ""), self._tag):
            return Response(status_code=304, headers=headers)
        return Response(self._body, headers=headers, media_type=self._media_type)


def _holds(tags: str, tag: str) -> bool:
    # A proxy that compresses the file makes the tag a weak one.
    known = [part.strip().removeprefix("W/") for part in tags.split(",")]
    return tag in known or "*" in known


def widget_routes(settings: BridgeSettings) -> list[Route]:
    """Make the routes of the widget.

    Args:
        settings: Of the bridge.

    Returns:
        The file, its types, and ``/streak-widget.json``.
    """

    async def facts(_: Request) -> Response:
        body = {"now": datetime.now(UTC).isoformat(), "milestones": sorted(settings.milestones)}
        return JSONResponse(body, headers={**_ANY_PAGE, "Cache-Control": "no-store"})

    routes = [Route(f"/{name}", _File(name, media_type).respond) for name, media_type in _FILES.items()]
    return [*routes, Route("/streak-widget.json", facts)]
