"""The bridge of the soak and its listeners: some stay, others come and go all the time."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import sys
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import httpx
import websockets

from local_supabase.stack import StackInfo
from tests.soak.jobs import working
from tests.support.bridge import Follower, over_sse, over_websocket, running
from tests.support.stack import ROOT, user_token

Source = Callable[..., AsyncIterator[dict[str, Any]]]
KEPT = 20


@dataclass
class BridgeProcess:
    """The bridge's process, from outside."""

    process: asyncio.subprocess.Process
    url: str = ""

    async def census(self) -> dict[str, int]:
        """Ask what it holds."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"\n")
        counts: dict[str, int] = await self._line()
        return counts

    async def _line(self) -> Any:
        assert self.process.stdout is not None
        async with asyncio.timeout(60):
            return json.loads(await self.process.stdout.readline())


@contextlib.asynccontextmanager
async def bridge_process(stack: StackInfo, folder: Path) -> AsyncIterator[BridgeProcess]:
    """A bridge in a process of its own while the block runs; short time-outs stand for the long ones of production."""
    values = {
        "PYTHONPATH": str(ROOT),
        "SUPABASE_URL": stack.supabase_url,
        "SUPABASE_SECRET_KEY": stack.secret_key,
        "SUPABASE_JWT_SECRET": stack.jwt_secret,
        "BRIDGE_RECONCILE_INTERVAL": "1",
        "BRIDGE_READY_TIMEOUT": "10",
        "BRIDGE_REST_TIMEOUT": "3",
    }
    with (folder / "bridge.log").open("w") as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.soak.bridge_program"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            cwd=ROOT,
            env={**os.environ, **values},
        )
    bridge = BridgeProcess(process)
    try:
        bridge.url = (await bridge._line())["url"]  # noqa: SLF001 - its first line
        yield bridge
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            async with asyncio.timeout(20):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


@dataclass
class Regular(Follower):
    """A follower for a long time: it keeps few messages, and no users who are gone unless it follows them by name."""

    def hear(self, message: dict[str, Any]) -> None:
        """Believe a message."""
        super().hear(message)
        del self.messages[:-KEPT], self.arrivals[:-KEPT]
        if message["type"] == "delete" and self.users is None:
            self.states.pop(message["user_id"], None)


@dataclass
class Audience:
    """Listeners of one bridge.

    Attributes:
        stack: Signs the tokens of users.
        url: The bridge's.
        users: Whom the listeners follow by name.
        regulars: Those who stay.
        counts: How many came and went.
    """

    stack: StackInfo
    url: str
    users: list[str]
    regulars: list[Regular] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    @contextlib.asynccontextmanager
    async def seated(self) -> AsyncIterator[None]:
        """Keep the regulars listening while the block runs: to all and to some, over both transports."""
        half = len(self.users) // 2
        wishes: list[tuple[str, Source, Sequence[str] | None, dict[str, Any]]] = [
            ("all", over_sse, None, {"debounce": 0}),
            ("all, debounced", over_websocket, None, {}),
            ("some", over_sse, self.users[:half], {}),
            ("others", over_websocket, self.users[half:], {"debounce": 0}),
            *((f"own {n}", over_sse, [user], {"debounce": 0}) for n, user in enumerate(self.users[:10])),
        ]
        async with contextlib.AsyncExitStack() as exits:
            for name, source, users, options in wishes:
                follower = Regular(name, None if users is None else list(users))
                self.regulars.append(follower)
                await exits.enter_async_context(running(follower, self._for_ever(follower, source, options)))
            yield

    async def _for_ever(
        self, follower: Regular, source: Source, options: dict[str, Any]
    ) -> AsyncIterator[dict[str, Any]]:
        """Listen, and come back after every end with the last message's id, as browsers do."""
        while True:
            with contextlib.suppress(httpx.HTTPError, websockets.WebSocketException, OSError):
                token = self._token(follower)
                async for message in source(self.url, token, follower.users, since=follower.last_id, **options):
                    yield message
            self.counts["came back"] += 1
            await asyncio.sleep(0.2)

    def _token(self, follower: Regular) -> str:
        own = follower.users is not None and len(follower.users) == 1
        return user_token(self.stack, follower.users[0], expires_in=7200) if own else self.stack.secret_key  # type: ignore[index]

    def passing(self, at_once: int) -> contextlib.AbstractAsyncContextManager[None]:
        """Let listeners come, hear something and go while the block runs."""
        return working(*(self._come_and_go() for _ in range(at_once)))

    async def _come_and_go(self) -> None:
        while True:
            user, source = random.choice(self.users), random.choice([over_sse, over_websocket])
            token = user_token(self.stack, user)
            with contextlib.suppress(httpx.HTTPError, websockets.WebSocketException, OSError):
                heard = cast("AsyncGenerator[dict[str, Any], None]", source(self.url, token, [user]))
                async with contextlib.aclosing(heard) as messages:
                    await anext(messages)
                    self.counts["passed"] += 1
            await asyncio.sleep(random.random() / 2)
