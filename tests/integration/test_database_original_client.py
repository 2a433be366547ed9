"""The original's client, which knows nothing of the additions, on our database, with the official libraries."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from postgrest import APIResponse
from supabase.lib.client_options import SyncClientOptions

from local_supabase.node import install
from local_supabase.stack import StackInfo
from supabase import Client, create_client

NewUser = Callable[[], Awaitable[UUID]]
PROGRAM = Path(__file__).parents[1] / "js" / "original_client.mjs"
UPDATED = ["success", "current_streak", "longest_streak", "last_active_date", "change_type", "message"]
READ = ["current_streak", "longest_streak", "last_active_date", "timezone", "is_active_today", "days_since_activity"]
BOARD = ["rank", "user_id", "current_streak", "longest_streak", "last_active_date", "is_active_today"]


@pytest.fixture
def client(stack: StackInfo) -> Iterator[Client]:
    """supabase-py with the service key."""
    with httpx.Client() as transport:
        options = SyncClientOptions(httpx_client=transport, auto_refresh_token=False, persist_session=False)
        yield create_client(stack.supabase_url, stack.secret_key, options)


def rows(answer: APIResponse) -> list[dict[str, Any]]:
    """The rows of an answer."""
    found: Any = answer.data
    assert isinstance(found, list)
    return found


async def test_supabase_py(client: Client, new_user: NewUser) -> None:
    """The original's calls through supabase-py get its columns first, in its order, with its types."""
    user = str(await new_user())
    today = datetime.now(UTC).date().isoformat()
    parameters = {"p_user_id": user, "p_timezone": "UTC", "p_request_id": "request-1"}
    (updated,) = rows(client.rpc("update_user_streak_atomic", parameters).execute())
    assert list(updated)[:6] == UPDATED
    assert [updated[name] for name in UPDATED[:5]] == [True, 1, 1, today, "FIRST_ACTIVITY"]
    assert isinstance(updated["message"], str)

    (read,) = rows(client.rpc("get_user_streak", {"p_user_id": user}).execute())
    assert list(read)[:6] == READ
    assert [read[name] for name in READ] == [1, 1, today, "UTC", True, 0]

    board = client.rpc("get_streak_leaderboard", {"p_limit": 1000, "p_offset": 0, "p_order_by": "current_streak"})
    ranked = rows(board.execute())
    assert list(ranked[0]) == BOARD
    assert user in {row["user_id"] for row in ranked}

    history = client.table("streak_history").select("*").eq("user_id", user).order("created_at", desc=True).execute()
    (entry,) = rows(history)
    assert (entry["change_type"], entry["request_id"], entry["version_before"], entry["version_after"]) == (
        "FIRST_ACTIVITY",
        "request-1",
        0,
        1,
    )
    (row,) = rows(client.table("user_streaks").select("*").in_("user_id", [user]).execute())
    assert row.items() >= {"current_streak": 1, "longest_streak": 1, "timezone": "UTC", "version": 1}.items()


async def test_defaults(client: Client, new_user: NewUser) -> None:
    """Each call works with the user alone, as the original's defaults allow, and a user without a row reads zeros."""
    user = str(await new_user())
    (nothing,) = rows(client.rpc("get_user_streak", {"p_user_id": user}).execute())
    assert [nothing[name] for name in READ] == [0, 0, None, "UTC", False, None]
    (updated,) = rows(client.rpc("update_user_streak_atomic", {"p_user_id": user}).execute())
    assert updated["change_type"] == "FIRST_ACTIVITY"
    assert rows(client.rpc("get_streak_leaderboard", {}).execute())


async def test_supabase_js(stack: StackInfo, new_user: NewUser) -> None:
    """The original's calls through supabase-js, the client that it was written for, get the same."""
    user = str(await new_user())
    tools = await install(logging.getLogger(__name__).info)
    process = await asyncio.create_subprocess_exec(
        tools.node,
        str(PROGRAM),
        str(tools.root),
        stack.supabase_url,
        user,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "SUPABASE_KEY": stack.secret_key},
    )
    output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()
    answers = json.loads(output)
    assert [answer["error"] for answer in answers] == [None] * 4
    (updated,), (read,), board, (entry,) = [answer["data"] for answer in answers]
    assert (list(updated)[:6], list(read)[:6], list(board[0])) == (UPDATED, READ, BOARD)
    assert (updated["change_type"], read["current_streak"], entry["request_id"]) == ("FIRST_ACTIVITY", 1, "request-1")
