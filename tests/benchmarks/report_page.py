"""The page of the benchmark report: one HTML file with its plots inside, which loads nothing from anywhere."""

from __future__ import annotations

import html
import io
import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from tests.benchmarks.report_figures import Figure

TITLES = {
    "database": "Database: calls beside their peers",
    "client": "Client: updates of one process",
    "latency": "Latency: from commit to a listener",
    "fanout": "Bridge: fan-out",
    "cold-start": "Bridge: start on an empty and on a large table",
}
REACHED, SHORT, NEUTRAL = "#1a7f4e", "#b3361e", "#4361a8"
STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #1c1c1c; }
table { border-collapse: collapse; width: 100%; margin: 1rem 0; }
th, td { text-align: left; padding: .3rem .8rem .3rem 0; border-bottom: 1px solid #ddd; vertical-align: top; }
svg { max-width: 100%; height: auto; } .yes { color: #1a7f4e; } .no { color: #b3361e; font-weight: 600; }
"""


@dataclass
class Section:
    """One benchmark on the page.

    Attributes:
        name: Of the benchmark.
        figures: Its lines; empty if it failed.
        found: What it wrote.
        seconds: How long it took.
        failure: Why there is nothing to show; empty if there is.
    """

    name: str
    figures: list[Figure] = field(default_factory=list)
    found: Any = None
    seconds: float = 0.0
    failure: str = ""


def machine() -> str:
    """The machine, as far as it decides figures: neither its name nor a path."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    system = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    return f"{_processor()}, {cores} cores, {memory:.0f} GiB; {system}; load {load} at the end"


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="ascii", errors="replace").splitlines() if info.is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "a processor")


def page(sections: Sequence[Section], scale: float) -> str:
    """The whole page.

    Args:
        sections: One for each benchmark.
        scale: Of the sizes: 1 are those that the goals are about.
    """
    parts = [
        "<!doctype html><html lang='en'><head><meta charset='utf-8'><title>Benchmarks of supabase-streaks</title>",
        f"<style>{STYLE}</style></head><body><h1>Benchmarks of supabase-streaks</h1>",
        f"<p>{datetime.now(UTC):%Y-%m-%d %H:%M} UTC. {html.escape(machine())}.</p>",
        f"<p>A short form, at {scale:g} of the sizes that the goals are about. Peers run in turns with ours, so use",
        "the ratios: everything else depends on the machine and on who else uses it.</p>",
        *(_section(section) for section in sections),
        "</body></html>\n",
    ]
    return "\n".join(parts)


def _section(section: Section) -> str:
    heading = f"<h2>{html.escape(TITLES[section.name])}</h2>"
    if section.failure:
        return f"{heading}<p class='no'>Not measured: {html.escape(section.failure)}</p>"
    plots = "".join(f"<figure>{one}</figure>" for one in _plots(section))
    return f"{heading}<p>{section.seconds:.0f} s</p>{_table(section.figures)}{plots}"


def _table(figures: Sequence[Figure]) -> str:
    rows = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in _cells(figure)) + _verdict(figure.met) + "</tr>"
        for figure in figures
    )
    heads = "".join(f"<th>{head}</th>" for head in ("work", "measured", "against", "goal", ""))
    return f"<table><tr>{heads}</tr>{rows}</table>"


def _cells(figure: Figure) -> tuple[str, ...]:
    measured = figure.measured
    if figure.value is not None and figure.goal.split(" ")[-1] in ("x", "time"):
        measured += "" if measured.endswith(" x") else f" ({figure.value:.2f} x)"
    return figure.work, measured, figure.against, figure.goal


def _verdict(met: bool | None) -> str:  # noqa: FBT001 - three values of one thing
    return {True: "<td class='yes'>reached</td>", False: "<td class='no'>falls short</td>", None: "<td></td>"}[met]


def _plots(section: Section) -> list[str]:
    plots = [_goals(section.figures)] if any(figure.reach for figure in section.figures) else []
    if section.name == "database":
        plots.append(_peers(section.found["measurements"]))
    if section.name == "latency":
        plots.append(_latencies(section.found))
    return plots


def _goals(figures: Sequence[Figure]) -> str:
    """How many times each goal was reached."""
    shown = [(figure.work, figure.reach) for figure in figures if figure.reach is not None][::-1]
    canvas, axes = _canvas(len(shown))
    colours = [REACHED if reach >= 1 else SHORT for _, reach in shown]
    axes.barh([work for work, _ in shown], [reach for _, reach in shown], color=colours)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xscale("log")
    axes.set_xlabel("how many times the goal was reached (1: just so)")
    return _svg(canvas)


def _peers(measurements: Mapping[str, Mapping[str, Sequence[float]]]) -> str:
    """Every peer's median beside ours, with the least and the most of the rounds."""
    shown = [
        (f"{work}, {peer}", statistics.median(values) / statistics.median(peers["ours"]), values, peers["ours"])
        for work, peers in measurements.items()
        if "ours" in peers
        for peer, values in peers.items()
    ][::-1]
    canvas, axes = _canvas(len(shown))
    middles = [ratio for _, ratio, _, _ in shown]
    ends = [
        [min(values) / statistics.median(ours), max(values) / statistics.median(ours)] for _, _, values, ours in shown
    ]
    errors = [
        [m - low for m, (low, _) in zip(middles, ends, strict=True)],
        [h - m for m, (_, h) in zip(middles, ends, strict=True)],
    ]
    colours = [REACHED if name.endswith(", ours") else NEUTRAL for name, *_ in shown]
    axes.barh([name for name, *_ in shown], middles, xerr=errors, color=colours, capsize=2)
    axes.set_xlabel("calls a second, ours = 1 (leaderboard: milliseconds)")
    return _svg(canvas)


def _latencies(found: Mapping[str, Mapping[str, float]]) -> str:
    """Median and p95 of each part of the way."""
    canvas, axes = _canvas(2 * len(found))
    names = list(found)[::-1]
    axes.barh(names, [found[name]["p95"] for name in names], color=NEUTRAL, label="p95")
    axes.barh(names, [found[name]["median"] for name in names], color=REACHED, height=0.4, label="median")
    axes.set_xlabel("milliseconds")
    axes.legend()
    return _svg(canvas)


def _canvas(lines: int) -> tuple[Canvas, Axes]:
    canvas = Canvas(figsize=(9, 1 + 0.32 * lines), layout="constrained")
    return canvas, canvas.subplots()


def _svg(canvas: Canvas) -> str:
    text = io.StringIO()
    # Text stays text; without the date, equal figures make equal files.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "streaks"}):
        canvas.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    return text.getvalue().partition("<svg")[1] + text.getvalue().partition("<svg")[2]
