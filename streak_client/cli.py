"""The ``streaks`` command."""

import click


@click.group()
def main() -> None:
    """Daily streaks on Supabase."""
