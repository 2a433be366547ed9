"""A bare client of Realtime's protocol, version 1.0.0 unless asked otherwise, for what official clients hide."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import jwt

from local_supabase.realtime import RealtimeServer
from tests.support.realtime_database import SECRET_KEY
from tests.support.realtime_replay import SECRET, WAIT

__all__ = ["Client", "connect", "token"]


def token(role: str, sub: str | None = None, *, expires_in: float = 3600.0) -> str:
    """Mint a token of a role, and of a person."""
    claims: dict[str, Any] = {"role": role, "exp": int(time.time() + expires_in)}
    return jwt.encode(claims | ({"sub": sub} if sub else {}), SECRET, "HS256")


class Client:
    """One socket. Frames are dictionaries whatever the version."""

    def __init__(self, ws: aiohttp.ClientWebSocketResponse, vsn: str) -> None:
        self.ws = ws
        self._vsn = vsn
        self._refs = 0

    async def send(self, topic: str, event: str, payload: Any, *, join_ref: str | None = "1") -> str:
        """Send a frame; return its reference."""
        self._refs += 1
        ref = str(self._refs)
        if self._vsn == "1.0.0":
            frame: Any = {"topic": topic, "event": event, "payload": payload, "ref": ref, "join_ref": join_ref}
        else:
            frame = [join_ref, ref, topic, event, payload]
        await self.ws.send_str(json.dumps(frame))
        return ref

    async def receive(self) -> dict[str, Any]:
        """Return the next frame."""
        raw = json.loads(await asyncio.wait_for(self.ws.receive_str(), WAIT), parse_float=str)
        if isinstance(raw, list):
            raw = dict(zip(("join_ref", "ref", "topic", "event", "payload"), raw, strict=True))
        frame: dict[str, Any] = raw
        return frame

    async def join(
        self,
        topic: str,
        *bindings: dict[str, Any],
        access_token: str | None = None,
        join_ref: str = "1",
        wait: bool = True,
        **config: Any,
    ) -> dict[str, Any]:
        """Join a topic; return the reply. With bindings, also wait until changes flow."""
        payload: dict[str, Any] = {"config": {"postgres_changes": list(bindings), **config}}
        if access_token is not None:
            payload["access_token"] = access_token
        await self.send(topic, "phx_join", payload, join_ref=join_ref)
        reply = await self.receive()
        assert reply["event"] == "phx_reply", reply
        if bindings and wait:
            message = await self.system()
            assert message == "Subscribed to PostgreSQL", message
        result: dict[str, Any] = reply["payload"]
        return result

    async def system(self) -> str:
        """Expect a `system` event; return its message."""
        frame = await self.receive()
        assert frame["event"] == "system", frame
        return str(frame["payload"]["message"])

    async def change(self) -> dict[str, Any]:
        """Expect a change; return its data."""
        frame = await self.receive()
        assert frame["event"] == "postgres_changes", frame
        data: dict[str, Any] = frame["payload"]["data"]
        return data

    async def alive(self) -> bool:
        """Return whether a heartbeat is answered, and nothing else came before the answer."""
        ref = await self.send("phoenix", "heartbeat", {}, join_ref=None)
        frame = await self.receive()
        return (frame["topic"], frame["ref"]) == ("phoenix", ref)

    async def closed(self) -> int | None:
        """Wait for the end of the connection; return the close code, None where there was none."""
        while True:
            message = await asyncio.wait_for(self.ws.receive(), WAIT)
            if message.type is aiohttp.WSMsgType.CLOSE:
                return int(message.data)
            if message.type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR):
                return None


@asynccontextmanager
async def connect(server: RealtimeServer, *, key: str = SECRET_KEY, vsn: str = "1.0.0") -> AsyncIterator[Client]:
    """Open a socket."""
    url = f"http://127.0.0.1:{server.port}/realtime/v1/websocket"
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(url, params={"apikey": key, "vsn": vsn}, max_msg_size=0) as ws,
    ):
        yield Client(ws, vsn)
