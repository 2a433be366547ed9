"""`streaks serve`, as people run it, against its own OpenAPI document."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from local_supabase.stack import StackInfo

BIN = Path(sys.executable).parent
# Of each of the six operations, beside some 300 that look into corners: 840 make more than 5,000 in all.
CASES, ALL_CASES = 40, 840
CHECKS = "not_a_server_error,response_schema_conformance,content_type_conformance,response_headers_conformance"


@pytest.fixture
async def api_url(stack: StackInfo) -> AsyncIterator[str]:
    """Where `streaks serve` listens."""
    process = await asyncio.create_subprocess_exec(
        BIN / "streaks",
        "serve",
        "--port",
        "0",
        "--rate-limit",
        "9999/second",
        stdout=subprocess.PIPE,
        env={**os.environ, **stack.environment()},
    )
    assert process.stdout is not None
    line = (await process.stdout.readline()).decode()
    assert line.startswith("READY "), line
    yield json.loads(line.removeprefix("READY "))["API_URL"]
    process.terminate()
    # uvicorn ends in order, then raises the signal again for whoever waits.
    assert await process.wait() in {0, -15}


async def test_serve_answers_and_describes_itself(api_url: str) -> None:
    """The command serves the API with its document and its pages."""
    async with httpx.AsyncClient(base_url=api_url) as http:
        document = (await http.get("/openapi.json")).json()
        assert len(document["paths"]) == 6
        assert (await http.get("/docs")).status_code == 200
        assert (await http.get("/api/streak/leaderboard")).status_code == 401


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("cases", [CASES, pytest.param(ALL_CASES, marks=pytest.mark.long)])
async def test_no_request_that_the_document_allows_or_forbids_is_a_5xx(
    api_url: str, stack: StackInfo, cases: int
) -> None:
    """Schemathesis finds no server error and no answer beside the document, whatever it sends."""
    process = await asyncio.create_subprocess_exec(
        BIN / "schemathesis",
        "run",
        f"{api_url}/openapi.json",
        "--header",
        f"Authorization: Bearer {stack.secret_key}",
        "--checks",
        CHECKS,
        "--phases",
        "examples,coverage,fuzzing",
        "--max-examples",
        str(cases),
        "--no-color",
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    report, _ = await process.communicate()
    assert process.returncode == 0, report.decode()[-4000:]
