"""Reads of the database over REST (PostgREST): the second, sure way to every change."""

import logging
from collections.abc import Awaitable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from datetime import date
from typing import Any, NamedTuple, Self

import httpx

from realtime_bridge.changes import COLUMNS, TABLE, PartialRowError, StreakRow, parse_row
from realtime_bridge.health import Fault
from realtime_bridge.messages import Place
from realtime_bridge.metrics import Counters
from realtime_bridge.proxies import is_loopback

#: Users in one request: 100 ids are under 4 KB of URL.
PAGE_USERS = 100
#: Rows in one request: PostgREST's usual limit. No page is trusted to be full, so a lower limit does no harm.
PAGE_ROWS = 1000

#: Users whose rows are reported in the log, once each.
_MOST_REPORTED = 1000

_HISTORY = "streak_history"
_LEADERBOARD = "get_streak_leaderboard"
_STREAKS = "get_user_streaks"
REMEDY_KEY = "Set SUPABASE_SECRET_KEY to the secret key of this project (sb_secret_..., or the service_role key)"
_REMEDY_MIGRATIONS = "Apply the migrations of supabase/migrations (supabase db push --remote)"


log = logging.getLogger(__name__)


class ReadError(Exception):
    """A read over REST failed.

    Attributes:
        fault: Why, and the remedy if it is a matter of configuration.
    """

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.reason)
        self.fault = fault


class Found(NamedTuple):
    """What a read of some users brought.

    Attributes:
        rows: The rows, by user.
        zones: For each user without a row the zone that a first activity would count in.
        unreadable: Users who have a row that holds what Python cannot.
    """

    rows: dict[str, StreakRow]
    zones: dict[str, str]
    unreadable: AbstractSet[str] = frozenset()


class HistoryRow(NamedTuple):
    """One line of the change log.

    Attributes:
        id: Grows.
        user_id: Whose row changed.
        version: The row's version after the change.
    """

    id: int
    user_id: str
    version: int


