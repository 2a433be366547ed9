"""The HTTP clients under supabase-py: time-outs, connection limits, and a note of what each answer said."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any

import httpx
from postgrest.base_client import BasePostgrestClient
from supabase.lib.client_options import SyncClientOptions

from streak_client._proxies import is_loopback
from streak_client._translate import Exchange
from streak_client.settings import Settings
from supabase import AsyncClient, AsyncClientOptions, Client

CONNECT_TIMEOUT = 5.0
LIMITS = httpx.Limits(max_connections=50, max_keepalive_connections=50, keepalive_expiry=30.0)
# postgrest gives httpx an empty list, for which httpx would take the URL apart a second time.
NO_PARAMS: Any = None

# postgrest tells neither status nor headers. A context variable is each task's and each thread's own, so the hook
# below, which runs inside the call, finds the right note whoever shares the client.
_current: ContextVar[Exchange | None] = ContextVar("streak_client_exchange", default=None)


@contextmanager
def exchange() -> Iterator[Exchange]:
    """Note what the answer to the request made inside says.

    Yields:
        The note; empty as long as no answer has come.
    """
    note = Exchange()
    token = _current.set(note)
    try:
        yield note
    finally:
        _current.reset(token)


def _record(response: httpx.Response) -> None:
    if (note := _current.get()) is not None:
        note.status = response.status_code
        note.headers = response.headers


async def _record_async(response: httpx.Response) -> None:
    _record(response)


@cache
def _tls() -> ssl.SSLContext:
    # Reading the certificate authorities takes tens of milliseconds; clients can share what was read.
    return httpx.create_ssl_context()


def _timeout(seconds: float) -> httpx.Timeout:
    # No limit on waiting for a free connection: those ahead in the queue have limits, and giving up here would turn
    # a burst of calls into retries, which are more load.
    return httpx.Timeout(seconds, connect=min(seconds, CONNECT_TIMEOUT), pool=None)


def open_async(settings: Settings, timeout: float) -> tuple[httpx.AsyncClient, AsyncClient]:
    """Open the async HTTP client and the Supabase client over it.

    Args:
        settings: Where, and with which key.
        timeout: Seconds without progress after which an attempt is given up.

    Returns:
        The HTTP client, which the caller closes, and the Supabase client.
    """
    http = httpx.AsyncClient(
        verify=_tls(),
        timeout=_timeout(timeout),
        limits=LIMITS,
        trust_env=not is_loopback(settings.url),
        event_hooks={"response": [_record_async]},
    )
    # Its own retries would wait seconds and know nothing of ours.
    options = AsyncClientOptions(
        httpx_client=http, auto_refresh_token=False, persist_session=False, postgrest_client_retry=False
    )
    supabase = AsyncClient(settings.url, settings.secret_key, options)
    _hand_over_headers(supabase.postgrest, http)
    return http, supabase


def open_sync(settings: Settings, timeout: float) -> tuple[httpx.Client, Client]:
    """Open the sync HTTP client and the Supabase client over it.

    Args:
        settings: Where, and with which key.
        timeout: Seconds without progress after which an attempt is given up.

    Returns:
        The HTTP client, which the caller closes, and the Supabase client.
    """
    http = httpx.Client(
        verify=_tls(),
        timeout=_timeout(timeout),
        limits=LIMITS,
        trust_env=not is_loopback(settings.url),
        event_hooks={"response": [_record]},
    )
    options = SyncClientOptions(
        httpx_client=http, auto_refresh_token=False, persist_session=False, postgrest_client_retry=False
    )
    supabase = Client(settings.url, settings.secret_key, options)
    _hand_over_headers(supabase.postgrest, http)
    return http, supabase


def _hand_over_headers(postgrest: BasePostgrestClient, http: httpx.AsyncClient | httpx.Client) -> None:
    # They are the same in every request, but postgrest would copy them twice for each, and httpx a third time.
    http.headers.update(postgrest.headers)
    postgrest.headers = httpx.Headers()
