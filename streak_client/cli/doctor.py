"""``streaks doctor``: is everything in place, and what mends it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator

import click
from pydantic import SecretStr

from streak_client._doctor import Finding, examine
from streak_client._operations import Diagnosis, Operator
from streak_client.cli._common import CommandError, output
from streak_client.cli._options import json_option, print_json
from streak_client.settings import Settings, environment

LIVE_SECONDS = 15.0
MARKS = {"ok": "[green]ok[/]", "failed": "[red]failed[/]", "skipped": "[yellow]skipped[/]"}
MARKS_OF_DATABASE = MARKS | {"warning": "[yellow]look[/]", "info": "[cyan]info[/]"}


@click.command()
@click.option("--database", is_flag=True, help="Ask the database instead: gaps, duplicates, hot users, slow queries.")
@click.option(
    "--limit", default=5, show_default=True, type=click.IntRange(1, 1000), help="Rows of each with --database."
)
@json_option
def doctor(database: bool, limit: int, as_json: bool) -> None:
    """Check key, schema, rights, publication and clock, and say what mends each.

    Nothing is written. The exit status is 1 if a check failed. SUPABASE_PUBLISHABLE_KEY, if set, is checked too: it
    must not be able to write. With --database the database looks for what is inconsistent in its rows (a failure), what
    wants a look, and what is only to be read.
    """
    settings = Settings.from_env()
    if database:
        _diagnose(settings, limit, as_json=as_json)
        return
    failed = 0
    for finding in _findings(settings):
        failed += finding.status == "failed"
        if as_json:
            click.echo(json.dumps(finding.as_dict(), separators=(",", ":")))
        else:
            _print(finding)
    if failed:
        raise CommandError(f"{failed} of the checks failed.")


def _diagnose(settings: Settings, limit: int, *, as_json: bool) -> None:
    with Operator(settings) as operator:
        found = operator.diagnose(limit)
    if as_json:
        print_json(found)
    else:
        for one in found:
            _print_diagnosis(one)
    if failed := [one.check_name for one in found if one.status == "failed"]:
        raise CommandError(f"Inconsistent: {', '.join(failed)}.")


def _print_diagnosis(one: Diagnosis) -> None:
    console = output()
    console.print(f"{MARKS_OF_DATABASE[one.status]:<20}", f"{one.check_name}:", end=" ")
    console.print("none" if one.status == "ok" else one.detail, markup=False)
    for row in one.sample:
        console.print(
            "         " + ", ".join(f"{key} {value}" for key, value in row.items()), markup=False, soft_wrap=True
        )


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
