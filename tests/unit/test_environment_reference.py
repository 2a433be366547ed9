"""docs/environment.md names every variable that the programs read, and the bridge's as its settings have them."""

from __future__ import annotations

import ast
import inspect
import os
import re
from pathlib import Path

from realtime_bridge.settings import BridgeSettings, variable_name

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "environment.md"
EXAMPLE = ROOT / "deploy" / "streaks.env.example"
UPDATE = "UPDATE_ENVIRONMENT_REFERENCE"
VARIABLE = re.compile(r"(?:VITE_|LOCAL_)?SUPABASE_[A-Z_]+|STREAKS_[A-Z_]+|SENTRY_[A-Z_]+|[A-Z]+_URL")
# Set for the Supabase CLI, which is ours to start; not read from anybody.
OF_THE_CLI = {"SUPABASE_HOME", "SUPABASE_TELEMETRY_DISABLED"}


def read_by_the_programs() -> set[str]:
    """The names of variables in the source."""
    files = [
        file for name in ("streak_client", "realtime_bridge", "local_supabase") for file in ROOT.glob(f"{name}/**/*.py")
    ]
    found = {
        node.value
        for file in files
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and VARIABLE.fullmatch(node.value)
    }
    return (found | {variable_name(name) for name in BridgeSettings.model_fields}) - OF_THE_CLI


def bridge_table() -> str:
    """The settings of the bridge, with defaults and descriptions from the class."""
    described = re.sub(r"\n\s{6,}", " ", inspect.getdoc(BridgeSettings) or "")
    lines = ["| variable | default | what it is |", "|---|---|---|"]
    for name, field in BridgeSettings.model_fields.items():
        if name.startswith("supabase_"):
            continue
        default = field.get_default()
        if isinstance(default, tuple):
            default = ",".join(map(str, default))
        text = re.search(rf"^\s+{name}: (.+)$", described, re.MULTILINE)
        assert text, f"{name} is not described"
        shown = (
            f"`{str(default).lower() if isinstance(default, bool) else default}`"
            if default not in {"", None}
            else "none"
        )
        lines.append(f"| `{variable_name(name)}` | {shown} | {text[1].replace('``', '`')} |")
    return "\n".join(lines)


def test_every_variable_is_in_the_reference() -> None:
    """The reference names the variables that the source reads, and no other."""
    named = set(re.findall(r"`([A-Z][A-Z_]+)`", REFERENCE.read_text(encoding="utf-8")))
    assert named - {"READY", "VITE_"} == read_by_the_programs()


def test_the_bridges_settings_are_as_the_class_has_them() -> None:
    """The bridge's table is the one that its settings class gives; `UPDATE_ENVIRONMENT_REFERENCE=1` writes it anew."""
    text = REFERENCE.read_text(encoding="utf-8")
    head, start, rest = text.partition("test_environment_reference.py -->\n")
    table, end, tail = rest.partition("<!-- end -->")
    if os.environ.get(UPDATE):
        table = f"\n{bridge_table()}\n\n"
        REFERENCE.write_text(head + start + table + end + tail, encoding="utf-8")
    assert table.strip() == bridge_table(), f"set {UPDATE}=1 and run this test again"


def test_the_example_names_variables_that_exist() -> None:
    """The example file for deployments sets only variables that the programs read, and holds no secret."""
    lines = [line.lstrip("#") for line in EXAMPLE.read_text(encoding="utf-8").splitlines()]
    pairs = [line.partition("=")[::2] for line in lines if re.match(r"[A-Z_]+=", line)]
    assert {name for name, _ in pairs} <= read_by_the_programs()
    assert {value for name, value in pairs if name.endswith(("KEY", "SECRET", "DSN"))} == {""}
