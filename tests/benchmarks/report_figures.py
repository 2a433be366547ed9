"""What the benchmarks wrote, as lines of one table: each with its peer, its goal and whether that was reached."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

AT_LEAST, AT_MOST = "at least", "at most"


@dataclass(frozen=True)
class Figure:
    """One line of the report.

    Attributes:
        work: What was measured.
        measured: The figure with its unit.
        against: What it is compared with.
        value: What the goal is about; None for figures without a goal.
        goal: The goal, for people.
        met: Whether it was reached; None where there is no goal.
        reach: How many times the goal was reached: 1 is just so; None where that says nothing.
    """

    work: str
    measured: str
    against: str = ""
    value: float | None = None
    goal: str = ""
    met: bool | None = None
    reach: float | None = None


def judged(work: str, measured: str, value: float, bound: tuple[str, float, str], against: str = "") -> Figure:
    """A figure beside its goal.

    Args:
        work: What was measured.
        measured: The figure with its unit.
        value: What the goal is about.
        bound: `AT_LEAST` or `AT_MOST`, the limit, and its unit.
        against: What it is compared with.
    """
    kind, limit, unit = bound
    reach = value / limit if kind == AT_LEAST else limit / max(value, 1e-9)
    return Figure(work, measured, against, value, f"{kind} {limit:g} {unit}".rstrip(), reach >= 1, reach)


def database(found: Mapping[str, Any]) -> list[Figure]:
    """The figures of bench_database, which judges itself."""
    return [
        Figure(one["work"], one["measured"], one["against"], one["ratio"], one["goal"], one["met"], _reach(one))
        for one in found["figures"]
    ]


def _reach(one: Mapping[str, Any]) -> float | None:
    limit = re.fullmatch(r"(at least|at most) ([\d.]+) x.*", one["goal"])
    if limit is None or not one["ratio"]:
        return None
    ratio, bound = float(one["ratio"]), float(limit[2])
    return ratio / bound if limit[1] == AT_LEAST else bound / ratio


def client(found: Mapping[str, float]) -> list[Figure]:
    """The figures of bench_client."""
    gathered, single, naive = (found[f"{name}, a second"] for name in ("gathered", "single", "naive"))
    bare, ours, sync = (found[f"{name}, ms"] for name in ("bare post", "async client", "sync client"))
    mean, p95 = (found[f"{name} at 80% load, ms"] for name in ("mean", "p95"))
    return [
        judged("gathered updates", f"{gathered:,.0f}/s", gathered, (AT_LEAST, 10_000, "a second")),
        judged(
            "gathered, against an RPC each",
            f"{gathered / single:.1f} x",
            gathered / single,
            (AT_LEAST, 20, "x"),
            f"supabase-py {single:,.0f}/s",
        ),
        judged(
            "gathered, against read, compute, write back",
            f"{gathered / naive:.1f} x",
            gathered / naive,
            (AT_LEAST, 40, "x"),
            f"supabase-py {naive:,.0f}/s",
        ),
        judged("call to answer at 80% load, mean", f"{mean:.1f} ms", mean, (AT_MOST, 50, "ms")),
        judged("call to answer at 80% load, p95", f"{p95:.1f} ms", p95, (AT_MOST, 150, "ms")),
        judged("one idle call", f"{ours / bare:.2f} x", ours / bare, (AT_MOST, 1.15, "x"), f"bare POST {bare:.2f} ms"),
        judged("StreakClient", f"{sync / ours:.2f} x", sync / ours, (AT_MOST, 1.2, "x"), f"async {ours:.2f} ms"),
        Figure("cached read", f"{found['cached read, us']:.1f} µs"),
    ]


def latency(found: Mapping[str, Mapping[str, float]]) -> list[Figure]:
    """The figures of bench_latency."""
    return [
        Figure(name, f"median {times['median']:.1f} ms, p95 {times['p95']:.1f} ms", f"at most {times['max']:.1f} ms")
        for name, times in found.items()
    ]


def fanout(found: Mapping[str, Mapping[str, float]]) -> list[Figure]:
    """The figures of bench_fanout."""
    return [figure for name, figures in found.items() for figure in _FANOUT[name](figures)]


def _none(work: str, found: float) -> Figure:
    return Figure(work, f"{found:,.0f}", "", found, "0", found == 0)


def _own_rows(name: str, rate: float, limit: float) -> Callable[[Mapping[str, float]], list[Figure]]:
    def read(found: Mapping[str, float]) -> list[Figure]:
        latency, delivered = found["p95, ms"], found["deliveries a second"]
        return [
            judged(f"{name}: change in to frame out, p95", f"{latency:.1f} ms", latency, (AT_MOST, limit, "ms")),
            judged(f"{name}: deliveries", f"{delivered:,.0f}/s", delivered, (AT_LEAST, rate, "a second")),
            _none(f"{name}: listeners without their last change", found["listeners without their last change"]),
        ]

    return read


def _dashboards(found: Mapping[str, float]) -> list[Figure]:
    ours, peer = found["messages a second"], found["websockets.broadcast, a second"]
    against = f"websockets.broadcast {peer:,.0f}/s"
    bound = (AT_LEAST, 0.7, "x")
    return [judged("every change to all dashboards", f"{ours / peer:.2f} x", ours / peer, bound, against)]


def _memory(found: Mapping[str, float]) -> list[Figure]:
    return [
        judged(f"memory of an idle listener, {kind}", f"{size:.1f} KiB", size, (AT_MOST, 25, "KiB"))
        for kind in ("SSE", "WebSocket")
        for size in [found[f"{kind}, KiB"]]
    ]


def _burst(found: Mapping[str, float]) -> list[Figure]:
    share = found["CPU, s"] / found["CPU, s, no debounce"] * 100
    more, wrong = found["listeners with more than a message a window"], found["listeners with a wrong state"]
    return [
        judged("CPU for a burst, debounced", f"{share:.0f} %", share, (AT_MOST, 30, "%"), "without debounce"),
        _none("burst: listeners with more than a message a window", more),
        _none("burst: listeners with a wrong state", wrong),
    ]


_FANOUT: dict[str, Callable[[Mapping[str, float]], list[Figure]]] = {
    "own-1k": _own_rows("a tenth of the listeners, own rows", 1000, 5),
    "own-10k": _own_rows("all listeners, own rows", 5000, 100),
    "dashboards": _dashboards,
    "memory": _memory,
    "burst": _burst,
}


def cold_start(found: Mapping[str, Mapping[str, float]]) -> list[Figure]:
    """The figures of bench_cold_start: on no rows, and on many."""
    none, many = list(found.items())
    listening, held = (many[1][name] for name in ("all listeners have their snapshot s", "memory MiB"))
    share = held / none[1]["memory MiB"]
    return [
        judged(f"cold start with {many[0]}", f"{listening:.1f} s", listening, (AT_MOST, 10, "s")),
        judged(f"memory with {many[0]}", f"{share:.2f} x", share, (AT_MOST, 1.5, "x"), "none"),
    ]


READERS: dict[str, Callable[[Any], list[Figure]]] = {
    "database": database,
    "client": client,
    "latency": latency,
    "fanout": fanout,
    "cold-start": cold_start,
}
"""How to read what each benchmark wrote."""
