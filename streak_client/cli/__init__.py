"""The ``streaks`` command.

Exit status: 0 for success, 1 when the service failed, 2 when an argument or a setting is wrong.
"""

from __future__ import annotations

import click

from streak_client.cli._common import CleanGroup
from streak_client.cli.reads import calendar, history, leaderboard
from streak_client.cli.replay import replay
from streak_client.cli.serve import serve
from streak_client.cli.show import show
from streak_client.cli.up import up
from streak_client.cli.watch import watch
from streak_client.cli.writes import import_file, outbox, recover, update


@click.group(cls=CleanGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="supabase-streaks")
def main() -> None:
    """Daily streaks on Supabase: counted once, right in every time zone, live on every dashboard.

    SUPABASE_URL and SUPABASE_SECRET_KEY are read from the environment or a .env file.
    """


for command in (up, replay, watch, show, update, leaderboard, history, calendar, import_file, recover, outbox, serve):
    main.add_command(command)

__all__ = ["main"]
