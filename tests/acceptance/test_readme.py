"""The README's examples run as they stand."""

import ast
import asyncio
import inspect
import re
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from local_supabase.stack import StackInfo
from streak_client import Settings
from streak_client.rest.serving import rest_app, serve_app

README = Path(__file__).parents[2] / "README.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
TOP_LEVEL_AWAIT = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT


async def run(example: str, **names: Any) -> None:
    """Run an example, with the names that its text leaves to the reader."""
    outcome = eval(compile(example, "README.md", "exec", flags=TOP_LEVEL_AWAIT), names)  # noqa: S307 - our own text
    if inspect.isawaitable(outcome):
        await outcome


def examples_with(word: str) -> list[str]:
    """The examples that hold a word."""
    return [example for example in EXAMPLES if word in example]


def client_examples() -> list[str]:
    """The examples that use a client."""
    return examples_with("update_user_streak")


@pytest.mark.parametrize("example", client_examples())
async def test_each_client_example_counts_an_activity(
    example: str,
    stack: StackInfo,
    new_user: Callable[[], Awaitable[uuid.UUID]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The sync and the async example of the README work as they stand and stay under ten lines."""
    monkeypatch.setenv("SUPABASE_URL", stack.supabase_url)
    monkeypatch.setenv("SUPABASE_SECRET_KEY", stack.secret_key)
    user_id = await new_user()
    await run(example, user_id=user_id)
    assert "FIRST_ACTIVITY 1" in capsys.readouterr().out
    assert len(example.splitlines()) < 10


def test_there_is_a_sync_and_an_async_client_example() -> None:
    """The README shows both clients."""
    assert ["async with" in example for example in client_examples()] == [False, True]


async def test_the_outbox_example_counts_an_activity(
    stack: StackInfo,
    new_user: Callable[[], Awaitable[uuid.UUID]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    """The outbox's example of the README counts at once while the service is up, and makes its file."""
    monkeypatch.setenv("SUPABASE_URL", stack.supabase_url)
    monkeypatch.setenv("SUPABASE_SECRET_KEY", stack.secret_key)
    monkeypatch.chdir(tmp_path)
    (example,) = examples_with("handle_problem_solved")
    await run(example, user_id=await new_user())
    assert capsys.readouterr().out == "1\n"
    assert (tmp_path / "streaks.db").exists()


async def test_the_rest_example_counts_an_activity(
    stack: StackInfo, new_user: Callable[[], Awaitable[uuid.UUID]], capsys: pytest.CaptureFixture[str]
) -> None:
    """The REST API's example of the README works as it stands."""
    (example,) = examples_with("/api/streak/update")
    user_id = await new_user()
    async with (
        rest_app(Settings(stack.supabase_url, stack.secret_key)) as app,
        serve_app(app, "127.0.0.1", 0) as served,
    ):
        await asyncio.to_thread(
            exec, example, {"api_url": served.url, "secret_key": stack.secret_key, "user_id": user_id}
        )
    assert capsys.readouterr().out == "FIRST_ACTIVITY\n"


def test_every_example_has_a_test() -> None:
    """No example of the README goes untested."""
    assert len(EXAMPLES) == len(client_examples()) + len(
        [*examples_with("handle_problem_solved"), *examples_with("/api/streak/update"), *examples_with("Bridge")]
    )


async def test_the_bridge_example_prints_the_snapshot(
    stack: StackInfo,
    new_user: Callable[[], Awaitable[uuid.UUID]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The bridge's example of the README listens as it stands."""
    monkeypatch.setenv("SUPABASE_URL", stack.supabase_url)
    monkeypatch.setenv("SUPABASE_SECRET_KEY", stack.secret_key)
    (example,) = (example for example in EXAMPLES if "Bridge" in example)
    user_id = await new_user()
    # the example listens for ever: stop at the snapshot
    example += "        if message.type == 'snapshot': break\n"
    async with asyncio.timeout(60):
        await run(example, user_id=user_id)
    assert "snapshot" in capsys.readouterr().out
