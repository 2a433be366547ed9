"""Is everything in place? One check after the other, each with what mends it; nothing is written."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Literal

import httpx

from streak_client._base import utc_now
from streak_client._driver import Driver
from streak_client._metrics import Metrics
from streak_client._proxies import is_loopback
from streak_client._steps import Call, Flow, Request, Rpc, Select
from streak_client.errors import (
    ConfigurationError,
    ConnectionFailedError,
    InvalidInputError,
    PermissionDeniedError,
    RequestTimeoutError,
    StreakError,
)
from streak_client.settings import Settings

NOBODY = "00000000-0000-0000-0000-000000000000"
TIMEOUT = 10.0
# Activities more than five minutes ahead of the database's clock are refused; warn long before.
MOST_SKEW = timedelta(seconds=30)
DEPLOY = "Run: supabase db push --remote, with the migrations of this release."

# Calls that change nothing: for nobody, for none, or refused for their arguments.
FUNCTIONS: dict[str, dict[str, Any]] = {
    "update_user_streak_atomic": {
        "p_user_id": None,
        "p_timezone": None,
        "p_request_id": None,
        "p_activity_at": None,
    },
    "update_user_streaks_batch": {"p_user_ids": [], "p_activity_ats": [], "p_timezones": [], "p_request_ids": []},
    "get_user_streak": {"p_user_id": NOBODY},
    "get_user_streaks": {"p_user_ids": []},
    "get_streak_leaderboard": {"p_limit": 1, "p_offset": 0, "p_order_by": "current_streak"},
    "get_streak_calendar": {"p_user_id": NOBODY, "p_from": "2026-01-01", "p_to": "2026-01-01"},
    "recover_user_streak": {
        "p_user_id": NOBODY,
        "p_from": "2026-01-01",
        "p_to": "2026-01-01",
        "p_reason": "streaks doctor",
        "p_request_id": None,
    },
    "import_user_activity": {"p_user_ids": [], "p_activity_ats": [], "p_timezones": []},
    "rebuild_user_streak": {"p_user_id": None},
    "expire_lapsed_streaks": {"p_limit": 0},
    "undo_user_activity": {"p_user_id": None, "p_day": None, "p_reason": None, "p_request_id": None},
    "merge_user_streaks": {"p_from": None, "p_into": None, "p_reason": None, "p_request_id": None},
    "export_user_streak": {"p_user_id": None},
    "erase_user_streak": {"p_user_id": None},
    "preview_streak_repair": {"p_from": None, "p_to": None, "p_after": None, "p_limit": 0, "p_sample": 0},
    "start_streak_repair": {"p_from": None, "p_to": None, "p_reason": None, "p_request_id": None},
    "continue_streak_repair": {"p_repair_id": 0, "p_limit": 0},
    "undo_streak_repair": {"p_repair_id": 0, "p_limit": 0},
    "explain_user_streak": {"p_user_id": NOBODY},
    "archive_streak_history": {"p_older_than": None, "p_limit": 0, "p_remove": False},
    "diagnose_streaks": {"p_limit": 0},
}
# Each with a column to order its rows by.
TABLES = {
    "user_streaks": "user_id",
    "streak_history": "user_id",
    "streak_days": "user_id",
    "streak_history_archive": "user_id",
    "streak_repairs": "id",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found.

    Attributes:
        check: What was looked at: ``service``, ``key``, ``schema``, ``rights``, ``public rights``, ``clock`` or
            ``publication``.
        status: ``skipped`` if it could not be told.
        detail: What was found, for people.
        remedy: What mends it; None if nothing has to be mended.
    """

    check: str
    status: Literal["ok", "failed", "skipped"]
    detail: str
    remedy: str | None = None

    def as_dict(self) -> dict[str, str | None]:
        """Bring it into JSON's form.

        Returns:
            The attributes by name.
        """
        return asdict(self)


def examine(settings: Settings, publishable_key: str | None) -> Iterator[Finding]:
    """Check the service, the key, the schema, the rights and the clock.

    Args:
        settings: Where the service is, and the secret key.
        publishable_key: The key that browsers use, to see that it may not write; None leaves that out.

    Yields:
        The findings; after a service that does not answer or a refused key there is no further one.
    """
    driver = Driver(settings, 1, TIMEOUT, Metrics())
    try:
        first = list(_service_and_key(driver))
        yield from first
        if any(finding.status == "failed" for finding in first):
            return
        yield from _schema_and_rights(driver)
    finally:
        driver.close()
    yield _public_rights(settings, publishable_key)
    yield _clock(settings)


