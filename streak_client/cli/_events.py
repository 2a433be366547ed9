"""The bridge's events over SSE, without an end: a lost connection is made again and resumes where it broke."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from typing import Any

import httpx
from httpx_sse import SSEError, aconnect_sse

from streak_client._proxies import is_loopback
from streak_client.cli._common import WRONG_INPUT, CommandError

# The bridge says something every 15 seconds at the latest.
SILENCE = 45.0
FIRST_PAUSE = 0.25
LONGEST_PAUSE = 10.0
_REFUSED = {400, 401, 403, 404}

Event = dict[str, Any]


def _nobody() -> None:
    """Nobody waits for it."""


async def bridge_events(
    bridge_url: str,
    key: str,
    params: Mapping[str, str | list[str]],
    lost: Callable[[str], None],
    connected: Callable[[], None] = _nobody,
) -> AsyncGenerator[Event, None]:
    """Follow a bridge.

    Args:
        bridge_url: Where it listens.
        key: The secret key, or a user's token.
        params: ``user_id`` (repeated), ``debounce`` and ``max_wait`` in seconds.
        lost: Told why, whenever the connection is lost.
        connected: Called whenever the bridge has taken us in; it may have nothing to say then.

    Yields:
        The bridge's messages, for ever.

    Raises:
        CommandError: The bridge refuses the key or a parameter.
    """
    last_id, failures = "", 0
    timeout, trust_env = httpx.Timeout(10.0, read=SILENCE), not is_loopback(bridge_url)
    async with httpx.AsyncClient(timeout=timeout, trust_env=trust_env) as http:
        while True:
            headers = {"Authorization": f"Bearer {key}", **({"Last-Event-ID": last_id} if last_id else {})}
            try:
                async with aclosing(_connection(http, bridge_url, params, headers, connected)) as events:
                    async for event_id, event in events:
                        last_id, failures = event_id or last_id, 0
                        yield event
                reason = "the bridge closed the connection"
            except (httpx.TransportError, SSEError) as error:
                reason = type(error).__name__
            failures += 1
            lost(reason)
            pause = min(FIRST_PAUSE * 2 ** (failures - 1), LONGEST_PAUSE)
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - spreads load, guards nothing


async def _connection(
    http: httpx.AsyncClient,
    bridge_url: str,
    params: Mapping[str, str | list[str]],
    headers: dict[str, str],
    connected: Callable[[], None],
) -> AsyncGenerator[tuple[str, Event], None]:
    async with aconnect_sse(http, "GET", f"{bridge_url}/events", params=dict(params), headers=headers) as source:
        if source.response.status_code in _REFUSED:
            text = (await source.response.aread()).decode(errors="replace")[:300]
            raise CommandError(f"The bridge refuses ({source.response.status_code}): {text}", WRONG_INPUT)
        source.response.raise_for_status()
        connected()
        async for event in source.aiter_sse():
            if event.data:  # a block that only sets `retry` is none
                yield event.id, json.loads(event.data)
