"""``streaks migrations``: the SQL that travels with the package."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from streak_client import _migrations
from streak_client.cli._common import compact_table, output
from streak_client.cli._options import json_option


@click.group()
def migrations() -> None:
    """List the SQL of this release, or copy it into a project."""


@migrations.command(name="list")
@json_option
def list_command(as_json: bool) -> None:
    """List the migrations of this release in the order in which they are applied."""
    found = _migrations.bundled()
    if as_json:
        for migration in found:
            row = {"version": migration.version, "name": migration.title, "sha256": migration.sha256()}
            click.echo(json.dumps(row, separators=(",", ":")))
        return
    table = compact_table("version", "name", "sha256")
    for migration in found:
        table.add_row(migration.version, migration.title, migration.sha256()[:12])
    output().print(table)


@migrations.command(name="copy")
@click.argument("target", type=click.Path(file_okay=False, path_type=Path), default=Path("supabase"))
@click.option("--force", is_flag=True, help="Replace files of these names that differ.")
@json_option
def copy_command(target: Path, force: bool, as_json: bool) -> None:
    """Copy the migrations into TARGET, the folder supabase/ of a project, and say what is new.

    All or nothing: where a file of the same name differs, nothing is copied without --force. Other files stay as they
    are; config.toml is written only where there is none.
    """
    copied = _migrations.copy(target, force=force)
    for each in copied:
        if as_json:
            click.echo(json.dumps(asdict(each), separators=(",", ":")))
        else:
            click.echo(f"{each.status:<10} {target / each.file}")
    if _migrations.out_of_order(target, copied):
        click.echo(
            "Some of yours are later than the new ones: push with supabase db push --remote --include-all.", err=True
        )
    elif any(each.status != "unchanged" for each in copied):
        click.echo("Now: supabase db push --remote", err=True)
