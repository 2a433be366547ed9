"""What the functions answer, as the client's unit tests play them."""

from __future__ import annotations

from typing import Any

UPDATE: dict[str, Any] = {
    "success": True,
    "current_streak": 3,
    "longest_streak": 5,
    "last_active_date": "2026-11-22",
    "change_type": "STREAK_INCREMENT",
    "message": "",
    "timezone": "UTC",
    "version": 7,
    "expires_at": "2026-11-24T00:00:00+00:00",
    "replayed": False,
}
