"""The ``streaks`` command.

Exit status: 0 for success, 1 when the service failed, 2 when an argument or a setting is wrong.
"""

from __future__ import annotations

import click

from streak_client.cli._lazy import LazyGroup, Place

PLACES = {
    "up": Place(
        "up",
        "up",
        "Start a local Supabase, the bridge and the REST API, print READY with URLs and keys, and run until Ctrl-C.",
    ),
    "replay": Place(
        "replay",
        "replay",
        "Count the activities of FILE, a CSV file with the columns user_id, occurred_at and timezone.",
    ),
    "watch": Place("watch", "watch", "Show live changes of the streaks of USERs, or of everybody, until Ctrl-C."),
    "show": Place("show", "show", "Show the streak of USER (a user id) as it counts at this moment."),
    "update": Place("writes", "update", "Count an activity of USER."),
    "leaderboard": Place("reads", "leaderboard", "Show the best streaks."),
    "history": Place(
        "reads", "history", "Show why the streak of USER is what it is: its latest changes, newest first."
    ),
    "calendar": Place("reads", "calendar", "Show the days that count for USER: a year as a heat map."),
    "import": Place(
        "writes",
        "import_file",
        "Enter the activities of FILE, of any age, in bulk; importing it again changes nothing.",
    ),
    "recover": Place("writes", "recover", "Enter missed days of USER as repaired, so that the streak goes on."),
    "explain": Place("explain", "explain", "Say why the streak of USER is what it is, and why the one before broke."),
    "repair": Place("repair", "repair", "Give back the days that an outage took: a dry run, unless told to --apply."),
    "undo": Place("operate", "undo", "Take a day of USER out of the ledger, as if nothing had counted on it."),
    "merge": Place("operate", "merge", "Give all days of the user FROM to the user INTO."),
    "export": Place("operate", "export", "Print all that streaks hold of USER as one JSON document."),
    "erase": Place("operate", "erase", "Remove all that streaks hold of USER, who stays signed up."),
    "archive": Place("operate", "archive", "Move old history out of the way in batches."),
    "outbox": Place("writes", "outbox", "Look into LOCATION, the outbox of a client, and send what waits there."),
    "serve": Place("serve", "serve", "Serve the REST API until Ctrl-C; /docs shows it, /openapi.json describes it."),
    "backup": Place("backup", "backup", "Write all streaks, as of one moment, into FILE, which only you can read."),
    "restore": Place("backup", "restore_command", "Put the streaks of FILE into a migrated database: all or none."),
    "migrations": Place("migrations", "migrations", "List the SQL of this release, or copy it into a project."),
    "checklist": Place(
        "checklist",
        "checklist",
        "Check what has to be in place before users come, and say what mends what is missing.",
    ),
    "doctor": Place("doctor", "doctor", "Check key, schema, rights, publication and clock, and say what mends each."),
    "bench": Place("bench", "bench", "Run the benchmarks in a short form and write a page with tables and plots."),
}


@click.group(cls=LazyGroup, places=PLACES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="supabase-streaks")
def main() -> None:
    """Daily streaks on Supabase: counted once, right in every time zone, live on every dashboard.

    SUPABASE_URL and SUPABASE_SECRET_KEY are read from the environment or a .env file.
    """


__all__ = ["main"]
