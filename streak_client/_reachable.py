"""Is there somebody who looks: error reports, dashboards and metrics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from typing import NamedTuple

import httpx

from streak_client._doctor import Finding
from streak_client._proxies import is_loopback
from streak_client.errors import ConfigurationError
from streak_client.settings import check_url

TIMEOUT = 10.0


class Page(NamedTuple):
    """A page that must answer.

    Attributes:
        check: What it is called.
        variable: The setting with the URL before it.
        path: Where.
        words: What the answer must hold.
        remedy: What to do where there is none.
    """

    check: str
    variable: str
    path: str
    words: str
    remedy: str


PAGES = (
    Page("bridge", "BRIDGE_URL", "/readyz", "state", "Start the bridge, and see what its /readyz says."),
    Page("bridge metrics", "BRIDGE_URL", "/metrics", "streak_bridge_", "Let the address that Prometheus asks through."),
    Page(
        "dashboard", "BRIDGE_URL", "/", "<html", "The bridge serves the dashboard at /: is the proxy in between right?"
    ),
    Page("api metrics", "API_URL", "/metrics", "streak_client_", "Start streaks serve, and let Prometheus ask it."),
    Page("prometheus", "PROMETHEUS_URL", "/-/ready", "", "Start Prometheus with deploy/prometheus."),
    Page("grafana", "GRAFANA_URL", "/api/health", "ok", "Start Grafana with deploy/grafana."),
)
# Others may stand in for these.
OPTIONAL = {"PROMETHEUS_URL", "GRAFANA_URL"}


def logging_of(values: Mapping[str, str | None]) -> Finding:
    """Check that errors are reported to somebody.

    Args:
        values: The environment.

    Returns:
        The finding.
    """
    if not (values.get("SENTRY_DSN") or "").strip():
        remedy = "Set SENTRY_DSN for bridge and API; if something else reads their logs: --skip logging."
        return Finding("logging", "failed", "errors are logged, and reported to nobody", remedy)
    if find_spec("sentry_sdk") is None:
        return Finding("logging", "failed", "sentry-sdk is missing", 'Install "supabase-streaks[sentry]".')
    return Finding("logging", "ok", "errors are reported to SENTRY_DSN")


def pages(values: Mapping[str, str | None]) -> Iterator[Finding]:
    """Ask every dashboard and exporter.

    Args:
        values: The environment.

    Yields:
        The findings.
    """
    for page in PAGES:
        url = (values.get(page.variable) or "").strip()
        if url:
            yield _ask(page, url)
        elif page.variable in OPTIONAL:
            yield Finding(page.check, "skipped", f"set {page.variable} to check it")
        else:
            remedy = f"Set {page.variable}; without such a process: --skip '{page.check}'."
            yield Finding(page.check, "failed", f"{page.variable} is not set", remedy)


def _ask(page: Page, url: str) -> Finding:
    try:
        base = check_url(url, page.variable, "https://streaks.example.com")
    except ConfigurationError as error:
        return Finding(page.check, "failed", error.message, f"Set {page.variable} right.")
    try:
        with httpx.Client(timeout=TIMEOUT, trust_env=not is_loopback(base), follow_redirects=True) as http:
            answer = http.get(f"{base}{page.path}")
    except httpx.HTTPError as error:
        return Finding(page.check, "failed", f"{page.path} does not answer ({type(error).__name__})", page.remedy)
    if not answer.is_success or page.words not in answer.text:
        return Finding(page.check, "failed", f"{page.path} answers HTTP {answer.status_code}", page.remedy)
    return Finding(page.check, "ok", f"{page.path} answers")
