"""Errors of the bridge and the REST API for Sentry, or whatever speaks its protocol: off unless ``SENTRY_DSN`` is set.

What is sent is the message, the exception's class and the places in our code. Keys, tokens, user ids, addresses, what
requests held and the values of variables stay here.
"""

import os
import re
import sys
from collections.abc import Mapping
from typing import Any

from realtime_bridge.redaction import redact

DSN = "SENTRY_DSN"
ENVIRONMENT = "SENTRY_ENVIRONMENT"
_FLUSH_SECONDS = 2.0
# Ids of users are personal data; so are addresses of people and machines.
_PERSONAL = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
    r"|[\w.+-]+@[\w-]+\.[\w.-]+"
    r"|\b\d{1,3}(?:\.\d{1,3}){3}\b",
    re.IGNORECASE,
)
_CREDENTIALS = re.compile(r"(\w+://)[^/\s@]+@")
# What the protocol needs to group and order events; everything else of an event is cleaned text or left out.
_LEFT_OUT = ("request", "user", "server_name", "extra", "modules", "breadcrumbs")
_AS_IT_IS = ("event_id", "timestamp", "level", "platform", "sdk", "release", "environment")


class ErrorReportsError(ValueError):
    """Error reports are asked for, and cannot be sent; the message names the setting."""


def start(service: str, env: Mapping[str, str | None] | None = None) -> bool:
    """Begin to report errors, if the environment says where to.

    Everything that is logged as an error is reported, and so are exceptions that nobody caught.

    Args:
        service: What runs, for the tag ``service``.
        env: Variables to use instead of the process's environment.

    Returns:
        Whether errors are reported.

    Raises:
        ErrorReportsError: The DSN is malformed, or sentry-sdk is not installed.
    """
    values = os.environ if env is None else env
    dsn = (values.get(DSN) or "").strip()
    if not dsn:
        return False
    try:
        import sentry_sdk  # noqa: PLC0415 - an extra
        from sentry_sdk.utils import BadDsn  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise ErrorReportsError(f'{DSN}: needs sentry-sdk: install "supabase-streaks[sentry]"') from error
    try:
        sentry_sdk.init(
            dsn=dsn,
            environment=values.get(ENVIRONMENT) or None,
            include_local_variables=False,
            include_source_context=False,
            max_request_body_size="never",
            max_breadcrumbs=0,  # each could hold a URL
            auto_session_tracking=False,
            traces_sample_rate=0,
            # Those that look into requests are for web frameworks: we want none of what they see.
            auto_enabling_integrations=False,
            before_send=_clean_event,
        )
    except BadDsn:
        raise ErrorReportsError(f"{DSN}: is no DSN such as https://key@host/1") from None
    sentry_sdk.set_tag("service", service)
    return True


def stop(error: BaseException | None = None) -> None:
    """Send what is left; does nothing where no errors are reported.

    Args:
        error: What ended the program, if something did.
    """
    if (sentry_sdk := sys.modules.get("sentry_sdk")) is None:
        return
    if error is not None:
        sentry_sdk.capture_exception(error)
    sentry_sdk.flush(_FLUSH_SECONDS)


def clean(text: str) -> str:
    """Take secrets and personal data out of a text.

    Args:
        text: Such as a log message.

    Returns:
        The same with ``<redacted>`` in their places.
    """
    return _PERSONAL.sub("<redacted>", _CREDENTIALS.sub(r"\1<redacted>@", redact(text)))


def _clean_event(event: Any, _: Any) -> Any:
    return {
        name: value if name in _AS_IT_IS else _cleaned(value) for name, value in event.items() if name not in _LEFT_OUT
    }


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, Mapping):
        return {name: _cleaned(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_cleaned(each) for each in value]
    return value
