"""`streaks bench` as people run it, with the smallest sizes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from local_supabase.stack import StackInfo


@pytest.mark.timeout(600)  # seconds, unless the machine is busy with much else
def test_bench_measures_and_writes_a_page(stack: StackInfo, tmp_path: Path) -> None:
    """The command measures on the Supabase that the environment names, and writes a page and figures."""
    names = {"SUPABASE_URL": stack.supabase_url, "SUPABASE_SECRET_KEY": stack.secret_key}
    hidden = {"SUPABASE_JWT_SECRET": stack.jwt_secret, "DATABASE_URL": stack.database_url}
    ended = subprocess.run(
        [Path(sys.executable).with_name("streaks"), "bench", "--only", "latency", "--scale", "0.01"],
        env={**os.environ, **names, **hidden},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    found = json.loads((tmp_path / ".benchmarks" / "figures.json").read_text(encoding="utf-8"))
    assert [figure["work"] for figure in found["figures"]["latency"]] == [
        "commit to frame (Realtime)",
        "frame to SSE listener (bridge)",
        "commit to SSE listener",
    ]
    text = (tmp_path / ".benchmarks" / "report.html").read_text(encoding="utf-8")
    assert "<svg" in text
    for secret in (stack.secret_key, stack.jwt_secret, stack.database_url):
        assert secret not in text
