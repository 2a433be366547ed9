"""Broadcasts over HTTP: a batch of messages, or one message whose topic and event are in the path."""

import logging
from typing import Any

from aiohttp import web

from .database_errors import DATABASE_ERRORS
from .phoenix import UserBroadcast
from .realtime_bindings import claims_text
from .realtime_hub import Hub
from .realtime_tokens import Claims, TokenError
from .rls import channel_allowed

__all__ = ["Broadcasts"]

_log = logging.getLogger(__name__)


class Broadcasts:
    """The HTTP handlers.

    Args:
        hub: What the server's channels share.
    """

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    async def batch(self, request: web.Request) -> web.Response:
        """Send `{"messages": [{"topic", "event", "payload", "private"}]}`; 202, or 401 or 422 and nothing is sent."""
        claims = self._claims(request)
        if claims is None:
            return _unauthorized()
        try:
            body = await request.json()
        except ValueError:
            return web.json_response({"errors": {"messages": ["is invalid"]}}, status=422)
        messages = body.get("messages") if isinstance(body, dict) else None
        if not isinstance(messages, list) or not messages:
            return web.json_response({"errors": {"messages": ["can't be blank"]}}, status=422)
        errors = [_errors(message) for message in messages]
        if any(errors):
            return web.json_response({"errors": {"messages": errors}}, status=422)
        for message in messages:
            payload = {"type": "broadcast", "event": message["event"], "payload": message["payload"]}
            await self._send(message["topic"], payload, claims, private=message.get("private") is True)
        return web.Response(status=202)

    async def single(self, request: web.Request) -> web.Response:
        """Send the body, JSON or (as `application/octet-stream`) bytes, to the topic and as the event of the path."""
        claims = self._claims(request)
        if claims is None:
            return _unauthorized()
        topic, event = request.match_info["topic"], request.match_info["event"]
        private = request.query.get("private") == "true"
        payload: object
        if request.content_type == "application/octet-stream":
            payload = UserBroadcast(event, is_json=False, data=await request.read())
        else:
            try:
                payload = {"type": "broadcast", "event": event, "payload": await request.json()}
            except ValueError:
                return web.json_response({"error": "the body is not JSON"}, status=422)
        await self._send(topic, payload, claims, private=private)
        return web.Response(status=202)

    def _claims(self, request: web.Request) -> Claims | None:
        bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
        key = bearer or request.headers.get("apikey", "")
        try:
            return self._hub.tokens.claims(key)
        except TokenError:
            return None

    async def _send(self, name: str, payload: object, claims: Claims, *, private: bool) -> None:
        """Send to a topic; on a private one only what the sender may write, and otherwise nothing, as on the server."""
        topic = self._hub.topics.get((f"realtime:{name}", private))
        if topic is None or (private and not await self._may_write(name, claims)):
            return
        for member in list(topic.members):
            member.hear(payload)

    async def _may_write(self, name: str, claims: Claims) -> bool:
        role, text = str(claims["role"]), claims_text(claims)
        try:
            async with self._hub.connection() as connection:
                return await channel_allowed(connection, name, role, text, extension="broadcast", write=True)
        except DATABASE_ERRORS as error:
            _log.warning("a private broadcast was not sent: %s", type(error).__name__)
            return False


def _unauthorized() -> web.Response:
    return web.json_response({"error": "Unauthorized"}, status=401)


def _errors(message: object) -> dict[str, list[str]]:
    """Return what is wrong with a message, by field."""
    kinds: dict[str, type] = {"topic": str, "event": str, "payload": dict}
    fields: dict[str, Any] = message if isinstance(message, dict) else {}
    return {
        name: ["can't be blank"] if fields.get(name) is None else ["is invalid"]
        for name, kind in kinds.items()
        if not isinstance(fields.get(name), kind)
    }
