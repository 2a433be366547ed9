"""``streaks watch``: live changes in the terminal."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from contextlib import aclosing
from datetime import datetime

import click
from rich.console import Console
from rich.markup import escape

from streak_client import _inputs
from streak_client.cli._common import messages, output
from streak_client.cli._events import Event, bridge_events
from streak_client.cli._options import FiniteFloat
from streak_client.cli._watch_live import LiveWatch
from streak_client.cli._watch_view import COLOURS
from streak_client.errors import ConfigurationError
from streak_client.settings import check_secret_key, check_url, environment, secret_key_from

DEFAULT_BRIDGE = "http://127.0.0.1:54330"
HINT = "; `streaks up` starts a bridge here, --bridge-url or BRIDGE_URL names another"


@click.command()
@click.argument("users", nargs=-1, metavar="[USER]...")
@click.option("--bridge-url", help=f"The bridge; BRIDGE_URL from the environment or .env, else {DEFAULT_BRIDGE}.")
@click.option("--debounce", type=FiniteFloat(0), help="Seconds of quiet before a user's change is shown; 0: every.")
@click.option("--max-wait", type=FiniteFloat(0), help="The longest that a change is held back, in seconds.")
@click.option("--json", "as_json", is_flag=True, help="Print each message as one JSON object a line.")
@click.option("--plain", is_flag=True, help="One line for each change, as where the output is no terminal.")
def watch(  # noqa: PLR0913, PLR0917 - one for each option
    users: tuple[str, ...],
    bridge_url: str | None,
    debounce: float | None,
    max_wait: float | None,
    as_json: bool,
    plain: bool,
) -> None:
    """Show live changes of the streaks of USERs, or of everybody, until Ctrl-C.

    In a terminal: changes, leaderboard, counters and the state of the bridge, on a screen of their own.

    The bridge is asked with STREAKS_TOKEN, a user's JWT, which shows that user's changes; else with
    SUPABASE_SECRET_KEY.
    """
    params: dict[str, str | list[str]] = {"user_id": [str(user) for user in _inputs.user_ids(users, "USER")]}
    params |= {
        name: str(value) for name, value in (("debounce", debounce), ("max_wait", max_wait)) if value is not None
    }
    values = environment()
    name = "--bridge-url" if bridge_url else "BRIDGE_URL"
    url = check_url(bridge_url or values.get("BRIDGE_URL") or DEFAULT_BRIDGE, name, DEFAULT_BRIDGE)
    key = _credential(values)
    try:
        if not (as_json or plain) and has_screen(output()):
            asyncio.run(LiveWatch(url, key, params, HINT).run(output()))
        else:
            asyncio.run(_watch(url, key, params, as_json=as_json))
    except (KeyboardInterrupt, asyncio.CancelledError):
        return  # the ways to end it


def has_screen(console: Console) -> bool:
    """Say whether a picture can be kept up to date there.

    Args:
        console: Standard output.

    Returns:
        False for a pipe, a file, and a terminal that only prints lines.
    """
    return console.is_terminal and not console.is_dumb_terminal


def _credential(values: Mapping[str, str | None]) -> str:
    if token := (values.get("STREAKS_TOKEN") or "").strip():
        if not token.isascii() or not token.isprintable() or " " in token:
            raise ConfigurationError("STREAKS_TOKEN holds characters that no JWT has; was it pasted whole?")
        return token
    key = secret_key_from(values)
    if key is None:
        raise ConfigurationError("Set SUPABASE_SECRET_KEY, or STREAKS_TOKEN, in the environment or in a .env file.")
    return check_secret_key(key)


async def _watch(url: str, key: str, params: dict[str, str | list[str]], *, as_json: bool) -> None:
    results, notes = output(), messages()
    hint = HINT

    def lost(reason: str) -> None:
        nonlocal hint
        notes.print(f"[dim]{escape(f'{url}: {reason}{hint}')}; connecting again[/dim]", soft_wrap=True)
        hint = ""

    async with aclosing(bridge_events(url, key, params, lost)) as events:
        async for event in events:
            hint = ""
            if as_json:
                click.echo(json.dumps(event, separators=(",", ":")))
            else:
                _print(results, event)


def _print(console: Console, event: Event) -> None:
    line = describe(event)
    if line:
        console.print(f"[dim]{datetime.now().astimezone():%H:%M:%S}[/dim]  {line}", soft_wrap=True)


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
    colour = COLOURS.get(name, "dim" if kind == "snapshot" else "white")
    numbers = f"current {streak['current_streak']:>3}, longest {streak['longest_streak']:>3}" if streak else ""
    return f"{escape(str(event.get('user_id')))}  [{colour}]{escape(name):<12}[/{colour}] {numbers}"
