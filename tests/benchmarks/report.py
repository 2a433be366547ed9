"""`streaks bench`: every benchmark in a short form, one after the other, and a page about all of them.

Each runs in a process of its own, which starts the stack that it needs, or uses the Supabase that SUPABASE_URL,
SUPABASE_SECRET_KEY and DATABASE_URL name (the one of the database always starts its own PostgreSQL).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from tests.benchmarks.report_figures import READERS
from tests.benchmarks.report_page import Section, machine, page

ROOT = Path(__file__).parents[2]
LONGEST = 300.0
# Without those that need a hundred clients, or a profile: in a short form they say little.
WORKS = "leaderboard,repeat,read,new-day,batch,import"

Arguments = Callable[[Path, float], list[str]]


def _database(output: Path, scale: float) -> list[str]:
    users = max(10_000, round(100_000 * scale / 10) * 10)
    seconds = f"{max(1.0, 5 * scale):g}"
    sizes = ["--users", str(users), "--days", "5", "--seconds", seconds, "--rounds", "3", "--no-fsync"]
    return ["tests.benchmarks.bench_database", *sizes, "--only", WORKS, "--json", str(output)]


def _client(output: Path, scale: float) -> list[str]:
    return ["tests.benchmarks.bench_client", "--scale", f"{scale:g}", "--output", str(output)]


def _latency(output: Path, scale: float) -> list[str]:
    updates = str(max(round(600 * scale), 10))
    return ["tests.benchmarks.bench_latency", "--updates", updates, "--output", str(output)]


def _fanout(output: Path, scale: float) -> list[str]:
    return ["tests.benchmarks.bench_fanout", "--scale", f"{scale:g}", "--output", str(output)]


def _cold_start(output: Path, scale: float) -> list[str]:
    sizes = ["--rows", str(max(round(1_000_000 * scale), 100)), "--listeners", str(max(round(1000 * scale), 10))]
    return ["tests.benchmarks.bench_cold_start", *sizes, "--output", str(output)]


BENCHMARKS: dict[str, Arguments] = {
    "database": _database,
    "client": _client,
    "latency": _latency,
    "fanout": _fanout,
    "cold-start": _cold_start,
}


def write_report(folder: Path, names: Sequence[str], scale: float, console: Console) -> bool:
    """Run benchmarks and write `report.html` and `figures.json`.

    Args:
        folder: Where to; it is made if it is not there.
        names: Of the benchmarks; none: all.
        scale: Of the sizes, 1 being those that the goals are about.
        console: Where progress is shown.

    Returns:
        Whether every benchmark ran. A goal that was not reached is no failure: the page says so.
    """
    folder.mkdir(parents=True, exist_ok=True)
    chosen = [name for name in BENCHMARKS if name in names or not names]
    sections = _run_all(folder, chosen, scale, console)
    (folder / "report.html").write_text(page(sections, scale), encoding="utf-8")
    figures = {section.name: [asdict(figure) for figure in section.figures] for section in sections}
    content = {"machine": machine(), "scale": scale, "figures": figures}
    (folder / "figures.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return not any(section.failure for section in sections)


def _run_all(folder: Path, names: Sequence[str], scale: float, console: Console) -> list[Section]:
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description:<10}"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[said]}"),
    )
    sections = []
    with Progress(*columns, console=console) as progress:
        for name in names:
            task = progress.add_task(name, total=1, said="")
            section = _run(name, folder / f"{name}.json", scale)
            met = [figure.met for figure in section.figures if figure.met is not None]
            said = "failed" if section.failure else f"{sum(met)} of {len(met)} goals reached"
            progress.update(task, completed=1, said=said)
            sections.append(section)
    return sections


def _run(name: str, output: Path, scale: float) -> Section:
    output.unlink(missing_ok=True)
    began = time.perf_counter()
    # What it started ends with it, even if it is killed.
    try:
        ended = subprocess.run(
            [sys.executable, "-m", *BENCHMARKS[name](output.resolve(), scale)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            timeout=LONGEST,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Section(name, failure=f"not done within {LONGEST:.0f} s")
    # bench_database ends with 1 when a goal was not reached, so the status says nothing.
    if not output.is_file():
        # The page may be shown to others, a program's last words hold paths: they stay in a file beside it.
        output.with_suffix(".log").write_bytes(ended.stdout)
        return Section(name, failure=f"the benchmark failed; its output is in {name}.log beside this page")
    found = json.loads(output.read_text(encoding="utf-8"))
    return Section(name, READERS[name](found), found, time.perf_counter() - began)
