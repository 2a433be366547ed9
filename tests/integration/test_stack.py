"""The local Supabase as a user of Supabase sees it: one origin, keys, roles, rights."""

from __future__ import annotations

import httpx

from local_supabase.stack import StackInfo


async def test_keyless_request_is_refused(stack: StackInfo) -> None:
    """Without a key nothing opens: 401."""
    async with httpx.AsyncClient(base_url=stack.supabase_url) as client:
        for path in ("/rest/v1/user_streaks", "/auth/v1/user", "/rest/v1/rpc/get_user_streak"):
            assert (await client.get(path)).status_code == 401, path
