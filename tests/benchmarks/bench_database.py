"""How fast the database is, beside its peers, on a PostgreSQL of its own.

Run: ``uv run python tests/benchmarks/bench_database.py`` (``--help`` names the options). Needs pgbench. Peers, in turns
within each round and with our indexes:

(o) the function of the original schema, on tables of its own: row lock, nothing written on a repeat, version check and
    history row on a new day; it keeps no ledger;
(r) the raw floor: one prepared statement with one UPDATE and two INSERTs, and no logic, on our tables (the foreign keys
    and checks are ours, too).

Of ten users three have lapsed, unswept and with the longest streaks, two have been active on the benchmark's day, five
on the day before; zones are spread over every offset there is. A kept data set (``--data-dir``) moves on by some days
with each run. Use the ratios: the figures depend on the machine and on who else uses it.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import asyncpg
import click
from rich.console import Console
from rich.table import Table

from local_supabase.progress import Progress
from tests.benchmarks import database_probes as probes
from tests.benchmarks import database_works as works
from tests.benchmarks.database_load import DataSet, is_loaded, load
from tests.benchmarks.database_pgbench import PgBench
from tests.benchmarks.database_server import Server, running_server
from tests.benchmarks.database_traces import traces
from tests.support.database import on_server

# In the order in which they disturb each other least: what reads comes before what writes.
WORKS: dict[str, Callable[[works.Bench], Awaitable[None]]] = {
    "leaderboard": probes.leaderboard,
    "traces": traces,
    "repeat": works.repeat,
    "hot": works.hot,
    "read": works.read,
    "new-day": works.new_day,
    "batch": works.batch,
    "cpu": probes.cpu,
    "import": probes.import_events,
}
SMALL = 10_000


async def load_missing(server: Server, users: int, days: int, console: Console) -> None:
    """Loads the two databases, unless they are there."""
    wanted = {"bench": DataSet(users, days), "bench_small": DataSet(SMALL, days, original=False)}
    missing = [name for name, data in wanted.items() if not await is_loaded(server.url, name, data)]
    if not missing:
        console.print("Using the data that are there")
        return
    await server.load()
    for name in missing:
        took = await load(server.url, name, wanted[name], console)
        console.print(f"Loaded {wanted[name].users:,} users with {days} days into {name} in {took:.0f} s")
    await server.measure()


async def measure(server: Server, options: Options, console: Console) -> works.Bench:
    """Runs the chosen works."""
    url = on_server(server.url, "bench")
    connection = await asyncpg.connect(url)
    try:
        size = await connection.fetchval("select pg_size_pretty(sum(pg_database_size(datname))) from pg_database")
        console.print(f"{size} of data; {server.settings}")
        zones = [name for (name,) in await connection.fetch("select name from bench.zones order by z")]
        pgbench = PgBench(url, options.users, zones)
        small = on_server(server.url, "bench_small")
        bench = works.Bench(url, small, connection, pgbench, options.users, options.seconds, options.rounds)
        for name in options.only:
            began = time.perf_counter()
            await WORKS[name](bench)
            console.print(f"{name}: {time.perf_counter() - began:.0f} s")
        return bench
    finally:
        await connection.close()


def report(bench: works.Bench, title: str, console: Console) -> None:
    """Prints the figures beside the goals, then the details."""
    table = Table("work", "measured", "against", "ratio", "goal", "", title=title, title_justify="left")
    verdict = {True: "[green]reached[/]", False: "[red]falls short[/]", None: ""}
    for figure in bench.figures:
        ratio = "" if figure.ratio is None else f"{figure.ratio:,.2f}"
        table.add_row(figure.work, figure.measured, figure.against, ratio, figure.goal, verdict[figure.met])
    console.print(table)
    for heading, text in bench.details:
        console.print(f"\n{heading}\n", style="bold")
        console.print(text, markup=False, highlight=False)


def write_json(bench: works.Bench, settings: str, file: Path) -> None:
    """Writes the figures, every single measurement and the settings."""
    figures = [asdict(figure) for figure in bench.figures]
    content = {"settings": settings, "figures": figures, "measurements": bench.raw, "details": dict(bench.details)}
    file.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


@dataclass(frozen=True)
class Options:
    """What the command line chose; `--help` says what each means."""

    users: int
    days: int
    seconds: float
    rounds: int
    only: list[str]
    fsync: bool
    data_dir: Path | None
    output: Path | None


async def run(options: Options) -> bool:
    """Starts the server, loads, measures and reports; returns whether every goal was reached."""
    console = Console(width=max(Console().width, 150))
    progress = Progress()
    async with running_server(options.data_dir, progress, fsync=options.fsync) as server:
        await load_missing(server, options.users, options.days, console)
        bench = await measure(server, options, console)
        settings = server.settings
    size = f"{options.users:,} users, {options.days} days"
    title = f"{size}, medians of {options.rounds} rounds of {options.seconds:g} s\n{settings}"
    report(bench, title, console)
    if options.output is not None:
        write_json(bench, settings, options.output)
    return all(figure.met is not False for figure in bench.figures)


def chosen_works(_: click.Context, __: click.Parameter, value: str) -> list[str]:
    """The works of a list of names, in our order."""
    names = set(value.split(",")) if value else set(WORKS)
    unknown = names - set(WORKS)
    if unknown:
        raise click.BadParameter(f"{', '.join(sorted(unknown))}: choose from {', '.join(WORKS)}")
    return [name for name in WORKS if name in names]


def whole_tens(_: click.Context, __: click.Parameter, value: int) -> int:
    """The number of users, if the mix of users fits it."""
    if value < SMALL or value % 10:
        raise click.BadParameter(f"a multiple of 10, at least {SMALL:,}")
    return value


@click.command(context_settings={"show_default": True})
@click.option("--users", default=1_000_000, callback=whole_tens, help="Users in the large database.")
@click.option("--days", default=30, type=click.IntRange(2, 900), help="Rows of ledger and history for each user.")
@click.option("--seconds", default=5.0, type=click.FloatRange(1), help="Length of each run.")
@click.option("--rounds", default=5, type=click.IntRange(1), help="Runs of each peer.")
@click.option("--data-dir", type=click.Path(path_type=Path), help="Keeps the loaded data, and uses them again.")
@click.option("--only", default="", callback=chosen_works, help=f"Works to run: {','.join(WORKS)}.")
@click.option("--fsync/--no-fsync", default=True, help="Whether commits reach the disk.")
@click.option("--json", "output", type=click.Path(path_type=Path, dir_okay=False), help="Writes the figures to a file.")
def main(**options: Any) -> None:
    """Measure the database beside its peers."""
    if shutil.which("pgbench") is None:
        raise click.ClickException("pgbench is missing: it comes with PostgreSQL")
    raise SystemExit(0 if asyncio.run(run(Options(**options))) else 1)


if __name__ == "__main__":
    main()
