"""``streaks watch``: live changes in the terminal."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from datetime import datetime

import click
from rich.console import Console
from rich.markup import escape

from streak_client import _inputs
from streak_client.cli._common import messages, output
from streak_client.cli._events import Event, bridge_events
from streak_client.settings import Settings, environment

DEFAULT_BRIDGE = "http://127.0.0.1:54330"
_COLOURS = {
    "started": "green",
    "incremented": "green",
    "milestone": "bold magenta",
    "recovered": "cyan",
    "reset": "yellow",
    "lapsed": "red",
    "delete": "red",
}


@click.command()
@click.argument("users", nargs=-1, metavar="[USER]...")
@click.option("--bridge-url", help=f"The bridge; BRIDGE_URL from the environment or .env, else {DEFAULT_BRIDGE}.")
@click.option(
    "--debounce", type=click.FloatRange(0), help="Seconds of quiet before a user's change is shown; 0: every."
)
@click.option("--max-wait", type=click.FloatRange(0), help="The longest that a change is held back, in seconds.")
@click.option("--json", "as_json", is_flag=True, help="Print each message as one JSON object a line.")
def watch(
    users: tuple[str, ...], bridge_url: str | None, debounce: float | None, max_wait: float | None, as_json: bool
) -> None:
    """Show live changes of the streaks of USERs, or of everybody, until Ctrl-C."""
    params: dict[str, str | list[str]] = {"user_id": [str(user) for user in _inputs.user_ids(users, "USER")]}
    params |= {
        name: str(value) for name, value in (("debounce", debounce), ("max_wait", max_wait)) if value is not None
    }
    url = (bridge_url or environment().get("BRIDGE_URL") or DEFAULT_BRIDGE).rstrip("/")
    key = Settings.from_env().secret_key
    try:
        asyncio.run(_watch(url, key, params, as_json=as_json))
    except KeyboardInterrupt:
        return  # the way to end it


async def _watch(url: str, key: str, params: dict[str, str | list[str]], *, as_json: bool) -> None:
    results, notes = output(), messages()

    def lost(reason: str) -> None:
        notes.print(f"[dim]{url}: {escape(reason)}; connecting again[/dim]")

    async with aclosing(bridge_events(url, key, params, lost)) as events:
        async for event in events:
            if as_json:
                click.echo(json.dumps(event, separators=(",", ":")))
            else:
                _print(results, event)


def _print(console: Console, event: Event) -> None:
    line = describe(event)
    if line:
        console.print(f"[dim]{datetime.now().astimezone():%H:%M:%S}[/dim]  {line}")


def describe(event: Event) -> str:
    """Word a message of the bridge for a terminal.

    Args:
        event: The message.

    Returns:
        One line with rich's markup; empty for a state that says nothing new.
    """
    kind, streak = event.get("type"), event.get("streak") or {}
    if kind in {"state", "reset"}:
        return f"[dim]{kind}: {escape(str(event.get('state') or ''))} {escape(str(event.get('reason') or ''))}[/dim]"
    name = event.get("event") or kind or "?"
    colour = _COLOURS.get(name, "dim" if kind == "snapshot" else "white")
    numbers = f"current {streak['current_streak']:>3}, longest {streak['longest_streak']:>3}" if streak else ""
    return f"{escape(str(event.get('user_id')))}  [{colour}]{escape(name):<12}[/{colour}] {numbers}"
