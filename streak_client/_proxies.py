"""Which servers are reached without the proxy that the environment names (``HTTP_PROXY``, ``ALL_PROXY``, ...)."""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit


def is_loopback(url: str) -> bool:
    """Whether a URL names this machine, which to a proxy would be the proxy itself.

    Args:
        url: An absolute URL.

    Returns:
        True for ``localhost``, names below it, and loopback addresses.
    """
    host = (urlsplit(url).hostname or "").rstrip(".")
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
