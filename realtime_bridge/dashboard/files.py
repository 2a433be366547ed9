"""The dashboard's files, served from memory under a strict content security policy."""

import hashlib
from importlib import resources

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
#: No script or style but our files, no other address, no framing; and no string ever becomes HTML or code.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
_HEADERS = {
    # The browser asks every time, and is told 304: no build step, so no hashes in names.
    "Cache-Control": "no-cache",
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class _File:
    def __init__(self, body: bytes, media_type: str) -> None:
        self._body = body
        self._headers = {
            **_HEADERS,
            "Content-Type": media_type,
            "ETag": f'"{hashlib.sha256(body).hexdigest()[:32]}"',
        }

    async def __call__(self, request: Request) -> Response:
        """Answer with the file, or say that the browser has it."""
        if self._headers["ETag"] in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=self._headers)
        return Response(self._body, headers=self._headers)


def file_routes() -> list[Route]:
    """Read the files.

    Returns:
        A route for each: the page at ``/``, the others below ``/dashboard/``.
    """
    folder = resources.files("realtime_bridge") / "web" / "dashboard"
    routes = []
    for file in sorted(folder.iterdir(), key=lambda file: file.name):
        media_type = _TYPES.get(f".{file.name.rpartition('.')[2]}")
        if media_type is not None:
            path = "/" if file.name == "index.html" else f"/dashboard/{file.name}"
            routes.append(Route(path, _File(file.read_bytes(), media_type).__call__, methods=["GET"]))
    return routes
