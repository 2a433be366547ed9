"""The REST API: streaks over HTTP, for services that do not speak Python.

Example::

    async with AsyncStreakClient.from_env(rate_limit=RateLimit()) as client:
        app = create_app(client, authenticator)
"""

from streak_client.rest.app import create_app

__all__ = ["create_app"]
