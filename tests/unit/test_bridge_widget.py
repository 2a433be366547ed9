"""`/streak-widget.js` and what goes with it, as the bridge's application serves them."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import httpx
import pytest
from pydantic import SecretStr

from realtime_bridge import Bridge, BridgeSettings
from realtime_bridge.app import create_app
from tests.support.stack import ROOT

WEB = ROOT / "realtime_bridge/web"
SCRIPT = (WEB / "streak-widget.js").read_text(encoding="utf-8")
TYPES = (WEB / "streak-widget.d.ts").read_text(encoding="utf-8")
DOCUMENT = (ROOT / "docs/streak-widget.md").read_text(encoding="utf-8")
STRANGER = {"Origin": "https://any.example"}


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    """A client of a bridge that allows one origin and has milestones of its own."""
    settings = BridgeSettings(
        supabase_url="http://127.0.0.1:9",  # nothing listens there
        supabase_secret_key=SecretStr("sb_secret_unit"),
        allowed_origins=("https://app.example",),
        milestones=(30, 3),
    )
    async with Bridge(settings) as bridge:
        transport = httpx.ASGITransport(create_app(bridge))
        async with httpx.AsyncClient(transport=transport, base_url="http://bridge") as client:
            yield client


@pytest.mark.parametrize(
    ("path", "media_type"), [("/streak-widget.js", "text/javascript"), ("/streak-widget.d.ts", "text/plain")]
)
async def test_any_page_may_load_the_file_and_keep_it(http: httpx.AsyncClient, path: str, media_type: str) -> None:
    """The file comes with its type to every origin, and again only when its content has changed."""
    first = await http.get(path, headers=STRANGER)
    assert first.status_code == 200
    assert first.headers["content-type"] == f"{media_type}; charset=utf-8"
    assert first.headers["access-control-allow-origin"] == "*"
    assert first.headers["cross-origin-resource-policy"] == "cross-origin"
    assert first.headers["x-content-type-options"] == "nosniff"
    assert "max-age" in first.headers["cache-control"]
    assert first.text == (WEB / path[1:]).read_text(encoding="utf-8")
    for tag in (first.headers["etag"], f'"other", W/{first.headers["etag"]}'):
        again = await http.get(path, headers={**STRANGER, "If-None-Match": tag})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == first.headers["etag"]
    changed = await http.get(path, headers={"If-None-Match": '"other"'})
    assert changed.status_code == 200


async def test_the_facts_are_the_bridges_own(http: httpx.AsyncClient) -> None:
    """The widget learns this bridge's time and milestones, never from a cache."""
    answer = await http.get("/streak-widget.json", headers=STRANGER)
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["cache-control"] == "no-store"
    body = answer.json()
    assert body["milestones"] == [3, 30]
    assert abs((datetime.now(UTC) - datetime.fromisoformat(body["now"])).total_seconds()) < 60


def test_everything_is_documented() -> None:
    """The page names every attribute, part, event, custom property and state of the file, and the types every label."""
    attributes = re.search(r"observedAttributes = \[(.*?)\]", SCRIPT)
    assert attributes is not None
    names = set(re.findall(r'"([\w-]+)"', attributes[1]))
    names |= set(re.findall(r"#emit\(\"([\w-]+)\"", SCRIPT)) | set(re.findall(r"var\((--streak-[\w-]+)", SCRIPT))
    parts = set(re.findall(r'make\("\w+", "[\w ]*", "([\w-]+)"', SCRIPT)) | {"flame"}
    assert len(parts) == 18
    missing = {name for name in names | parts if f"`{name}`" not in DOCUMENT}
    assert not missing
    labels = re.search(r"LABELS = Object.freeze\(\{(.*?)\}\);", SCRIPT, re.DOTALL)
    assert labels is not None
    for label in re.findall(r"^  (\w+):", labels[1], re.MULTILINE):
        assert f"  {label}: string;" in TYPES


def test_it_is_safe_under_a_strict_policy() -> None:
    """No sink of HTML or code, no inline style and no other address is in the file."""
    for sink in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "cssText"):
        assert sink not in SCRIPT
    assert set(re.findall(r"https?://[\w.]+", SCRIPT)) == {"http://www.w3.org"}  # the name of SVG's elements
