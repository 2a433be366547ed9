"""The benchmark report: how lines are judged, and what the page shows and hides."""

from __future__ import annotations

import json
import platform
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from streak_client.cli import bench as bench_command
from streak_client.cli import main
from tests.benchmarks import report
from tests.benchmarks.report_figures import AT_LEAST, AT_MOST, READERS, judged
from tests.benchmarks.report_page import TITLES, Section, machine, page


def own_rows(rate: float, p95: float, lost: int) -> dict[str, float]:
    """What the benchmark of own rows writes, as far as it is judged."""
    return {"deliveries a second": rate, "p95, ms": p95, "listeners without their last change": lost}


FOUND: dict[str, Any] = {
    "database": {
        "figures": [
            {
                "work": "new day",
                "measured": "9/s",
                "against": "(r) 10/s",
                "ratio": 0.9,
                "goal": "at least 0.8 x",
                "met": True,
            },
            {
                "work": "read",
                "measured": "5/s",
                "against": "",
                "ratio": 3.0,
                "goal": "at most 1.5 x its time",
                "met": False,
            },
            {"work": "rows", "measured": "7", "against": "", "ratio": 1.0, "goal": "equal", "met": True},
        ],
        "measurements": {"new day": {"(r)": [10.0, 11.0], "ours": [9.0, 9.5]}, "other": {"(r)": [1.0]}},
    },
    "client": {
        "gathered, a second": 12_000.0,
        "single, a second": 400.0,
        "naive, a second": 100.0,
        "cached read, us": 20.0,
        "mean at 80% load, ms": 20.0,
        "p95 at 80% load, ms": 400.0,
        "bare post, ms": 2.0,
        "async client, ms": 2.2,
        "sync client, ms": 2.3,
    },
    "latency": {"commit to SSE listener": {"median": 60.0, "p95": 110.0, "max": 150.0}},
    "fanout": {
        "own-1k": own_rows(rate=1000.0, p95=4.0, lost=0),
        "own-10k": own_rows(rate=4500.0, p95=120.0, lost=2),
        "dashboards": {"messages a second": 90_000.0, "websockets.broadcast, a second": 100_000.0},
        "memory": {"SSE, KiB": 18.5, "WebSocket, KiB": 26.0},
        "burst": {
            "CPU, s": 0.2,
            "CPU, s, no debounce": 1.0,
            "listeners with more than a message a window": 0,
            "listeners with a wrong state": 1,
        },
    },
    "cold-start": {
        "no rows": {"all listeners have their snapshot s": 5.0, "memory MiB": 70.0},
        "1000000 rows": {"all listeners have their snapshot s": 8.0, "memory MiB": 75.0},
    },
}


def sections() -> list[Section]:
    """A section for each benchmark."""
    return [Section(name, READERS[name](found), found, 10) for name, found in FOUND.items()]


@pytest.mark.parametrize(("kind", "value", "met"), [(AT_LEAST, 2, True), (AT_LEAST, 1.9, False), (AT_MOST, 2.1, False)])
def test_goals_are_judged(kind: str, value: float, met: bool) -> None:  # noqa: FBT001 - an expectation
    """A goal at the limit is reached, and one just beside it on the wrong side is not."""
    figure = judged("work", str(value), value, (kind, 2, "x"))
    assert (figure.met, figure.goal) == (met, f"{kind} 2 x")


def test_every_benchmark_is_read() -> None:
    """Each figure of the five benchmarks has its own verdict, from the numbers that the benchmark wrote."""
    verdicts = {figure.work: figure.met for section in sections() for figure in section.figures}
    short = {work for work, met in verdicts.items() if met is False}
    assert short == {
        "read",
        "call to answer at 80% load, p95",
        "all listeners, own rows: change in to frame out, p95",
        "all listeners, own rows: deliveries",
        "all listeners, own rows: listeners without their last change",
        "burst: listeners with a wrong state",
        "memory of an idle listener, WebSocket",
    }
    assert sum(met is True for met in verdicts.values()) == 17
    reaches = {figure.work: figure.reach for section in sections() for figure in section.figures}
    assert reaches["read"] == 0.5
    assert reaches["gathered, against an RPC each"] == 1.5


def test_every_benchmark_can_be_chosen_and_read() -> None:
    """The command, the report, its readers and its page know the same benchmarks."""
    assert set(bench_command.NAMES) == set(report.BENCHMARKS) == set(READERS) == set(TITLES)


def test_the_page_shows_everything_and_gives_nothing_away() -> None:
    """The page holds tables and plots as markup that loads nothing, and names neither the machine nor a path of it."""
    failed = Section("fanout", failure="<not done>")
    text = page([*sections()[:3], failed], 0.2)
    plots = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    assert len(plots) == 4  # goals and peers of the database, goals of the client, latency
    for plot in plots:
        ET.fromstring(plot)  # noqa: S314 - our own
    assert text.count("falls short") == 2
    assert "Not measured: &lt;not done&gt;" in text
    outside = set(re.findall(r"(?:src|href)=\"([^#\"][^\"]*)", text))
    assert outside == set()
    assert platform.node() not in text
    assert str(Path.home()) not in text
    assert str(Path(__file__).parents[2]) not in text
    assert "cores" in machine()


def test_bench_runs_what_it_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A benchmark that fails is named on the page and in the exit status, and stops no other."""
    monkeypatch.setattr(report, "BENCHMARKS", {"client": writes, "latency": fails})
    result = CliRunner().invoke(main, ["bench", "--out", str(tmp_path / "out"), "--scale", "0.02"])
    assert result.exit_code == 1, result.output
    assert "Not every benchmark ran" in result.output
    text = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert "supabase-py 400/s" in text
    assert "its output is in latency.log" in text
    assert "no luck" in (tmp_path / "out" / "latency.log").read_text(encoding="utf-8")
    assert '"gathered updates"' in (tmp_path / "out" / "figures.json").read_text(encoding="utf-8")


def writes(output: Path, _: float) -> list[str]:
    """A benchmark that measured what the table above says."""
    program = f"open({str(output)!r}, 'w').write({json.dumps(FOUND['client'])!r})"
    return ["timeit", "-n1", "-r1", program]


def fails(_: Path, __: float) -> list[str]:
    """A benchmark that fails."""
    return ["timeit", "-n1", "-r1", "raise SystemExit('no luck')"]


def test_an_installed_package_has_no_benchmarks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a bare wheel the command says that it runs in a checkout."""
    monkeypatch.setattr(bench_command, "ROOT", tmp_path)
    result = CliRunner().invoke(main, ["bench"])
    assert (result.exit_code, "in a checkout" in result.output) == (2, True)
