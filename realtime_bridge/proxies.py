"""Which servers are reached without the proxy that the environment names (``HTTP_PROXY``, ``ALL_PROXY``, ...)."""

from ipaddress import ip_address
from urllib.parse import urlsplit

from realtime import AsyncRealtimeClient
from websockets.asyncio.client import connect


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


def realtime_client(url: str, key: str) -> AsyncRealtimeClient:
    """Make a client of Realtime that never reconnects by itself.

    Args:
        url: Realtime's URL (http or https).
        key: The secret key.

    Returns:
        The client; for this machine one that asks no proxy.
    """
    kind = _DirectClient if is_loopback(url) else AsyncRealtimeClient
    return kind(url, token=key, auto_reconnect=False)


class _DirectClient(AsyncRealtimeClient):
    """Connects without a proxy: the library passes nothing on to websockets that could say so."""

    async def connect(self) -> None:
        """Open the WebSocket, once."""
        self._ws_connection = await connect(self.endpoint_url(), open_timeout=self.timeout, proxy=None)
        await self._on_connect()
