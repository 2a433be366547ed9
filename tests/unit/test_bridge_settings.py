from __future__ import annotations

import io
import logging
from pathlib import Path

import pytest
from uvicorn.logging import AccessFormatter

from realtime_bridge.health import BridgeState, Fault, HealthBoard
from realtime_bridge.redaction import install, redact
from realtime_bridge.settings import BridgeSettings, SettingsError

ENV = {"SUPABASE_URL": "http://127.0.0.1:54321/", "SUPABASE_SECRET_KEY": "sb_secret_hush"}


def test_settings_come_from_the_environment_and_from_dotenv(tmp_path: Path) -> None:
    """The environment wins over .env, and what neither holds has its default."""
    dotenv = tmp_path / ".env"
    dotenv.write_text(
        "BRIDGE_PORT=1234\nBRIDGE_DEBOUNCE=1\nBRIDGE_ALLOWED_ORIGINS=https://a.example, https://b.example\n"
    )
    settings = BridgeSettings.from_env({**ENV, "BRIDGE_DEBOUNCE": "0.5"}, dotenv=dotenv)
    assert (settings.supabase_url, settings.port) == ("http://127.0.0.1:54321", 1234)
    assert (settings.debounce, settings.max_wait) == (0.5, 5.0)
    assert settings.allowed_origins == ("https://a.example", "https://b.example")


@pytest.mark.parametrize(
    ("env", "names"),
    [
        ({}, ["SUPABASE_URL: is not set", "SUPABASE_SECRET_KEY: is not set"]),
        ({**ENV, "SUPABASE_URL": "postgres://x"}, ["SUPABASE_URL"]),
        ({**ENV, "BRIDGE_PORT": "high"}, ["BRIDGE_PORT"]),
        ({**ENV, "SUPABASE_PUBLISHABLE_KEY": "sb_secret_hush"}, ["SUPABASE_PUBLISHABLE_KEY"]),
        ({**ENV, "BRIDGE_DEBOUNCE": "9"}, ["max_wait must not be shorter than debounce"]),
    ],
)
def test_a_wrong_setting_is_named(env: dict[str, str], names: list[str]) -> None:
    """What is missing or wrong is named by its variable, and no value is shown."""
    with pytest.raises(SettingsError) as caught:
        BridgeSettings.from_env(env, dotenv=None)
    assert all(name in str(caught.value) for name in names)
    assert "sb_secret_hush" not in str(caught.value)


def test_settings_do_not_show_the_key() -> None:
    """Printing the settings prints no secret."""
    settings = BridgeSettings.from_env(ENV, dotenv=None)
    assert "sb_secret_hush" not in f"{settings!r} {settings}"


@pytest.mark.parametrize(
    "text",
    [
        "GET /realtime/v1/websocket?apikey=sb_secret_abc&vsn=1.0.0",
        "token eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ4In0.c2ln here",
        "/events?user_id=1&ticket=eyJh.eyJ4.sig",
        "ws://x/websocket?apikey=legacy-opaque-key&vsn=1.0.0",
    ],
)
def test_secrets_are_cut_out_of_texts(text: str) -> None:
    """No key, token or ticket survives in a text, while the rest of it does."""
    clean = redact(text)
    assert "<redacted>" in clean
    assert not any(secret in clean for secret in ("sb_secret_abc", "eyJ", "legacy-opaque-key"))


def test_what_the_libraries_log_is_redacted(caplog: pytest.LogCaptureFixture) -> None:
    """A library that logs the URL of a connection, at any level or with an exception, does not log the key."""
    install()
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("realtime._async.client").error("cannot connect to %s", "ws://h/?apikey=sb_secret_abc")
        try:
            raise ValueError("ws://h/?apikey=sb_secret_abc isn't a valid URI")  # noqa: TRY301 - as a library does
        except ValueError:
            logging.getLogger("websockets.client").exception("failed")
    assert "sb_secret_abc" not in caplog.text
    assert caplog.text.count("ERROR") == 2


def test_the_access_log_of_uvicorn_is_redacted_and_whole() -> None:
    """A request with a ticket is logged by uvicorn's own formatter in one line with everything but the ticket."""
    install()
    log, written = logging.getLogger("uvicorn.access"), io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(AccessFormatter('%(client_addr)s "%(request_line)s" %(status_code)s', use_colors=False))
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        path = "/events?ticket=eyJh.eyJ4.sig&debounce=0"
        log.info('%s - "%s %s HTTP/%s" %d', "127.0.0.1:1", "GET", path, "1.1", 200)
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
    assert written.getvalue() == '127.0.0.1:1 "GET /events?ticket=<redacted>&debounce=0 HTTP/1.1" 200 OK\n'


def test_a_secret_in_no_argument_is_redacted(caplog: pytest.LogCaptureFixture) -> None:
    """A key that stands in the text itself, in a mapping, or across an argument's edge is cut out all the same."""
    install()
    log = logging.getLogger("httpx")
    with caplog.at_level(logging.INFO, logger="httpx"):
        log.info("apikey=sb_secret_abc of %s", "somebody")
        log.info("%(url)s", {"url": "ws://h/?apikey=sb_secret_abc"})
        log.info("ticket=%s&%d", "opaque-abc", 7)
    assert "abc" not in caplog.text
    assert caplog.text.count("<redacted>") == 3


def test_health_follows_from_the_facts() -> None:
    """Starting until the first synchronisation, then live; catching up after a gap; degraded while something fails."""
    board = HealthBoard()
    assert board.conclude().state is BridgeState.STARTING
    board.stream, board.synced = None, True
    assert board.conclude().state is BridgeState.LIVE
    board.synced = False
    assert board.conclude().state is BridgeState.CATCHING_UP
    board.stream = Fault("the connection to Realtime broke")
    assert board.conclude().state is BridgeState.DEGRADED
    assert board.conclude().reason == "the connection to Realtime broke"


def test_a_configuration_fault_is_told_with_its_remedy_at_once() -> None:
    """A wrong key is no 'starting': the state is degraded and says what to change."""
    board = HealthBoard()
    board.rest = Fault("REST refused the key (HTTP 401)", "Set SUPABASE_SECRET_KEY")
    health = board.conclude()
    assert (health.state, health.remedy) == (BridgeState.DEGRADED, "Set SUPABASE_SECRET_KEY")
