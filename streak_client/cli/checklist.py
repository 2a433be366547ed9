"""``streaks checklist``: what has to be in place before users come."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping

import click

from streak_client._checklist import inspect
from streak_client._database import connected, database_url
from streak_client._doctor import Finding
from streak_client._reachable import PAGES, logging_of, pages
from streak_client.cli._common import CommandError
from streak_client.cli._options import json_option
from streak_client.settings import environment

MARKS = {"ok": "[x]", "failed": "[ ]", "skipped": "[-]"}
CHECKS = (
    *("migrations", "publication", "indexes", "row security", "sweep", "data volume", "logging"),
    *(page.check for page in PAGES),
)


@click.command()
@click.option("--skip", multiple=True, type=click.Choice(CHECKS), help="A check that does not apply; repeatable.")
@json_option
def checklist(skip: tuple[str, ...], as_json: bool) -> None:
    """Check what has to be in place before users come, and say what mends what is missing.

    Through DATABASE_URL: migrations, publication, indexes by explain, row level security, sweep and data volume.
    Through BRIDGE_URL, API_URL, PROMETHEUS_URL and GRAFANA_URL: dashboards and metrics. SENTRY_DSN: error reports.
    Nothing is written. The exit status is 1 if something is missing.
    """
    values = environment()
    missing = 0
    for finding in _findings(values, set(skip)):
        missing += finding.status == "failed"
        if as_json:
            click.echo(json.dumps(finding.as_dict(), separators=(",", ":")))
        else:
            remedy = f"\n    {finding.remedy}" if finding.remedy else ""
            click.echo(f"{MARKS[finding.status]} {finding.check}: {finding.detail}{remedy}")
    if missing:
        raise CommandError(f"{missing} of the checks failed.")


def _findings(values: Mapping[str, str | None], skip: set[str]) -> Iterator[Finding]:
    found = [*asyncio.run(_database(database_url(values))), logging_of(values), *pages(values)]
    for finding in found:
        yield Finding(finding.check, "skipped", "as asked") if finding.check in skip else finding


async def _database(url: str) -> list[Finding]:
    async with connected(url) as connection:
        return [finding async for finding in inspect(connection)]
