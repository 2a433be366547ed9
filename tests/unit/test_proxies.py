"""Proxies from the environment: for other machines only."""

import pytest

import realtime_bridge.proxies
import streak_client._proxies


@pytest.mark.parametrize("package", [realtime_bridge.proxies, streak_client._proxies])  # noqa: SLF001 - one rule, twice
@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:54321", True),
        ("http://127.9.9.9", True),
        ("https://LOCALHOST/", True),
        ("http://localhost.:1", True),
        ("http://kong.localhost:8000", True),
        ("http://[::1]:54321", True),
        ("https://abcdefgh.supabase.co", False),
        ("http://192.168.1.10:54321", False),
        ("http://localhost.example.com", False),
        ("http://127.0.0.1.example.com", False),
    ],
)
def test_this_machine_is_told_from_others(package: object, url: str, *, expected: bool) -> None:
    """Loopback addresses and names are this machine; what merely looks like one, or is near, is not."""
    assert package.is_loopback(url) is expected  # type: ignore[attr-defined]
