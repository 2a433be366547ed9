"""What each fault switch does to a running stack."""

from collections.abc import Callable
from typing import Any

from local_supabase.errors import LocalSupabaseError
from local_supabase.postgres import Postgres
from local_supabase.realtime import RealtimeServer
from local_supabase.rest import Gateway


class Switches:
    """The parts that faults act on.

    Args:
        postgres: The database.
        gateway: REST.
        realtime: The stand-in for Realtime.
        restarted: Called after PostgreSQL was started again.
    """

    def __init__(
        self, postgres: Postgres, gateway: Gateway, realtime: RealtimeServer, restarted: Callable[[], None]
    ) -> None:
        self._postgres = postgres
        self._gateway = gateway
        self._realtime = realtime
        self._restarted = restarted

    async def turn(self, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Turn one switch.

        Args:
            name: `part.fault`, such as `postgres.kill`.
            arguments: Of the fault.

        Returns:
            What the switch reports.

        Raises:
            LocalSupabaseError: There is no such switch, or it cannot be turned now.
        """
        part, _, fault = name.partition(".")
        if part == "realtime":
            return dict(await self._realtime.fault(fault, **arguments))
        if part == "rest":
            await self._gateway.fault(kind=fault, **arguments)
        elif name == "postgres.kill":
            await self._postgres.kill()
        elif name == "postgres.start":
            await self._start_postgres()
        elif name == "postgres.restore":
            if self._postgres.killed:
                await self._start_postgres()
        else:
            raise LocalSupabaseError(f"there is no fault switch {name!r}")
        return {}

    async def _start_postgres(self) -> None:
        if not self._postgres.killed:
            raise LocalSupabaseError("PostgreSQL is running")
        await self._postgres.start()
        self._restarted()
        await self._gateway.database_back()
