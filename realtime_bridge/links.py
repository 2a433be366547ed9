"""Operator links: what ``streaks up`` prints, so that whoever started it sees the dashboard at once."""

import hashlib
import hmac
import time

import jwt

from realtime_bridge.proxies import is_loopback
from realtime_bridge.settings import BridgeSettings

_AUDIENCE = "realtime-bridge:link"
_LIFE = 12 * 3600.0


class Links:
    """Makes and verifies the tokens of operator links.

    A ticket lives for a minute, too short for a line in a terminal. A link's token lives for half a day, opens only
    bridges that listen on this machine alone, and is worth no more than the tickets that ``POST /ticket`` gives for it.

    Args:
        settings: The service key, and where the bridge listens.
    """

    def __init__(self, settings: BridgeSettings) -> None:
        key = settings.supabase_secret_key.get_secret_value()
        self._key = hmac.digest(key.encode(), b"realtime-bridge link v1", hashlib.sha256)
        self._local = is_loopback(f"http://{f'[{settings.host}]' if ':' in settings.host else settings.host}")

    def make(self) -> str:
        """Make a token.

        Raises:
            ValueError: The bridge can be reached from other machines.
        """
        if not self._local:
            raise ValueError("operator links are for bridges on loopback")
        return jwt.encode({"aud": _AUDIENCE, "exp": time.time() + _LIFE}, self._key, algorithm="HS256")

    def expiry(self, token: str) -> float | None:
        """When a token ends, in epoch seconds; None if it is no token of a link, is too old, or opens nothing here."""
        if not self._local:
            return None
        try:
            claims = jwt.decode(
                token, self._key, algorithms=["HS256"], audience=_AUDIENCE, options={"require": ["exp", "aud"]}
            )
        except jwt.InvalidTokenError:
            return None
        return float(claims["exp"])


def operator_link(url: str, settings: BridgeSettings) -> str:
    """Make a link that opens the dashboard for an operator.

    Args:
        url: Where the bridge serves.
        settings: Its settings.

    Returns:
        The URL; the token is in its fragment, which browsers send to nobody.

    Raises:
        ValueError: The bridge can be reached from other machines.
    """
    return f"{url}/#link={Links(settings).make()}"
