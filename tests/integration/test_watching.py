"""Dashboard and alert rules: they are sound, they fire, and they name what the running processes really export."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr
from ruamel.yaml import YAML

from local_supabase.stack import StackInfo
from realtime_bridge import BridgeSettings, serve
from realtime_bridge.health import BridgeState
from streak_client import Settings
from streak_client.errors import ErrorCode
from streak_client.rest.serving import rest_app, serve_app
from tests.support.programs import output_of, program

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy" / "prometheus" / "alerts.yml"
RULE_TESTS = ROOT / "tests" / "data" / "alerts.test.yml"
DASHBOARD = ROOT / "deploy" / "grafana" / "streaks.json"
GUIDE = ROOT / "docs" / "troubleshooting.md"
# What Grafana puts in before it asks.
VARIABLES = {"$__rate_interval": "1m", "$instance": ".+"}


def rules() -> list[dict[str, Any]]:
    """Every alert."""
    return [rule for group in YAML(typ="safe").load(RULES)["groups"] for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    """Every panel that shows something."""
    found: list[dict[str, Any]] = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    return [panel for panel in found if panel["type"] != "row"]


def expressions() -> Iterator[str]:
    """Every expression of the rules and the dashboard, as Prometheus gets it."""
    yield from (rule["expr"] for rule in rules())
    for panel in panels():
        for target in panel["targets"]:
            expression = target["expr"]
            for name, value in VARIABLES.items():
                expression = expression.replace(name, value)
            yield expression


@pytest.fixture
def promtool() -> str:
    """Prometheus's own checker."""
    return program("promtool", "prometheus")


def test_every_alert_fires_and_is_silent_when_it_should(promtool: str, tmp_path: Path) -> None:
    """Prometheus's unit tests of the rules pass: each alert fires on its fault, after its time, and not before."""
    for source in (RULES, RULE_TESTS):
        shutil.copy(source, tmp_path)
    assert "SUCCESS" in output_of(promtool, "test", "rules", RULE_TESTS.name, cwd=tmp_path)


def test_every_alert_is_tested() -> None:
    """No alert goes without a unit test in which it fires."""
    tests = YAML(typ="safe").load(RULE_TESTS)["tests"]
    fired = {case["alertname"] for test in tests for case in test.get("alert_rule_test", []) if case["exp_alerts"]}
    assert {rule["alert"] for rule in rules()} == fired


def test_prometheus_takes_the_configuration(promtool: str) -> None:
    """Prometheus starts with the configuration and the rules that the compose file mounts."""
    assert "SUCCESS" in output_of(promtool, "check", "config", RULES.with_name("prometheus.yml"))


def test_every_expression_of_the_dashboard_is_one(promtool: str, tmp_path: Path) -> None:
    """Prometheus can read every expression of the dashboard."""
    named = [{"record": f"check:number_{n}", "expr": text} for n, text in enumerate(expressions())]
    (tmp_path / "rules.json").write_text(json.dumps({"groups": [{"name": "dashboard", "rules": named}]}))
    assert f"{len(named)} rules found" in output_of(promtool, "check", "rules", tmp_path / "rules.json")


async def exported(stack: StackInfo) -> set[str]:
    """The names of all series that a running API and a running bridge export."""
    key = SecretStr(stack.secret_key)
    bridge_settings = BridgeSettings(supabase_url=stack.supabase_url, supabase_secret_key=key, port=0)
    async with (
        rest_app(Settings(stack.supabase_url, stack.secret_key)) as app,
        serve_app(app, "127.0.0.1", 0) as api,
        serve(bridge_settings) as bridge,
        httpx.AsyncClient(trust_env=False) as http,
    ):
        headers = {"apikey": stack.secret_key}
        body = {"userId": "00000000-0000-0000-0000-000000000000"}
        # An error, so that its counter has a series.
        assert (await http.post(f"{api.url}/api/streak/update", json=body, headers=headers)).status_code == 404
        texts = [(await http.get(f"{url}/metrics")).text for url in (api.url, bridge.url)]
    families = [family for text in texts for family in text_string_to_metric_families(text)]
    return {sample.name for family in families for sample in family.samples}


async def test_every_metric_that_is_watched_is_exported(stack: StackInfo) -> None:
    """Each metric that a rule or the dashboard names is one that the running API or bridge exports."""
    watched = {name for text in expressions() for name in re.findall(r"\bstreak_\w+", text)}
    assert len(watched) > 20
    assert watched - await exported(stack) == set()


def test_every_label_value_that_is_watched_exists() -> None:
    """The states and codes that expressions pick are those that the programs have."""
    text = " ".join(expressions())
    states = {state for found in re.findall(r'state=~"([^"]+)"', text) for state in found.split("|")}
    codes = {code for found in re.findall(r'code(?:!~|=~|=)"([^"]+)"', text) for code in found.split("|")}
    assert states == {BridgeState.LIVE.value, BridgeState.CATCHING_UP.value}
    assert codes
    assert codes <= {code.value for code in ErrorCode}


def test_the_dashboard_can_be_imported() -> None:
    """Panels have an id and a place of their own, a title, and say what they show; the data source is the reader's."""
    found = panels()
    assert len({panel["id"] for panel in found}) == len(found)
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in found]
    assert len(set(places)) == len(places)
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in found)
    assert all(panel["title"] and panel["description"] for panel in found)
    assert {panel["datasource"]["uid"] for panel in found} == {"${datasource}"}


def test_every_alert_leads_to_a_section_of_the_guide() -> None:
    """The runbook of each alert is a heading of the troubleshooting guide."""
    headings = re.findall(r"^#+ (.+)$", GUIDE.read_text(encoding="utf-8"), re.MULTILINE)
    anchors = {f"docs/{GUIDE.name}#" + re.sub(r"[^\w -]", "", each.lower()).replace(" ", "-") for each in headings}
    assert {rule["annotations"]["runbook"] for rule in rules()} <= anchors
