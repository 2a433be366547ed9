"""Every public name, in one place; `streak_client` offers them and loads this when one is first used."""

from streak_client._cache import CacheInfo, Caching
from streak_client._gate import Gathering
from streak_client._guard import RateLimit
from streak_client._outbox import Outbox
from streak_client._outbox_store import OutboxEntry
from streak_client.async_client import AsyncStreakClient
from streak_client.client import StreakClient
from streak_client.errors import (
    ConcurrentModificationError,
    ConfigurationError,
    ConnectionFailedError,
    DatabaseError,
    ErrorCode,
    InvalidInputError,
    InvalidResponseError,
    PermissionDeniedError,
    RateLimitedError,
    RequestTimeoutError,
    StreakError,
    UserNotFoundError,
)
from streak_client.models import (
    Activity,
    ActivityOutcome,
    CalendarDay,
    ChangeType,
    DayKind,
    HistoryEntry,
    ImportSummary,
    LeaderboardEntry,
    LeaderboardOrder,
    ProblemSolved,
    StreakExplanation,
    StreakUpdate,
    UserStreak,
)
from streak_client.settings import Settings

__all__ = [
    "Activity",
    "ActivityOutcome",
    "AsyncStreakClient",
    "CacheInfo",
    "Caching",
    "CalendarDay",
    "ChangeType",
    "ConcurrentModificationError",
    "ConfigurationError",
    "ConnectionFailedError",
    "DatabaseError",
    "DayKind",
    "ErrorCode",
    "Gathering",
    "HistoryEntry",
    "ImportSummary",
    "InvalidInputError",
    "InvalidResponseError",
    "LeaderboardEntry",
    "LeaderboardOrder",
    "Outbox",
    "OutboxEntry",
    "PermissionDeniedError",
    "ProblemSolved",
    "RateLimit",
    "RateLimitedError",
    "RequestTimeoutError",
    "Settings",
    "StreakClient",
    "StreakError",
    "StreakExplanation",
    "StreakUpdate",
    "UserNotFoundError",
    "UserStreak",
]
