"""The bridge's health, in one place: what listeners, `/readyz` and the log are told."""

from dataclasses import dataclass
from enum import StrEnum


class BridgeState(StrEnum):
    """How far listeners can trust what they have."""

    STARTING = "starting"
    LIVE = "live"
    CATCHING_UP = "catching-up"
    DEGRADED = "degraded"


@dataclass(frozen=True, slots=True)
class Fault:
    """Why something does not work.

    Attributes:
        reason: What happened, for people; never holds a secret.
        remedy: What to do about it, if somebody has to: a configuration fault.
    """

    reason: str
    remedy: str | None = None


@dataclass(frozen=True, slots=True)
class Health:
    """The state and, unless all is well, why.

    Attributes:
        state: The state.
        reason: Why it is degraded, or what it is waiting for.
        remedy: What to change in the configuration, if that is the cause.
    """

    state: BridgeState
    reason: str | None = None
    remedy: str | None = None

    def describe(self) -> str | None:
        """Reason and remedy in one line."""
        return self.reason if self.remedy is None else f"{self.reason}. {self.remedy}"


class HealthBoard:
    """Collects the facts and draws the conclusion."""

    def __init__(self) -> None:
        #: Why Realtime does not deliver; None once it said "Subscribed to PostgreSQL".
        self.stream: Fault | None = Fault("connecting to Realtime")
        #: Why reads over REST fail; None while they work.
        self.rest: Fault | None = None
        #: Why the leaderboard cannot be read; None while it can, or nobody listens to it.
        self.leaderboard: Fault | None = None
        #: Whether everything that a gap may have hidden was read again.
        self.synced = False
        self._was_live = False

    def conclude(self) -> Health:
        """The health that follows from the facts."""
        fault = self._worst()
        if fault is None and self.synced:
            self._was_live = True
            return Health(BridgeState.LIVE)
        if fault is not None and (self._was_live or fault.remedy or fault is not self.stream):
            return Health(BridgeState.DEGRADED, fault.reason, fault.remedy)
        if self._was_live:
            return Health(BridgeState.CATCHING_UP, "reading what may have changed meanwhile")
        return Health(BridgeState.STARTING, fault.reason if fault else "reading the present state")

    def _worst(self) -> Fault | None:
        faults = [fault for fault in (self.stream, self.rest, self.leaderboard) if fault is not None]
        return next((fault for fault in faults if fault.remedy), faults[0] if faults else None)
