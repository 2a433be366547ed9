"""The bridge's settings: from arguments, or from the environment and a ``.env`` file."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from dotenv import dotenv_values
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

DEFAULT_MILESTONES = (7, 14, 30, 50, 100, 200, 365, 500, 1000)


class SettingsError(ValueError):
    """A setting is missing or wrong; the message names it and never shows its value."""


class BridgeSettings(BaseModel):
    """Everything that a bridge can be told. Durations are seconds.

    Attributes:
        supabase_url: The project's URL, as ``SUPABASE_URL``.
        supabase_secret_key: A secret (``sb_secret_...``) or legacy service_role key.
        supabase_jwt_secret: The legacy secret that signs users' tokens (HS256); none: JWKS only.
        supabase_publishable_key: A publishable (``sb_publishable_...``) or legacy anon key, with which the dashboard's
            sign-in by e-mail asks Supabase Auth; none: nobody can sign in that way.
        host: The address that the server listens on.
        port: Its port; 0 picks a free one.
        debounce: Quiet time before a change is sent, unless a listener asks for another.
        max_wait: The longest that a change is held back by debouncing.
        keep_alive: The longest silence on a connection before a keep-alive is sent.
        slow_after: A listener that reads nothing for this long, with mail waiting, is closed.
        mailbox_limit: Users with unread changes that a listener may have before it is closed as slow.
        max_listeners: Connections over HTTP that one bridge takes.
        max_listeners_per_user: Connections over HTTP of one user.
        recent_limit: Rows kept of users whom nobody follows by name (what changed lately).
        reconcile_interval: Pause between two readings of the change log.
        history_overlap: How far back the change log is read again, for transactions that commit late.
        ready_timeout: Wait for "Subscribed to PostgreSQL" before the socket is replaced.
        recycle_after: Age at which the socket is replaced (the server ends it after 24 hours).
        rest_timeout: Time-out of one read over REST.
        milestones: Streak lengths that are worth an event of their own.
        broadcast: Whether each debounced change is also published to the private Realtime channel of its user.
        allowed_origins: Web origins, besides the bridge's own, for WebSockets and CORS; ``*`` for any.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    supabase_url: str = Field(pattern=r"^https?://[^/\s]+")
    supabase_secret_key: SecretStr = Field(min_length=1)
    supabase_jwt_secret: SecretStr | None = None
    supabase_publishable_key: str | None = None
    host: str = "127.0.0.1"
    port: int = Field(default=54330, ge=0, le=65535)
    debounce: float = Field(default=2.0, ge=0, le=3600)
    max_wait: float = Field(default=5.0, ge=0, le=3600)
    keep_alive: float = Field(default=15.0, gt=0)
    slow_after: float = Field(default=30.0, gt=0)
    mailbox_limit: int = Field(default=10_000, ge=1)
    max_listeners: int = Field(default=20_000, ge=1)
    max_listeners_per_user: int = Field(default=50, ge=1)
    recent_limit: int = Field(default=50_000, ge=1)
    reconcile_interval: float = Field(default=10.0, gt=0)
    history_overlap: float = Field(default=30.0, ge=0)
    ready_timeout: float = Field(default=60.0, gt=0)
    recycle_after: float = Field(default=20 * 3600.0, gt=0)
    rest_timeout: float = Field(default=5.0, gt=0)
    milestones: tuple[int, ...] = DEFAULT_MILESTONES
    broadcast: bool = False
    allowed_origins: tuple[str, ...] = ()

    @field_validator("supabase_url")
    @classmethod
    def _without_slash(cls, url: str) -> str:
        return url.rstrip("/")

    @field_validator("supabase_jwt_secret", "supabase_publishable_key", mode="before")
    @classmethod
    def _empty_is_none(cls, secret: Any) -> Any:
        # HS256 with an empty secret would accept tokens that anybody can sign.
        return secret or None

    @field_validator("supabase_publishable_key")
    @classmethod
    def _for_browsers(cls, key: str | None, info: ValidationInfo) -> str | None:
        secret: SecretStr | None = info.data.get("supabase_secret_key")
        if key and (key.startswith("sb_secret_") or (secret is not None and key == secret.get_secret_value())):
            raise ValueError("must be the publishable or anon key, not a secret one")
        return key

    @model_validator(mode="after")
    def _window_order(self) -> Self:
        if self.max_wait < self.debounce:
            raise ValueError("max_wait must not be shorter than debounce")
        return self

    @classmethod
    def from_env(
        cls, env: Mapping[str, str] | None = None, *, dotenv: Path | str | None = ".env", **overrides: Any
    ) -> Self:
        """Read settings from the environment; what it lacks, from a ``.env`` file.

        ``SUPABASE_URL``, ``SUPABASE_SECRET_KEY``, ``SUPABASE_JWT_SECRET`` and ``SUPABASE_PUBLISHABLE_KEY`` go by
        these names, every other setting by ``BRIDGE_`` and its name in capitals (``BRIDGE_MAX_WAIT=5``); lists are
        separated by commas.

        Args:
            env: Variables to use instead of the process's environment.
            dotenv: The file to read, or None.
            **overrides: Settings that win over both.

        Returns:
            The settings.

        Raises:
            SettingsError: A variable is missing or wrong; the message names each.
        """
        stored = dotenv_values(dotenv) if dotenv and Path(dotenv).is_file() else {}
        merged = {**stored, **(os.environ if env is None else env)}
        values: dict[str, Any] = {}
        for name in cls.model_fields:
            text = merged.get(variable_name(name))
            if text:
                values[name] = _split(text) if name in _LISTS else text
        try:
            return cls(**{**values, **overrides})
        except ValidationError as error:
            raise SettingsError(_explain(error)) from None


_LISTS = ("milestones", "allowed_origins")


def variable_name(field: str) -> str:
    """The environment variable of a setting."""
    return field.upper() if field.startswith("supabase_") else f"BRIDGE_{field.upper()}"


def _split(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _explain(error: ValidationError) -> str:
    parts = []
    for item in error.errors(include_input=False, include_url=False):
        name = variable_name(str(item["loc"][0])) if item["loc"] else "settings"
        parts.append(f"{name}: {'is not set' if item['type'] == 'missing' else item['msg']}")
    return "; ".join(parts)
