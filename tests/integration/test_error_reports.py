"""Errors reach a Sentry-compatible service from the real programs, and take no secret and no personal data along."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
import sentry_sdk
from click.testing import CliRunner

from realtime_bridge import command, error_reports
from streak_client.cli import main
from tests.support.sentry_sink import Sink, sentry_sink

SECONDS = 120
KEY = "sb_secret_that_nobody_may_see"
# Nobody listens there.
PROJECT = {"SUPABASE_URL": "http://127.0.0.1:9", "SUPABASE_SECRET_KEY": KEY}


@pytest.fixture
def sink() -> Iterator[Sink]:
    """Where the reports go."""
    with sentry_sink() as opened:
        yield opened


def environment(**variables: str) -> Mapping[str, str]:
    """Ours without what would lead to a project."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("SUPABASE_", "SENTRY_"))}
    return inherited | PROJECT | variables


@contextmanager
def api(cwd: Path, **variables: str) -> Iterator[str]:
    """Keep `streaks serve` running, and give its URL."""
    process = subprocess.Popen(
        [Path(sys.executable).with_name("streaks"), "serve", "--port", "0"],
        cwd=cwd,
        env=environment(**variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline().removeprefix("READY "))["API_URL"]
    finally:
        process.terminate()
        process.communicate()


def count(url: str, user: str) -> httpx.Response:
    """Ask for what must fail: the service behind is not there."""
    body = {"userId": user, "requestId": "jane@example.com", "timezone": "Europe/Paris"}
    headers = {"Authorization": f"Bearer {KEY}"}
    with httpx.Client(trust_env=False, timeout=SECONDS) as http:
        return http.post(f"{url}/api/streak/update?who=jane@example.com", json=body, headers=headers)


def test_an_error_of_the_api_is_reported_without_secrets(sink: Sink, tmp_path: Path) -> None:
    """What the API could not answer arrives with message, service and environment, and with nothing of the request."""
    user = str(uuid4())
    with api(tmp_path, SENTRY_DSN=sink.dsn, SENTRY_ENVIRONMENT="staging") as url:
        assert count(url, user).status_code == 503
        assert sink.arrived.wait(SECONDS)
    event = sink.events()[0]
    assert "could not answer" in json.dumps(event)
    assert (event["environment"], event["tags"]["service"], event["level"]) == ("staging", "api", "error")
    assert not {"request", "user", "server_name", "breadcrumbs"} & {name for name, value in event.items() if value}
    for secret in (KEY, user, "jane@example.com", "Europe/Paris"):
        assert secret not in "".join(sink.bodies)


def test_nothing_is_sent_unless_asked_for() -> None:
    """Without SENTRY_DSN nothing is set up."""
    assert not error_reports.start("api", {"SENTRY_DSN": " "})
    assert not sentry_sdk.get_client().is_active()


def test_what_ends_the_bridge_is_reported(sink: Sink, tmp_path: Path) -> None:
    """A bridge that cannot start says so before it ends, with the exception and without its variables."""
    port = sink.dsn.rpartition(":")[2].partition("/")[0]  # taken, by the sink
    ended = run_bridge(tmp_path, BRIDGE_PORT=port, SENTRY_DSN=sink.dsn)
    assert ended.returncode == 1
    (event,) = sink.events()
    assert event["tags"]["service"] == "bridge"
    (exception, *_) = event["exception"]["values"]
    assert exception["type"] == "OSError"
    assert not [frame for frame in exception["stacktrace"]["frames"] if "vars" in frame]
    assert KEY not in "".join(sink.bodies)


def run_bridge(cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the bridge, which ends by itself."""
    return subprocess.run(
        [sys.executable, "-m", "realtime_bridge"],
        cwd=cwd,
        env=environment(**variables),
        capture_output=True,
        text=True,
        check=False,
        timeout=SECONDS,
    )


def test_a_wrong_dsn_ends_the_program_with_its_name(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A DSN that is none is refused at the start, and the message names the setting and not its value."""
    monkeypatch.chdir(tmp_path)
    for name, value in (PROJECT | {"SENTRY_DSN": "https://hush-hush"}).items():
        monkeypatch.setenv(name, value)
    answers = [(command.main(), capsys.readouterr().err)]
    refused = CliRunner().invoke(main, ["serve", "--port", "0"])
    answers.append((refused.exit_code, refused.stderr))
    for status, text in answers:
        assert (status, "SENTRY_DSN" in text, "hush" in text) == (2, True, False)


SECRETS = {
    "a secret key": "sb_secret_abc_DEF-123",
    "a token": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
    "a user": "0b8a2f4e-3c4d-4e5f-8a9b-0c1d2e3f4a5b",
    "an address": "jane.doe+x@mail.example.com",
    "a machine": "203.0.113.77",
    "a password": "swordfish",
}


@pytest.mark.parametrize("name", SECRETS)
def test_texts_are_cleaned(name: str) -> None:
    """Keys, tokens, user ids, addresses and passwords in URLs are taken out of every text, and the rest stays."""
    secret = SECRETS[name]
    text = f"failed for postgresql://u:{secret}@db:5432/x" if name == "a password" else f"failed for {secret}: again"
    cleaned = error_reports.clean(text)
    assert secret not in cleaned
    assert cleaned.startswith("failed for ")
    assert "<redacted>" in cleaned
