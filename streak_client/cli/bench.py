"""``streaks bench``: the benchmarks in a short form, from a checkout of the project."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

import click

from streak_client.cli._common import WRONG_INPUT, CommandError, messages

ROOT = Path(__file__).parents[2]
NAMES = ("database", "client", "latency", "fanout", "cold-start")


@click.command()
@click.option(
    "--out",
    default=".benchmarks",
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="The folder for report.html and figures.json.",
)
@click.option("--only", multiple=True, type=click.Choice(NAMES), help="One benchmark; may be given again. All without.")
@click.option(
    "--scale",
    default=0.2,
    show_default=True,
    type=click.FloatRange(0.01, 1),
    help="Of the sizes that the goals are about.",
)
def bench(out: Path, only: tuple[str, ...], scale: float) -> None:
    """Run the benchmarks in a short form and write a page with tables and plots.

    Works in a checkout of the project (`uv run streaks bench`), whose benchmarks are no part of the installed package.
    Takes some minutes, and both cores: close what else is busy. Use the ratios.
    """
    if not (ROOT / "tests" / "benchmarks" / "report.py").is_file():
        raise CommandError(
            "The benchmarks are no part of the installed package: run `uv run streaks bench` in a checkout.",
            WRONG_INPUT,
        )
    sys.path.insert(0, str(ROOT))
    try:
        report = import_module("tests.benchmarks.report")
    except ModuleNotFoundError as error:
        advice = f"The benchmarks need {error.name}, one of the project's development tools: run `uv sync`."
        raise CommandError(advice, WRONG_INPUT) from error
    complete = report.write_report(out, only, scale, messages())
    click.echo(str(out / "report.html"))
    if not complete:
        raise CommandError("Not every benchmark ran; the page says why.")
