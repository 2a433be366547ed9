"""Refuses bodies that no request here needs, before they fill the memory."""

from __future__ import annotations

from contextlib import suppress
from http import HTTPStatus

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from streak_client.rest.problems import plain_problem

# A thousand activities with every field at the longest that means anything.
MOST_BYTES = 1024 * 1024


class _TooLargeError(Exception):
    """The body has grown beyond the limit."""


class LimitBody:
    """Answers 413 to requests with more than 1 MiB.

    Args:
        app: What comes behind.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        length = dict(scope["headers"]).get(b"content-length", b"")
        if length.isdigit() and int(length) > MOST_BYTES:
            await _refuse(scope, receive, send)
            return
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > MOST_BYTES:
                raise _TooLargeError
            return message

        async def unless_refused(message: Message) -> None:
            # Whoever reads the body may take our error for a malformed body, and answer so.
            if seen <= MOST_BYTES:
                await send(message)

        with suppress(_TooLargeError):
            await self._app(scope, counted, unless_refused)
        if seen > MOST_BYTES:
            await _refuse(scope, receive, send)


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    await plain_problem(status, "TOO_LARGE", f"at most {MOST_BYTES} bytes")(scope, receive, send)
