"""The fault switches of REST and PostgreSQL do what they say, so that what survives them survives something."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from inspect import signature
from uuid import UUID

import asyncpg
import httpx
import pytest

from local_supabase.errors import LocalSupabaseError
from local_supabase.faults import Faults
from local_supabase.realtime_faults import Faults as RealtimeFaults
from local_supabase.stack import StackInfo

NewUser = Callable[[], Awaitable[UUID]]
READ = "/rest/v1/rpc/get_user_streak"
UPDATE = "/rest/v1/rpc/update_user_streak_atomic"
NO_FAULTS = {"run", "gate", "refusal", "count_frame"}


@pytest.fixture
async def http(stack: StackInfo) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client with the secret key."""
    headers = {"apikey": stack.secret_key}
    async with httpx.AsyncClient(base_url=stack.supabase_url, headers=headers, timeout=30) as client:
        yield client


async def test_errors_last_for_their_count(http: httpx.AsyncClient, faults: Faults, new_user: NewUser) -> None:
    """An error for two requests of one path fails two, there only, and does nothing."""
    user = {"p_user_id": str(await new_user())}
    await faults.rest_error(502, count=2, path="/rpc/update_")
    assert [(await http.post(UPDATE, json=user)).status_code for _ in range(2)] == [502, 502]
    assert (await http.post(READ, json=user)).json()[0]["current_streak"] == 0
    assert (await http.post(UPDATE, json=user)).json()[0]["change_type"] == "FIRST_ACTIVITY"


async def test_errors_last_until_restored(http: httpx.AsyncClient, faults: Faults, new_user: NewUser) -> None:
    """An error without a count lasts until `rest_restore`."""
    user = {"p_user_id": str(await new_user())}
    await faults.rest_error()
    assert [(await http.post(READ, json=user)).status_code for _ in range(5)] == [503] * 5
    await faults.rest_restore()
    assert (await http.post(READ, json=user)).status_code == 200


async def test_delay(http: httpx.AsyncClient, faults: Faults, new_user: NewUser) -> None:
    """A delay holds back its one answer and not the next."""
    user = {"p_user_id": str(await new_user())}
    await faults.rest_delay(1.0, count=1)
    loop = asyncio.get_running_loop()
    took = []
    for _ in range(2):
        begun = loop.time()
        assert (await http.post(READ, json=user)).status_code == 200
        took.append(loop.time() - begun)
    assert took[0] >= 1.0 > took[1]


async def test_hang(http: httpx.AsyncClient, faults: Faults, new_user: NewUser) -> None:
    """A request that hangs is never answered, writes nothing, and ends with `rest_restore`."""
    user = {"p_user_id": str(await new_user())}
    await faults.rest_hang(count=2)
    with pytest.raises(httpx.ReadTimeout):
        await http.post(UPDATE, json=user, timeout=0.5)
    waiting = asyncio.create_task(http.post(UPDATE, json=user))
    done, _ = await asyncio.wait([waiting], timeout=0.5)
    assert not done
    await faults.rest_restore()
    with pytest.raises(httpx.RemoteProtocolError):
        await waiting
    assert (await http.post(READ, json=user)).json()[0]["current_streak"] == 0


async def test_lost_answer(http: httpx.AsyncClient, faults: Faults, new_user: NewUser) -> None:
    """A lost answer is lost after the work was done."""
    user = {"p_user_id": str(await new_user())}
    await faults.rest_lose_answer(count=1)
    with pytest.raises(httpx.RemoteProtocolError):
        await http.post(UPDATE, json=user)
    streaks = [(await http.post(READ, json=user)).json()[0]["current_streak"] for _ in range(50)]
    assert streaks[-1] == 1


async def test_unknown_switch(faults: Faults) -> None:
    """A switch that does not exist is an error that names it, and the stack goes on."""
    for name in ("rest.nonsense", "realtime.nonsense", "nonsense"):
        with pytest.raises(LocalSupabaseError, match="nonsense"):
            await faults.turn(name)


def test_client_offers_what_realtime_offers() -> None:
    """Every fault of Realtime is a method of the client, with the same arguments and defaults."""

    def arguments(faults: type, name: str) -> list[tuple[str, object]]:
        return [(entry.name, entry.default) for entry in signature(getattr(faults, name)).parameters.values()]

    names = [name for name in vars(RealtimeFaults) if not name.startswith("_") and name not in NO_FAULTS]
    assert len(names) > 10
    assert [arguments(Faults, name) for name in names] == [arguments(RealtimeFaults, name) for name in names]


async def test_crash_of_postgres(stack: StackInfo, http: httpx.AsyncClient, faults: Faults, new_user: NewUser) -> None:
    """PostgreSQL killed under load: every request is answered, by 5xx while it is down; committed data stays."""
    user = {"p_user_id": str(await new_user())}
    assert (await http.post(UPDATE, json=user)).status_code == 200
    statuses: Counter[int] = Counter()
    stopping = asyncio.Event()

    async def load() -> None:
        while not stopping.is_set():
            statuses[(await http.post(READ, json=user)).status_code] += 1

    clients = [asyncio.create_task(load()) for _ in range(8)]
    await faults.postgres_kill()
    with pytest.raises(OSError):  # noqa: PT011 - refused, whatever the system calls it
        await asyncpg.connect(stack.database_url)
    while not statuses[503]:  # noqa: ASYNC110 - the clients set it, and the test's time limit ends it
        await asyncio.sleep(0.01)
    await faults.postgres_start()
    [streak] = (await http.post(READ, json=user)).json()
    stopping.set()
    async with asyncio.timeout(30):
        await asyncio.gather(*clients)
    assert streak["current_streak"] == 1
    assert set(statuses) <= {200, 500, 503}