def _ask(driver: Driver, request: Request) -> StreakError | None:
    def flow() -> Flow[object]:
        return (yield Call(request, lambda data: data))

    try:
        driver.run(flow())
    except InvalidInputError:
        return None  # it is there, may be called, and checks what it gets
    except StreakError as error:
        return error
    return None


def _service_and_key(driver: Driver) -> Iterator[Finding]:
    error = _ask(driver, Rpc("get_user_streak", FUNCTIONS["get_user_streak"]))
    if isinstance(error, ConnectionFailedError | RequestTimeoutError):
        remedy = "Check SUPABASE_URL, the network, and whether the project is paused."
        yield Finding("service", "failed", error.message, remedy)
        return
    yield Finding("service", "ok", "it answers")
    # A role without the right to the function is told by SQLSTATE; a key that is refused is not.
    if isinstance(error, PermissionDeniedError) and error.sqlstate != "42501":
        remedy = "Set SUPABASE_SECRET_KEY to a secret key of this project: Project Settings > API Keys."
        yield Finding("key", "failed", error.message, remedy)
    else:
        yield Finding("key", "ok", "it is accepted")


def _schema_and_rights(driver: Driver) -> Iterator[Finding]:
    requests: dict[str, Request] = {name: Rpc(name, params) for name, params in FUNCTIONS.items()}
    requests |= {name: Select(name, (), column, descending=False, limit=1) for name, column in TABLES.items()}
    errors = {name: error for name, request in requests.items() if (error := _ask(driver, request))}
    missing = [name for name, error in errors.items() if isinstance(error, ConfigurationError)]
    denied = [name for name, error in errors.items() if isinstance(error, PermissionDeniedError)]
    other = {name: error for name, error in errors.items() if name not in {*missing, *denied}}
    if missing:
        yield Finding("schema", "failed", f"missing, or not of this release: {', '.join(missing)}", DEPLOY)
    elif other:
        name, error = next(iter(other.items()))
        yield Finding("schema", "failed", f"{name}: {error.message} [{error.code}]", DEPLOY)
    else:
        yield Finding("schema", "ok", f"{len(requests)} functions and tables are those of this release")
    if denied:
        remedy = f"The key must be of role service_role; if it is, grants were changed by hand. {DEPLOY}"
        yield Finding("rights", "failed", f"the key may not use {', '.join(denied)}", remedy)
    else:
        yield Finding("rights", "ok", "the key may read and write streaks")


def _bare(settings: Settings, key: str) -> httpx.Client:
    return httpx.Client(headers={"apikey": key}, timeout=TIMEOUT, trust_env=not is_loopback(settings.url))


def _public_rights(settings: Settings, key: str | None) -> Finding:
    if not key:
        return Finding("public rights", "skipped", "set SUPABASE_PUBLISHABLE_KEY to check that browsers cannot write")
    url = f"{settings.url}/rest/v1/rpc/update_user_streak_atomic"
    try:
        # Without a user: even where it may be called, nothing is written.
        with _bare(settings, key) as http:
            answer = http.post(url, json=FUNCTIONS["update_user_streak_atomic"])
    except httpx.HTTPError as error:
        return Finding("public rights", "skipped", f"no answer ({type(error).__name__})")
    if answer.status_code in {401, 403, 404}:
        return Finding("public rights", "ok", "the publishable key may not write")
    remedy = "If SUPABASE_PUBLISHABLE_KEY holds the key that browsers get, revoke what anon was granted by hand."
    return Finding("public rights", "failed", "the publishable key may count activities", remedy)


def _clock(settings: Settings) -> Finding:
    try:
        began = time.monotonic()
        with _bare(settings, settings.secret_key) as http:
            answer = http.get(f"{settings.url}/rest/v1/")
        took = timedelta(seconds=time.monotonic() - began)
        theirs = parsedate_to_datetime(answer.headers["date"])
    except (httpx.HTTPError, KeyError, ValueError) as error:
        return Finding("clock", "skipped", f"the service does not tell its time ({type(error).__name__})")
    # The header has whole seconds, and was written somewhere between question and answer.
    skew = abs(utc_now() - took / 2 - theirs - timedelta(seconds=0.5))
    detail = f"this machine and the service differ by {skew.total_seconds():.0f} s"
    if skew <= MOST_SKEW:
        return Finding("clock", "ok", detail)
    return Finding("clock", "failed", detail, "Set this machine's clock: switch time synchronisation (NTP) on.")
