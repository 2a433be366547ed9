"""How often and how patiently the operators' commands ask."""

import json
from pathlib import Path

import httpx
import pytest
import respx
from click.testing import CliRunner

from streak_client.cli import main

RPC = "http://streaks.test/rest/v1/rpc"


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each command finds a service in its environment, and no `.env`."""
    monkeypatch.setenv("SUPABASE_URL", "http://streaks.test")
    monkeypatch.setenv("SUPABASE_SECRET_KEY", "sb_secret_unit")
    monkeypatch.chdir(tmp_path)


@respx.mock
def test_archive_goes_on_after_a_batch_that_is_not_full() -> None:
    """`archive` ends when the database says so: a smaller batch may only have left out locked users."""
    batches = [[{"archived": count, "finished": count == 7}] for count in (1000, 400, 0, 7)]
    route = respx.post(f"{RPC}/archive_streak_history").mock(
        side_effect=[httpx.Response(200, json=batch) for batch in batches]
    )
    result = CliRunner().invoke(main, ["archive", "--older-than", "90", "--pause", "0", "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == {"archived": 1407, "removed": False}
    assert route.call_count == len(batches)


@respx.mock
def test_the_database_is_diagnosed_once_and_patiently() -> None:
    """`doctor --database` waits two minutes for its one answer, and burdens a slow database with no second try."""
    route = respx.post(f"{RPC}/diagnose_streaks").respond(503)
    assert CliRunner().invoke(main, ["doctor", "--database"]).exit_code != 0
    assert route.call_count == 1
    assert route.calls.last.request.extensions["timeout"]["read"] == 120
