"""Where the service is and which key opens it: from arguments, the environment, or a `.env` file."""

from __future__ import annotations

import base64
import binascii
import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from dotenv import dotenv_values, find_dotenv

from streak_client.errors import ConfigurationError

logger = logging.getLogger("streak_client")

URL_NAMES = ("SUPABASE_URL", "VITE_SUPABASE_URL")
KEY_NAMES = ("SUPABASE_SECRET_KEY", "SUPABASE_SERVICE_KEY", "SUPABASE_SERVICE_ROLE_KEY")
BROWSER_PREFIX = "VITE_"


@dataclass(frozen=True, slots=True)
class Settings:
    """Checked settings of a client.

    Attributes:
        url: The project's URL, such as ``https://abcdefgh.supabase.co``.
        secret_key: A secret key (``sb_secret_...``) or the legacy service_role key. Never shown.
    """

    url: str
    secret_key: str = field(repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "url", check_url(self.url))
        check_secret_key(self.secret_key)

    @classmethod
    def from_env(cls, env_file: str | Path | None = None) -> Settings:
        """Read the settings from the environment, and what it lacks from a `.env` file.

        Args:
            env_file: The file to read; None looks for `.env` in the working directory and those above it.

        Returns:
            The settings.

        Raises:
            ConfigurationError: A setting is missing or wrong, or the secret key stands under a ``VITE_`` name.
        """
        return cls.from_mapping(environment(env_file))

    @classmethod
    def from_mapping(cls, values: Mapping[str, str | None]) -> Settings:
        """Read the settings from names and values, as an environment holds them.

        Args:
            values: For example `os.environ`.

        Returns:
            The settings.

        Raises:
            ConfigurationError: A setting is missing or wrong, or the secret key stands under a ``VITE_`` name.
        """
        url = _first(values, URL_NAMES)
        key = secret_key_from(values)
        missing = [names[0] for names, value in ((URL_NAMES, url), (KEY_NAMES, key)) if value is None]
        if url is None or key is None:
            raise ConfigurationError(f"Set {' and '.join(missing)} in the environment or in a .env file.")
        return cls(url=url, secret_key=key)


def environment(env_file: str | Path | None = None) -> dict[str, str | None]:
    """Read the environment, and what it lacks from a `.env` file; neither is changed.

    Args:
        env_file: The file to read; None looks for `.env` in the working directory and those above it.

    Returns:
        Names and values.

    Raises:
        ConfigurationError: The file does not exist.
    """
    if env_file is not None and not Path(env_file).is_file():
        raise ConfigurationError(f"There is no file {env_file}.")
    path = env_file or find_dotenv(usecwd=True)
    return {**(dotenv_values(path) if path else {}), **os.environ}


def secret_key_from(values: Mapping[str, str | None]) -> str | None:
    """Find the secret key, unchecked.

    Args:
        values: Names and values, as an environment holds them.

    Returns:
        The key, or None if there is none.

    Raises:
        ConfigurationError: It stands under a ``VITE_`` name only.
    """
    key = _first(values, KEY_NAMES)
    _refuse_browser_key(values, has_other=key is not None)
    return key


def _first(values: Mapping[str, str | None], names: tuple[str, ...]) -> str | None:
    return next((value.strip() for name in names if (value := values.get(name)) and value.strip()), None)


def _refuse_browser_key(values: Mapping[str, str | None], *, has_other: bool) -> None:
    found = next((BROWSER_PREFIX + name for name in KEY_NAMES if values.get(BROWSER_PREFIX + name)), None)
    if found is None:
        return
    reason = (
        f"{found} is not read: Vite builds every VITE_ variable into the JavaScript that it sends to browsers, so a "
        f"secret key under that name is public. Rename it to {KEY_NAMES[0]}, and make a new key if it was ever built."
    )
    if not has_other:
        raise ConfigurationError(reason)
    logger.warning(reason)


def check_url(url: object, name: str = "The Supabase URL", example: str = "https://<project>.supabase.co") -> str:
    """Check the URL of a service.

    Args:
        url: The URL.
        name: What it is called in messages.
        example: What it looks like.

    Returns:
        The URL without a slash at its end.

    Raises:
        ConfigurationError: It is no http or https URL, or holds a user name, a password, a query or a fragment.
    """
    if not isinstance(url, str) or not url:
        raise ConfigurationError(f"{name} is missing.")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise ConfigurationError(f"{name} is malformed.") from None
    # The URL itself stays out of these messages: what was pasted there by mistake may be a secret.
    if parts.scheme not in {"http", "https"} or not host or not url.isprintable() or " " in url:
        raise ConfigurationError(f"{name} must look like {example}.")
    if parts.username is not None or parts.query or parts.fragment:
        raise ConfigurationError(f"{name} must hold no user name, password, query or fragment.")
    return url.rstrip("/")


def check_secret_key(key: object) -> str:
    """Check that a key is one for servers.

    Args:
        key: The key.

    Returns:
        The key, unchanged.

    Raises:
        ConfigurationError: It is missing, cannot be sent in a header, or is a publishable or a user's key.
    """
    if not isinstance(key, str) or not key:
        raise ConfigurationError(f"The secret key is missing: set {KEY_NAMES[0]}.")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigurationError("The secret key holds characters that no key has; was it pasted whole?")
    if key.startswith("sb_publishable_"):
        raise ConfigurationError(
            "This is a publishable key (sb_publishable_...), which may not write streaks. "
            "Use a secret key (sb_secret_...), from Project Settings > API Keys."
        )
    role = _jwt_claims(key).get("role", "service_role")
    if role != "service_role":
        raise ConfigurationError(
            f"This is a JWT of role {role!r}, which may not write streaks. Use a secret key (sb_secret_...) or the "
            "legacy service_role key, from Project Settings > API Keys."
        )
    return key


def _jwt_claims(key: str) -> dict[str, Any]:
    """Read the claims of a JWT without checking its signature: the server does that, this only spots a mix-up."""
    parts = key.split(".")
    if len(parts) != 3:  # noqa: PLR2004 - header, claims and signature
        return {}
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except (binascii.Error, ValueError):
        return {}
    return claims if isinstance(claims, dict) else {}