class Reader:
    """PostgREST with the secret key.

    Args:
        supabase_url: The project's URL.
        key: The secret key.
        timeout: Seconds for each request.
        counters: Where rows that were passed over are counted.
    """

    def __init__(self, supabase_url: str, key: str, *, timeout: float, counters: Counters) -> None:
        self._counters = counters
        self._reported: set[str] = set()
        self.http = httpx.AsyncClient(
            base_url=f"{supabase_url}/rest/v1",
            headers=key_headers(key),
            timeout=timeout,
            follow_redirects=False,
            trust_env=not is_loopback(supabase_url),
        )

    async def __aenter__(self) -> Self:
        await self.http.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.http.aclose()

    async def rows_of(self, user_ids: Iterable[str]) -> dict[str, StreakRow]:
        """The rows alone of what `find` finds, by user; a user who is not in it has none."""
        return (await self.find(user_ids)).rows

    async def find(self, user_ids: Iterable[str]) -> Found:
        """Read the rows of some users.

        Args:
            user_ids: At most `PAGE_USERS`.

        Returns:
            The rows, and the zone of each user who has none.

        Raises:
            ReadError: The answer is not sure.
        """
        open_ids = set(user_ids)
        unreadable: set[str] = set()
        found = Found({}, {}, unreadable)
        while open_ids:
            page = await self._get(TABLE, {"select": ",".join(COLUMNS), "user_id": _among(open_ids)})
            rows, skipped = self._parse(page)
            found.rows.update((row.user_id, row) for row in rows)
            unreadable.update(skipped)
            open_ids.difference_update(found.rows, unreadable)
            if open_ids:
                # Absence counts as a delete: the function says it of each user by name, so that no limit on rows can
                # make somebody look deleted.
                found.zones.update(await self._absent(open_ids))
                open_ids.difference_update(found.zones)
        return found

    async def _absent(self, user_ids: Iterable[str]) -> dict[str, str]:
        body = {"p_user_ids": sorted(user_ids)}
        items = await self._answer(_STREAKS, self.http.post(f"/rpc/{_STREAKS}", json=body))
        try:
            return {str(item["user_id"]).lower(): str(item["timezone"]) for item in items if not item["version"]}
        except (KeyError, TypeError) as error:
            raise ReadError(Fault("REST sent streaks that cannot be read", _REMEDY_MIGRATIONS)) from error

    async def page(self, after: str | None, limit: int) -> list[StreakRow]:
        """Read rows of all users in the order of their ids.

        Args:
            after: The last user of the page before, or None.
            limit: At most this many.

        Returns:
            Rows, fewer than `limit` only after the last; those that cannot be read are left out.

        Raises:
            ReadError: The read failed.
        """
        rows: list[StreakRow] = []
        while len(rows) < limit:
            query = {"select": ",".join(COLUMNS), "order": "user_id.asc", "limit": str(limit - len(rows))}
            if after is not None:
                query["user_id"] = f"gt.{after}"
            items = await self._get(TABLE, query)
            if not items:
                break
            rows += self._parse(items)[0]
            after = items[-1]["user_id"]
        return rows

    async def leaderboard(self, limit: int) -> list[Place]:
        """Read the first places of the leaderboard.

        Args:
            limit: At most this many, up to 1,000.

        Returns:
            The places, first to last.

        Raises:
            ReadError: The read failed.
        """
        items = await self._answer(_LEADERBOARD, self.http.post(f"/rpc/{_LEADERBOARD}", json={"p_limit": limit}))
        try:
            return [_place(item) for item in items]
        except (KeyError, TypeError, ValueError) as error:
            raise ReadError(Fault("REST sent a leaderboard that cannot be read", _REMEDY_MIGRATIONS)) from error

    async def history_after(self, last_id: int) -> list[HistoryRow]:
        """Read one page of the change log, oldest first; empty after the last.

        Raises:
            ReadError: The read failed.
        """
        return await self._history({"id": f"gt.{last_id}", "order": "id.asc"}, PAGE_ROWS)

    async def history_tail(self, limit: int) -> list[HistoryRow]:
        """Read the end of the change log, newest first.

        Raises:
            ReadError: The read failed.
        """
        return await self._history({"order": "id.desc"}, limit)

    def _parse(self, items: Iterable[Any]) -> tuple[list[StreakRow], list[str]]:
        """The rows, and the users of those that hold what Python cannot: they must not stop the others."""
        rows, skipped = [], []
        for item in items:
            try:
                rows.append(parse_row(item))
            except PartialRowError as error:
                skipped.append(self._skip(item, error))
        return rows, skipped

    def _skip(self, item: Any, error: PartialRowError) -> str:
        user_id = item.get("user_id") if isinstance(item, Mapping) else None
        if not isinstance(user_id, str):
            raise ReadError(Fault("REST sent something else than rows", _REMEDY_MIGRATIONS)) from error
        self._counters.rows_skipped += 1
        if user_id not in self._reported and len(self._reported) < _MOST_REPORTED:
            self._reported.add(user_id)
            # Not the error: it quotes the value.
            log.warning("the row of user %s is passed over: it holds a date or number that cannot be read", user_id)
        return user_id.lower()

    async def _history(self, query: Mapping[str, str], limit: int) -> list[HistoryRow]:
        fields = {"select": "id,user_id,version_after", "limit": str(limit)}
        items = await self._get(_HISTORY, {**fields, **query})
        try:
            return [HistoryRow(int(i["id"]), str(i["user_id"]), int(i["version_after"])) for i in items]
        except (KeyError, TypeError, ValueError) as error:
            raise ReadError(Fault("REST sent a change log that cannot be read", _REMEDY_MIGRATIONS)) from error

    async def _get(self, table: str, query: Mapping[str, str]) -> list[Any]:
        return await self._answer(table, self.http.get(f"/{table}", params=query))

    async def _answer(self, name: str, request: Awaitable[httpx.Response]) -> list[Any]:
        try:
            response = await request
            answer = response.json() if response.is_success else None
        except httpx.HTTPError as error:
            # Only the class: messages of network libraries may hold URLs.
            raise ReadError(Fault(f"REST cannot be reached ({type(error).__name__})")) from error
        except ValueError as error:
            raise ReadError(Fault("REST did not send JSON")) from error
        if not isinstance(answer, list):
            raise ReadError(_refusal(response, name))
        return answer


def key_headers(key: str) -> dict[str, str]:
    """The headers that carry a key: legacy keys are JWTs and decide the role, new ones must not be sent as one."""
    headers = {"apikey": key}
    if not key.startswith("sb_"):
        headers["Authorization"] = f"Bearer {key}"
    return headers


def _among(user_ids: Iterable[str]) -> str:
    return f"in.({','.join(sorted(user_ids))})"


def _place(item: Mapping[str, Any]) -> Place:
    day = item["last_active_date"]
    return Place(
        rank=int(item["rank"]),
        user_id=str(item["user_id"]).lower(),
        current_streak=int(item["current_streak"]),
        longest_streak=int(item["longest_streak"]),
        last_active_date=_day(day),
        is_active_today=bool(item["is_active_today"]),
    )


def _day(text: str | None) -> date | None:
    try:
        return None if text is None else date.fromisoformat(text)
    except ValueError:
        return None  # a year that Python does not know: its user's row is passed over, the other places are not


def _refusal(response: httpx.Response, name: str) -> Fault:
    status = response.status_code
    if status in (401, 403):
        return Fault(f"REST refused the key (HTTP {status})", REMEDY_KEY)
    if status in (400, 404):
        return Fault(f"REST has no {name} as expected (HTTP {status})", _REMEDY_MIGRATIONS)
    return Fault(f"REST answered HTTP {status}")
