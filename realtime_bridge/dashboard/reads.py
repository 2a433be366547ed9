"""What the dashboard reads over REST besides the stream. Everything is bounded."""

import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

import httpx

from realtime_bridge.auth import AccessError

_HISTORY = "id,user_id,change_type,old_current_streak,new_current_streak,version_after,created_at"
_OWN_HISTORY = (
    "id,change_type,old_current_streak,new_current_streak,new_longest_streak,activity_date,activity_at,timezone,"
    "reason,created_at"
)
_PAGE = 1000
_MOST_PAGES = 10
# Longer than the bridge waits for its own reads: nothing else depends on these.
_PATIENCE = 15.0
_RANGE = re.compile(r"/(\d+)$")
_DAYS = 371
#: Whoever was active today is safe for longer than the rest of today and tomorrow: local days take about 24 hours.
_DAY = timedelta(hours=24)


class Reads:
    """Reads of the dashboard, with the secret key.

    Args:
        http: The bridge's client of PostgREST.
    """

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def counts(self, now: datetime) -> dict[str, int]:
        """Count streaks.

        Args:
            now: The present instant.

        Returns:
            ``active`` (alive now) and ``active_today`` (whose today is covered). The latter is off by those of a zone
            in the first hour of a day of 25 hours or the last of one of 23, on two days a year.
        """
        return {
            "active": await self._count({"current_streak": "gt.0", "expires_at": f"gt.{now.isoformat()}"}),
            "active_today": await self._count(
                {"current_streak": "gt.0", "expires_at": f"gt.{(now + _DAY).isoformat()}"}
            ),
        }

    async def leaderboard(self, limit: int) -> list[dict[str, Any]]:
        """Read the best current streaks."""
        rows = await self._rows("POST", "/rpc/get_streak_leaderboard", json={"p_limit": limit})
        names = ("rank", "user_id", "current_streak", "longest_streak", "is_active_today")
        return [{name: row[name] for name in names} for row in rows]

    async def at_risk(self, now: datetime, hours: float, limit: int) -> dict[str, Any]:
        """Read the streaks that lapse within some hours unless their users act.

        Returns:
            ``total`` and the first of them, soonest and longest first.
        """
        query = {
            "select": "user_id,run_length,longest_streak,expires_at,timezone,version",
            "current_streak": "gt.0",
            "and": f"(expires_at.gt.{now.isoformat()},expires_at.lte.{(now + timedelta(hours=hours)).isoformat()})",
            "order": "expires_at.asc,run_length.desc,user_id.asc",
            "limit": str(limit),
        }
        response = await self._send("GET", "/user_streaks", params=query, headers={"Prefer": "count=exact"})
        streaks = [
            {
                "user_id": row["user_id"],
                "current_streak": row["run_length"],
                "longest_streak": row["longest_streak"],
                "expires_at": _iso(row["expires_at"]),
                "timezone": row["timezone"],
                "version": row["version"],
            }
            for row in _list(response)
        ]
        return {"total": _total(response), "streaks": streaks}

    async def users(self, prefix: str, limit: int) -> list[str]:
        """Find users with a streak whose id begins with some hexadecimal digits."""
        low, high = (_uuid(prefix.ljust(32, filler)) for filler in "0f")
        query = {"select": "user_id", "and": f"(user_id.gte.{low},user_id.lte.{high})", "order": "user_id.asc"}
        return [
            row["user_id"] for row in await self._rows("GET", "/user_streaks", params=query | {"limit": str(limit)})
        ]

    async def history(self, user_id: str, limit: int) -> list[dict[str, Any]]:
        """Read what changed a user's streak, newest first."""
        query = {"select": _OWN_HISTORY, "user_id": f"eq.{user_id}", "order": "id.desc", "limit": str(limit)}
        rows = await self._rows("GET", "/streak_history", params=query)
        return [{**row, "created_at": _iso(row["created_at"]), "activity_at": _iso(row["activity_at"])} for row in rows]

    async def calendar(self, user_id: str, today: date) -> list[dict[str, str]]:
        """Read the days of a user's last year that count or are covered."""
        # Somewhere it is tomorrow already.
        days = {"p_from": str(today - timedelta(days=_DAYS)), "p_to": str(today + timedelta(days=1))}
        rows = await self._rows("POST", "/rpc/get_streak_calendar", json={"p_user_id": user_id, **days})
        return [{"day": row["day"], "kind": row["kind"]} for row in rows]

    async def log_tail(self, oldest: datetime) -> tuple[list[dict[str, Any]], bool]:
        """Read the end of the change log.

        Args:
            oldest: How far back.

        Returns:
            Rows, oldest first, and whether they reach back far enough.
        """
        rows: list[dict[str, Any]] = []
        for _ in range(_MOST_PAGES):
            before = {"id": f"lt.{rows[-1]['id']}"} if rows else {}
            page = await self._log({**before, "order": "id.desc"})
            rows.extend(page)
            if not page or datetime.fromisoformat(page[-1]["created_at"]) < oldest:
                return rows[::-1], True
        return rows[::-1], False

    async def log_after(self, last_id: int) -> list[dict[str, Any]]:
        """Read the change log from an id on, oldest first; at most some thousand rows."""
        rows: list[dict[str, Any]] = []
        for _ in range(_MOST_PAGES):
            page = await self._log({"id": f"gt.{rows[-1]['id'] if rows else last_id}", "order": "id.asc"})
            if not page:
                break
            rows.extend(page)
        return rows

    async def _log(self, query: Mapping[str, str]) -> list[dict[str, Any]]:
        return await self._rows("GET", "/streak_history", params={"select": _HISTORY, "limit": str(_PAGE), **query})

    async def _count(self, query: Mapping[str, str]) -> int:
        wanted = {"select": "user_id", "limit": "1", **query}
        return _total(await self._send("GET", "/user_streaks", params=wanted, headers={"Prefer": "count=exact"}))

    async def _rows(self, method: str, path: str, **request: Any) -> list[dict[str, Any]]:
        return _list(await self._send(method, path, **request))

    async def _send(self, method: str, path: str, **request: Any) -> httpx.Response:
        try:
            response = await self._http.request(method, path, timeout=_PATIENCE, **request)
        except httpx.HTTPError as error:
            # Only the class: messages of network libraries may hold URLs.
            raise _unavailable(f"REST cannot be reached ({type(error).__name__})") from error
        if not response.is_success:
            raise _unavailable(f"REST answered HTTP {response.status_code}")
        return response


def _list(response: httpx.Response) -> list[dict[str, Any]]:
    try:
        rows = response.json()
    except ValueError as error:
        raise _unavailable("REST did not send JSON") from error
    if not isinstance(rows, list):
        raise _unavailable("REST did not send a list")
    return rows


def _total(response: httpx.Response) -> int:
    found = _RANGE.search(response.headers.get("content-range", ""))
    if found is None:
        raise _unavailable("REST did not count")
    return int(found[1])


def _unavailable(reason: str) -> AccessError:
    return AccessError(503, "UNAVAILABLE", reason)


def _iso(text: str | None) -> str | None:
    # Browsers do not read the short offset of @supabase/lite.
    return None if text is None else datetime.fromisoformat(text).astimezone(UTC).isoformat()


def _uuid(digits: str) -> str:
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
