"""What the channels of one server share: settings, the database, subscribers, and the topics where they meet."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import asyncpg

from .realtime_bindings import enforce
from .realtime_catalog import publication_tables
from .realtime_delivery import Delivery, Entry
from .realtime_tokens import Claims, Tokens
from .rls import CREATE_FUNCTIONS
from .wal import SESSION

if TYPE_CHECKING:
    from .realtime_channel import Channel

__all__ = ["Hub", "Settings", "Topic"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Settings:
    """The server's habits. All times are in seconds; the defaults make a quick server for tests and development.

    Attributes:
        publication: The publication whose changes are streamed.
        poll_interval: Between two looks at the WAL while nothing happens (the real server: up to 0.5).
        subscribe_delay: From a join to "Subscribed to PostgreSQL" (the real server: 1.3 to 2.9).
        reject_delay: Before a bad key is answered with HTTP 401 (the real server: 2).
        join_error_delay: Before a refused join is answered (the real server: 5).
        idle_timeout: After which a socket without frames from its client is closed (the real server: 60 to 66).
        publication_interval: Between two looks at the publication (the real server: 60).
        reconnect_delay: First wait after PostgreSQL was lost; doubles up to 2 s.
        max_backlog: Bytes that may wait for a client that does not read; then its socket is aborted.
    """

    publication: str = "supabase_realtime"
    poll_interval: float = 0.005
    subscribe_delay: float = 0.05
    reject_delay: float = 0.05
    join_error_delay: float = 0.05
    idle_timeout: float = 60.0
    publication_interval: float = 1.0
    reconnect_delay: float = 0.05
    max_backlog: int = 64 * 1024 * 1024


@dataclass(eq=False)
class Topic:
    """The members of one topic, and who is present there. Private and public channels of one name are two topics."""

    members: dict["Channel", None] = field(default_factory=dict)
    present: dict["Channel", tuple[str, dict[str, Any]]] = field(default_factory=dict)

    def state(self) -> dict[str, Any]:
        """Return who is present: the metas of each key."""
        state: dict[str, Any] = {}
        for key, meta in self.present.values():
            state.setdefault(key, {"metas": []})["metas"].append(meta)
        return state


class Hub:
    """Shared state of the channels. Everything here runs in one event loop.

    Attributes:
        ready: Set while the stream of changes is open.
        late_ready: Extra seconds before "Subscribed to PostgreSQL"; for tests.
        refused_joins: How many of the next joins to refuse as too many; for tests.
    """

    def __init__(self, database_url: str, tokens: Tokens, settings: Settings) -> None:
        self.tokens = tokens
        self.settings = settings
        self.delivery = Delivery()
        self.ready = asyncio.Event()
        self.late_ready = 0.0
        self.refused_joins = 0
        self.topics: dict[tuple[str, bool], Topic] = {}
        self._database_url = database_url
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None
        self._pool_lock = asyncio.Lock()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Any]:
        """Lend a connection for the catalog, for values and for policies.

        Raises:
            OSError: PostgreSQL cannot be reached.
        """
        async with self._pool_lock:
            if self._pool is None:
                self._pool = await asyncpg.create_pool(
                    self._database_url,
                    min_size=0,  # else the pool logs a traceback when it cannot refill itself while PostgreSQL is away
                    max_size=4,
                    server_settings=SESSION,
                    ssl=False,
                    init=_prepare_connection,
                )
        async with self._pool.acquire(timeout=10) as connection:
            yield connection

    async def forget_connections(self) -> None:
        """Drop the pool: PostgreSQL is gone, and with it what was prepared on its connections."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.terminate()

    async def enforce(self, requested: list[dict[str, Any]], claims: Claims) -> tuple[list[Entry], tuple[int, ...]]:
        """Check bindings and prepare them, as `realtime_bindings.enforce`.

        Returns:
            The bindings in force, and the published tables at that moment.
        """
        async with self.connection() as connection:
            published = await publication_tables(connection, self.settings.publication)
            return await enforce(connection, self.settings.publication, requested, claims), published

    async def published(self) -> tuple[int, ...]:
        """Return the oids of the published tables."""
        async with self.connection() as connection:
            return await publication_tables(connection, self.settings.publication)

    def topic(self, name: str, *, private: bool) -> Topic:
        """Return a topic, made if it is new."""
        return self.topics.setdefault((name, private), Topic())

    def leave(self, channel: "Channel") -> None:
        """Take a channel out of its topic."""
        key = (channel.topic, channel.private)
        topic = self.topics.get(key)
        if topic is None:
            return
        topic.members.pop(channel, None)
        left = topic.present.pop(channel, None)
        if left is not None:
            self.presence_diff(topic, leaves={left[0]: {"metas": [left[1]]}})
        if not topic.members:
            del self.topics[key]

    def presence_diff(
        self, topic: Topic, *, joins: dict[str, Any] | None = None, leaves: dict[str, Any] | None = None
    ) -> None:
        """Tell a topic's members who came and who went."""
        for member in list(topic.members):
            if member.hears_presence:
                member.push("presence_diff", {"joins": joins or {}, "leaves": leaves or {}}, named=False)

    def channels(self, topic: str | None = None) -> list["Channel"]:
        """Return the joined channels, of one topic (`realtime:...`) or of all."""
        return [
            channel
            for (name, _private), here in self.topics.items()
            if topic in (None, name)
            for channel in list(here.members)
        ]


async def _prepare_connection(connection: Any) -> None:
    await connection.execute(CREATE_FUNCTIONS)


Gate = Callable[[], Awaitable[None]]
