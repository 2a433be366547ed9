"""The async client."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self, Unpack
from uuid import UUID

from streak_client import _calls, _import, _inputs
from streak_client._async_drainer import AsyncDrainer
from streak_client._async_driver import AsyncDriver
from streak_client._async_gatherer import AsyncGatherer, AsyncSingleSender
from streak_client._async_guard import AsyncGuard
from streak_client._async_lookups import AsyncLookups
from streak_client._async_reads import AsyncReads
from streak_client._async_shared_reads import AsyncSharedReads
from streak_client._base import (
    DEFAULT_CACHING,
    DEFAULT_GATHERING,
    DEFAULT_MAX_RETRIES,
    DEFAULT_TIMEOUT,
    ClientBase,
    ClientOptions,
    Clock,
    utc_now,
    valid_ids,
)
from streak_client._batch import Prepared
from streak_client._cache import Caching
from streak_client._drain import note_unsent
from streak_client._gate import Gathering
from streak_client._guard import RateLimit
from streak_client._metrics import metrics_for
from streak_client._outbox import Outbox
from streak_client._redis import is_redis
from streak_client._tracing import span
from streak_client.errors import InvalidInputError, StreakError
from streak_client.models import (
    Activity,
    ActivityOutcome,
    ImportSummary,
    ProblemSolved,
    StreakUpdate,
    UserStreak,
    Zone,
)
from streak_client.settings import Settings

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry


class AsyncStreakClient(AsyncLookups, ClientBase):
    """Counts activities and reads streaks, from coroutines.

    One client serves any number of tasks of one event loop. It makes one request id and fixes one activity
    time per call, and repeats both in every retry, so no call counts twice.

    Args:
        supabase_url: The project's URL, such as ``https://abcdefgh.supabase.co``.
        secret_key: A secret key (``sb_secret_...``) or the legacy service_role key; for servers only.
        max_retries: How many attempts may follow the first: after conflicts, time-outs, connection errors and 5xx.
        timeout: Seconds without progress after which an attempt is given up.
        gathering: How updates made at the same time share requests; None sends each on its own.
        caching: How `get_user_streak` is cached; None reads each time. What this client writes is never read stale,
            what others write may be, for a minute; clients that share a Redis as the store drop it for each other.
        rate_limit: How many single updates of one user are let through; None lets all through.
        outbox: Where `handle_problem_solved` writes an activity down before it sends it, and keeps it if it could not
            be sent: a file, or the URL of a Redis (``"redis://host:6379/0"``) that several machines share; None keeps
            nothing.
        registry: Where Prometheus finds what this client counts (needs the extra `metrics`); None counts nothing.
        clock: Tells the present instant as an aware `datetime`.

    Raises:
        ConfigurationError: The URL or the key is not what it should be.
    """

    def __init__(  # noqa: PLR0913 - two settings, and options by name
        self,
        supabase_url: str,
        secret_key: str,
        *,
        max_retries: int = DEFAULT_MAX_RETRIES,
        timeout: float = DEFAULT_TIMEOUT,
        gathering: Gathering | None = DEFAULT_GATHERING,
        caching: Caching | None = DEFAULT_CACHING,
        rate_limit: RateLimit | None = None,
        outbox: str | Path | None = None,
        registry: CollectorRegistry | None = None,
        clock: Clock = utc_now,
    ) -> None:
        super().__init__(Settings(supabase_url, secret_key), clock, metrics_for(registry))
        self._driver = AsyncDriver(self._settings, max_retries, timeout, self._metrics)
        self._sender: AsyncGatherer | AsyncSingleSender
        if gathering is None:
            self._sender = AsyncSingleSender(self._driver, self._forget)
        else:
            self._sender = AsyncGatherer(self._driver, gathering, self._forget)
        self._reads: AsyncReads | AsyncSharedReads | None = None
        if caching is not None and is_redis(caching.store):
            self._reads = AsyncSharedReads(self._load, caching, clock, self._settings.url)
        elif caching is not None:
            self._reads = AsyncReads(self._load, caching, clock)
        self._guard = None if rate_limit is None else AsyncGuard(rate_limit)
        self._outbox = None if outbox is None else Outbox(outbox)
        self._drainer = None if self._outbox is None else AsyncDrainer(self._driver, self._outbox, clock, self._forget)
        self._metrics.add(self)

    @classmethod
    def from_env(cls, env_file: str | Path | None = None, **options: Unpack[ClientOptions]) -> Self:
        """Make a client from ``SUPABASE_URL`` and ``SUPABASE_SECRET_KEY``.

        The environment wins over the file. The legacy names ``SUPABASE_SERVICE_KEY`` and ``SUPABASE_SERVICE_ROLE_KEY``
        are understood; a key under a ``VITE_`` name is refused, for it has been sent to browsers.

        Args:
            env_file: The file to read; None looks for `.env` in the working directory and those above it.
            **options: The keywords of the class.

        Returns:
            The client.

        Raises:
            ConfigurationError: A setting is missing or wrong.
        """
        settings = Settings.from_env(env_file)
        return cls(settings.url, settings.secret_key, **options)

    async def __aenter__(self) -> Self:
        if self._drainer is not None:
            self._drainer.start()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections; the client cannot be used afterwards."""
        await self._sender.aclose()
        self._metrics.discard(self)
        if self._drainer is not None:
            await self._drainer.aclose()
        if self._guard is not None:
            await self._guard.aclose()
        if self._reads is not None:
            await self._reads.aclose()
        await self._driver.aclose()

    async def update_user_streak(
        self,
        user_id: UUID | str,
        timezone: Zone | None = None,
        *,
        request_id: str | None = None,
        activity_at: datetime | None = None,
    ) -> StreakUpdate:
        """Count one activity of a user.

        Args:
            user_id: Who acted.
            timezone: The IANA zone the user is in; None means the stored one, else the profile's, else UTC. One that
                does not exist is ignored with a warning.
            request_id: At most 100 characters; calls with the same id count once and get the first one's answer. None
                makes a new id.
            activity_at: When, as an aware `datetime`, at most 7 days ago; None means now.

        Returns:
            The streak after the activity, and what the activity did.

        Raises:
            InvalidInputError: An argument is wrong; the error's `field` names it. Nothing was counted.
            StreakError: The call failed; see `streak_client.errors`.
        """
        activity = Activity(user_id, activity_at, timezone, request_id)
        return await self._count(_calls.prepare(activity, self._clock()))

    async def handle_problem_solved(
        self,
        user_id: UUID | str,
        timezone: Zone | None = None,
        *,
        request_id: str | None = None,
        activity_at: datetime | None = None,
    ) -> ProblemSolved:
        """Count an activity that must not be lost, whatever state the service is in.

        It is in the outbox before it is sent, so not even the end of the process loses it. What cannot be counted now
        is counted later with the same request id and time.

        Args:
            user_id: Who acted.
            timezone: The IANA zone the user is in; None means the stored one, else the profile's, else UTC.
            request_id: At most 100 characters. None makes a new id.
            activity_at: When, as an aware `datetime`; None means now.

        Returns:
            The answer, or that the activity waits in the outbox, and why. Never invented numbers.

        Raises:
            InvalidInputError: An argument is wrong, which waiting would not mend. No fault of the service raises.
        """
        prepared = _calls.prepare(Activity(user_id, activity_at, timezone, request_id), self._clock())
        if self._drainer is not None:
            return await self._drainer.send(prepared, self._count)
        try:
            return ProblemSolved(await self._count(prepared), queued=False)
        except InvalidInputError:
            raise
        except StreakError as error:
            note_unsent(error, queued=False)
            return ProblemSolved(None, queued=False, error=error)

    async def drain_outbox(self) -> int:
        """Send what waits in the outbox, in its order, until nothing waits or the service fails.

        It happens by itself, too, as long as the client is open and used.

        Returns:
            How many activities still wait.

        Raises:
            StreakError: The outbox itself cannot be reached.
        """
        return 0 if self._drainer is None else await self._drainer.drain()

    async def _count(self, prepared: Prepared) -> StreakUpdate:
        with span("update_user_streak"), self._metrics.update(), self._metrics.errors():
            if self._guard is not None:
                await self._guard.check(prepared.user_id)
            return await self._sender.submit(prepared)

    async def update_user_streaks(self, activities: Iterable[Activity]) -> list[ActivityOutcome]:
        """Count many activities, of any number of users, in as few requests as possible.

        One wrong activity harms no other. Those of one user act in the order given.

        Args:
            activities: What to count.

        Returns:
            One outcome per activity, in the order given, each with a result or an error.

        Raises:
            InvalidInputError: The argument is no list of activities; nothing was counted.
        """
        given = _calls.activity_list(activities)
        try:
            outcomes = await self._driver.run(_calls.update_user_streaks(given, self._clock()))
            self._note_errors(outcomes)
            return outcomes
        finally:
            await self._forget(valid_ids(activity.user_id for activity in given))

    async def get_user_streak(self, user_id: UUID | str) -> UserStreak:
        """Read a user's streak as it counts at this moment.

        Args:
            user_id: Whose.

        Returns:
            The streak; zeros and None for a user without any activity.

        Raises:
            StreakError: The call failed; see `streak_client.errors`.
        """
        checked = _inputs.user_id(user_id)
        if self._reads is None:
            return await self._load(checked)
        return await self._reads.get(checked)

    async def recover_user_streak(
        self,
        user_id: UUID | str,
        first_day: date,
        last_day: date,
        reason: str,
        *,
        request_id: str | None = None,
    ) -> StreakUpdate:
        """Enter missed days as repaired, so that the streak goes on as if they had not been missed.

        Args:
            user_id: Whose.
            first_day: The first missed local day.
            last_day: The last missed local day, included; yesterday at the latest.
            reason: Why, for the audit trail.
            request_id: At most 100 characters; calls with the same id act once. None makes a new id.

        Returns:
            The streak after the recovery.

        Raises:
            InvalidInputError: An argument is wrong; the error's `field` names it. Nothing was changed.
            StreakError: The call failed; see `streak_client.errors`.
        """
        try:
            return await self._driver.run(_calls.recover_user_streak(user_id, first_day, last_day, reason, request_id))
        finally:
            await self._forget(valid_ids([user_id]))

    async def import_activity(
        self,
        activities: Iterable[Activity],
        *,
        chunk_size: int = _import.DEFAULT_CHUNK,
        progress: _import.Progress | None = None,
    ) -> ImportSummary:
        """Enter past activity of any age in bulk; importing the same again changes nothing.

        Everything is checked before anything is sent. After a failure the import can simply be made again. What the
        database refuses for one user (`ImportSummary.refused`) harms no other.

        Args:
            activities: What to enter; each needs its time. Request ids are not used.
            chunk_size: Activities per request, 1 to 10,000.
            progress: Called after each request with the number of activities done and the total.

        Returns:
            What the import did, and for whom it could not.

        Raises:
            InvalidInputError: An activity is wrong; the error's `field` names it. Nothing was sent.
            StreakError: A call failed; see `streak_client.errors`.
        """
        given = _calls.activity_list(activities)
        try:
            return await self._driver.run(_import.import_activity(given, self._clock(), chunk_size, progress))
        finally:
            await self._forget(valid_ids(activity.user_id for activity in given))

    async def _forget(self, user_ids: Iterable[UUID]) -> None:
        if self._reads is not None:
            await self._reads.drop(user_ids)

    async def _load(self, user_id: UUID) -> UserStreak:
        return await self._driver.run(_calls.get_user_streak(user_id))
