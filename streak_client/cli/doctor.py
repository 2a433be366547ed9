"""``streaks doctor``: is everything in place, and what mends it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import click
from pydantic import SecretStr

from streak_client._doctor import Finding, examine
from streak_client.cli._common import CommandError, output
from streak_client.cli._options import json_option
from streak_client.settings import Settings, environment

LIVE_SECONDS = 15.0
MARKS = {"ok": "[green]ok[/]", "failed": "[red]failed[/]", "skipped": "[yellow]skipped[/]"}


@click.command()
@json_option
def doctor(as_json: bool) -> None:
    """Check key, schema, rights, publication and clock, and say what mends each.

    Nothing is written. The exit status is 1 if a check failed. SUPABASE_PUBLISHABLE_KEY, if set, is checked too: it
    must not be able to write.
    """
    settings = Settings.from_env()
    failed = 0
    for finding in _findings(settings):
        failed += finding.status == "failed"
        if as_json:
            click.echo(json.dumps(finding.as_dict(), separators=(",", ":")))
        else:
            _print(finding)
    if failed:
        raise CommandError(f"{failed} of the checks failed.")


def _findings(settings: Settings) -> Iterator[Finding]:
    fatal = False
    for finding in examine(settings, environment().get("SUPABASE_PUBLISHABLE_KEY")):
        fatal = fatal or finding.status == "failed"
        yield finding
    if fatal:
        yield Finding("publication", "skipped", "mend the rest first")
    else:
        yield asyncio.run(_publication(settings))


async def _publication(settings: Settings) -> Finding:
    try:
        from realtime_bridge import Bridge, BridgeSettings  # noqa: PLC0415 - an extra, needed for this check alone
    except ModuleNotFoundError as error:
        return Finding("publication", "skipped", f'needs {error.name}: install "supabase-streaks[bridge]"')
    options = BridgeSettings(supabase_url=settings.url, supabase_secret_key=SecretStr(settings.secret_key))
    async with Bridge(options) as bridge:
        try:
            await bridge.wait_live(LIVE_SECONDS)
        except TimeoutError:
            remedy = bridge.health.remedy or "Check that Realtime is enabled for the project."
            return Finding("publication", "failed", bridge.health.reason or "Realtime does not answer", remedy)
    return Finding("publication", "ok", "Realtime publishes user_streaks")


def _print(finding: Finding) -> None:
    console = output()
    console.print(f"{MARKS[finding.status]:<20}", f"{finding.check}:", end=" ")
    console.print(finding.detail, markup=False)
    if finding.remedy:
        console.print(f"         {finding.remedy}", markup=False)
