"""What the guides tell people to type, and what they say is printed then, run and compared."""

from __future__ import annotations

import asyncio
import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from local_supabase.stack import StackInfo
from streak_client.cli import main
from streak_client.settings import KEY_NAMES, URL_NAMES, environment
from tests.support.supabase_cli import pushed_database

__all__ = ["pushed_database"]
DOCS = Path(__file__).parents[2] / "docs"
CHECKLIST = re.compile(r"^(?:DATABASE_URL=\S+ )?streaks checklist([^&\n]*)", re.MULTILINE)


@pytest.fixture(autouse=True)
def _folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No .env of ours is read."""
    monkeypatch.chdir(tmp_path)


def guide(name: str) -> str:
    """The text of a guide."""
    return (DOCS / name).read_text(encoding="utf-8")


def test_checklists_of_the_guide_pass_where_they_stand(pushed_database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the push alone, with neither bridge nor API, each checklist of the deployment guide ends well."""
    monkeypatch.setenv("SENTRY_DSN", "https://key@localhost/1")
    options = CHECKLIST.findall(guide("deployment.md"))
    assert len(options) == 2
    for each in options:
        found = CliRunner().invoke(main, ["checklist", *shlex.split(each)], env={"DATABASE_URL": pushed_database})
        assert found.exit_code == 0, found.output


async def test_the_guide_shows_what_doctor_prints(stack: StackInfo, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sample in the deployment guide is what `streaks doctor` prints in a healthy project."""
    for name, value in stack.environment().items():
        monkeypatch.setenv(name, value)
    printed = await asyncio.to_thread(CliRunner().invoke, main, ["doctor"])
    shown = [line for line in guide("deployment.md").splitlines() if re.match(r"ok  +\w", line)]
    assert [re.sub(r"\d+ s$", "0 s", line) for line in printed.output.splitlines()] == shown


def test_a_trial_restore_looks_at_no_other_project(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whatever names a project in the environment, the monthly trial looks at the one that it has just started."""
    names = {"DATABASE_URL", "SUPABASE_PUBLISHABLE_KEY", *URL_NAMES, *KEY_NAMES}
    for name in names:
        monkeypatch.setenv(name, "live")
    before, _, _ = guide("backup.md").partition("\nstreaks up --port 0")
    for line in re.findall(r"^.*\bunset (.+)$", before, re.MULTILINE):
        for name in line.split("#")[0].split():
            monkeypatch.delenv(name, raising=False)
    tmp_path.joinpath(".env").write_text("".join(f"{name}=trial\n" for name in names), encoding="utf-8")
    values = environment()
    assert {name: values[name] for name in names} == dict.fromkeys(names, "trial")
