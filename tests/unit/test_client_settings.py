"""Where the settings come from, and which are refused."""

import base64
import json
import logging
import pickle
from pathlib import Path

import pytest

from streak_client import AsyncStreakClient, ConfigurationError, Settings, StreakClient
from streak_client.settings import KEY_NAMES

URL = "https://abcdefgh.supabase.co"
SECRET = "sb_secret_0123456789"  # noqa: S105 - opens nothing


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test sees the machine's own environment or `.env`."""
    for name in ("SUPABASE_URL", *KEY_NAMES):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(f"VITE_{name}", raising=False)
    monkeypatch.chdir(tmp_path)


def jwt(role: str) -> str:
    """Make an unsigned token of a role."""
    claims = base64.urlsafe_b64encode(json.dumps({"role": role}).encode()).rstrip(b"=").decode()
    return f"eyJhbGciOiJIUzI1NiJ9.{claims}.c2lnbmF0dXJl"


@pytest.mark.parametrize("name", KEY_NAMES)
def test_each_name_of_the_key_is_understood(name: str) -> None:
    """The present name and both legacy names of the secret key work."""
    assert Settings.from_mapping({"SUPABASE_URL": URL, name: SECRET}).secret_key == SECRET


def test_the_environment_wins_over_the_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A `.env` file fills what the environment leaves open, and no more."""
    (tmp_path / ".env").write_text(f"SUPABASE_URL={URL}\nSUPABASE_SECRET_KEY=sb_secret_file\n")
    assert Settings.from_env() == Settings(URL, "sb_secret_file")
    monkeypatch.setenv("SUPABASE_SECRET_KEY", SECRET)
    assert Settings.from_env() == Settings(URL, SECRET)


def test_a_named_file_is_read_and_a_missing_one_is_an_error(tmp_path: Path) -> None:
    """`env_file` is read where it is, and never silently skipped."""
    path = tmp_path / "prod.env"
    with pytest.raises(ConfigurationError, match=r"prod\.env"):
        Settings.from_env(path)
    path.write_text(f"SUPABASE_URL={URL}\nSUPABASE_SERVICE_KEY={SECRET}\n")
    assert Settings.from_env(path).url == URL
    with StreakClient.from_env(path) as client:
        assert URL in repr(client)


@pytest.mark.parametrize("missing", ["SUPABASE_URL", "SUPABASE_SECRET_KEY"])
def test_a_missing_setting_is_named(missing: str) -> None:
    """The error says which variable to set, and no other."""
    values = {"SUPABASE_URL": URL, "SUPABASE_SECRET_KEY": SECRET}
    with pytest.raises(ConfigurationError) as caught:
        Settings.from_mapping({**values, missing: " "})
    assert [name for name in values if name in str(caught.value)] == [missing]


@pytest.mark.parametrize("name", KEY_NAMES)
def test_a_key_under_a_browser_name_is_refused_with_the_reason(name: str) -> None:
    """A VITE_ name for the secret key is an error that says browsers get it, and shows no key."""
    with pytest.raises(ConfigurationError, match="browser") as caught:
        Settings.from_mapping({"SUPABASE_URL": URL, f"VITE_{name}": SECRET})
    assert f"VITE_{name}" in str(caught.value)
    assert SECRET not in str(caught.value)


def test_a_key_under_a_browser_name_beside_a_right_one_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    """With a proper key present, the leaked name brings a warning."""
    with caplog.at_level(logging.WARNING, "streak_client"):
        Settings.from_mapping(
            {"VITE_SUPABASE_URL": URL, "SUPABASE_SECRET_KEY": SECRET, "VITE_SUPABASE_SERVICE_KEY": "old"}
        )
    assert "VITE_SUPABASE_SERVICE_KEY" in caplog.text


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("sb_publishable_0123", "publishable"),
        (jwt("anon"), "anon"),
        (jwt("authenticated"), "authenticated"),
        ("", "missing"),
        ("sb_secret_a\nb", "characters"),
        ("sb_secret_a b", "characters"),
        ("sb_secret_ü", "characters"),
    ],
)
def test_a_key_that_cannot_be_right_is_refused_and_not_shown(key: str, reason: str) -> None:
    """A publishable, a user's or a mangled key is refused at once, with the reason and without the key."""
    for kind in (AsyncStreakClient, StreakClient):
        with pytest.raises(ConfigurationError, match=reason) as caught:
            kind(URL, key)
        assert not key or key not in str(caught.value)


@pytest.mark.parametrize("key", [SECRET, jwt("service_role"), "a.b.c", "a.Ww.c", "self-hosted-key"])
def test_a_key_that_may_be_right_is_taken(key: str) -> None:
    """A secret key, the legacy service_role key, and what cannot be judged are taken."""
    assert Settings(URL, key).secret_key == key


@pytest.mark.parametrize(
    "url",
    [
        "",
        "abcdefgh.supabase.co",
        "ftp://abcdefgh.supabase.co",
        "https://",
        "https://user:pw@abcdefgh.supabase.co",
        "https://abcdefgh.supabase.co?x=1",
        "https://abcdefgh.supabase.co/#x",
        "https://host:port",
        "https://a b",
        "https://[::1",
        SECRET,
    ],
)
def test_a_url_that_cannot_be_right_is_refused_and_not_shown(url: str) -> None:
    """A malformed URL, or one with a password in it, is refused without being repeated."""
    with pytest.raises(ConfigurationError, match="URL") as caught:
        Settings(url, SECRET)
    assert url in {"", "https://"} or url not in str(caught.value)


def test_a_slash_at_the_end_of_the_url_makes_no_difference() -> None:
    """Both ways to write a URL are the same project."""
    assert Settings(URL + "/", SECRET) == Settings(URL, SECRET)


async def test_no_representation_shows_the_key() -> None:
    """Neither settings nor clients show the key, and a client cannot be pickled with it."""
    asynchronous, synchronous = AsyncStreakClient(URL, SECRET), StreakClient(URL, SECRET)
    for thing in (Settings(URL, SECRET), asynchronous, synchronous):
        assert SECRET not in f"{thing!r} {thing}"
    with pytest.raises(TypeError, match="key"):
        pickle.dumps(synchronous)
    synchronous.close()
    await asynchronous.aclose()


@pytest.mark.parametrize("timeout", [0, -1, float("inf"), float("nan"), "3", True, None])
def test_a_timeout_must_be_a_positive_number(timeout: object) -> None:
    """No client is made that could wait for ever."""
    with pytest.raises(ConfigurationError, match="timeout"):
        StreakClient(URL, SECRET, timeout=timeout)  # type: ignore[arg-type]
