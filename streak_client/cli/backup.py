"""``streaks backup`` and ``streaks restore``."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import click

from streak_client._backup.archive import Manifest, Table
from streak_client._backup.dump import back_up
from streak_client._backup.restore import Plan, restore
from streak_client._database import database_url
from streak_client.cli._common import CommandError
from streak_client.settings import environment

T = TypeVar("T")
STREAKS = "public.user_streaks"


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
def backup(file: Path, force: bool) -> None:
    """Write all streaks, as of one moment, into FILE, which only you can read.

    DATABASE_URL names the database. Rows are read by COPY, so no pg_dump of the server's version is needed. FILE holds
    user ids, and neither addresses nor passwords; it is whole or absent.
    """
    url = database_url(environment())
    manifest = _run(back_up(url, file, force=force, say=_say))
    click.echo(f"{file}: {_summary(manifest)}")


@click.command(name="restore")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--create-users", is_flag=True, help="Make users whom auth.users lacks: an id, and nothing else.")
@click.option("--replace", is_flag=True, help="Delete every streak that the database has now.")
@click.option("--dry-run", is_flag=True, help="Check FILE and database by doing it all and taking it back.")
def restore_command(file: Path, create_users: bool, replace: bool, dry_run: bool) -> None:
    """Put the streaks of FILE into a migrated database: all or none.

    DATABASE_URL names the database, as the owner of its tables. Without --replace it must have no streaks.
    Updates wait until it is done, of a dry run too.
    """
    url = database_url(environment())
    manifest = _run(restore(url, file, Plan(create_users, replace, dry_run), _say))
    click.echo(f"{'Could restore' if dry_run else 'Restored'}: {_summary(manifest)}")


def _say(table: Table) -> None:
    click.echo(f"{table.rows:>12} rows  {table.name}", err=True)


def _summary(manifest: Manifest) -> str:
    return f"{manifest.rows(STREAKS)} streaks as of {manifest.created_at.isoformat(timespec='seconds')}"


def _run(work: Coroutine[object, object, T]) -> T:
    """Run it so that SIGTERM, too, leaves no half file and no half restore."""

    async def guarded() -> T:
        task = asyncio.ensure_future(work)
        # Not everywhere: Windows has no such signal, and only the main thread hears of any.
        with suppress(NotImplementedError, RuntimeError, ValueError):
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        return await task

    try:
        return asyncio.run(guarded())
    except asyncio.CancelledError:
        raise CommandError("Stopped; nothing was left half-done.") from None
