"""People of the soak: what each did is known in order, so that the model can say what is right."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg

from streak_client import Activity
from tests import model
from tests.support.streak_database import STORED, stored

ZONES = ["UTC", "Europe/Paris", "America/Los_Angeles", "Pacific/Auckland", "Asia/Kathmandu", "America/Santiago", None]
# Beyond seven days the outbox imports, with rules of its own for the zone: that has tests of its own.
OLDEST = timedelta(days=5)


@dataclass(eq=False)
class Person:
    """Somebody who acts, one activity after the other, a few days late or just now.

    Attributes:
        user_id: Who.
        calls: How many activities there were.
        told: The highest version that an answer named.
    """

    user_id: UUID
    calls: int = 0
    told: int = 0
    _user: model.User = field(default_factory=model.User)
    _last: tuple[datetime, model.Activity] | None = None

    def act(self) -> Activity:
        """Do something new; what was done before has been counted."""
        self._user, self._last = self.expected(), None
        now = datetime.now(UTC)
        at, zone = now - random.random() * random.choice([timedelta(0), OLDEST]), random.choice(ZONES)
        self.calls += 1
        one = Activity(self.user_id, at, zone, f"request {self.calls}")
        self._last = (now, model.Activity(self.user_id, at, zone, one.request_id))
        return one

    def expected(self) -> model.User:
        """What the reference model makes of all that this person has done."""
        return self._user if self._last is None else model.update(self._user, *self._last)[0]


async def differences(db: asyncpg.Connection[asyncpg.Record], people: Sequence[Person]) -> list[str]:
    """Compare rows, ledger, history and reads of people with the model; nobody may be acting meanwhile."""
    async with db.transaction():  # its start is the time of the reads
        now = await db.fetchval("select now()")
        found = {row["id"]: row for row in await db.fetch(STORED, [one.user_id for one in people], [0] * len(people))}
    wrong = [f"{one.user_id}: gone" for one in people if one.user_id not in found]
    for one in people:
        if one.user_id in found:
            wrong += _differences(one, found[one.user_id], now)
    return wrong


def _differences(person: Person, found: asyncpg.Record, now: datetime) -> list[str]:
    here, user = stored(found), person.expected()
    pairs = {
        "reading": (here.reading, model.read(user, now)),
        "ledger": (dict(here.ledger), dict(user.ledger)),
        "history": ([_explains(one) for one in here.history], [_explains(one) for one in user.history]),
        "row": (here.row and _lasting(here.row), user.row and _lasting(user.row)),
    }
    if here.row is not None and person.told > here.row.version:
        return [f"{person.user_id}: version {here.row.version}, though {person.told} was told"]
    return [f"{person.user_id} {name}:\n  database {a}\n  model    {b}" for name, (a, b) in pairs.items() if a != b]


def _lasting(row: model.Row) -> tuple[object, ...]:
    # The column current_streak is 0 or the run by the server's clock at the time of the write, which nobody knows here.
    return row.longest, row.run, row.last, row.zone, row.version, row.expires_at


def _explains(change: model.Change) -> tuple[object, ...]:
    return change.change_type, change.new_longest, change.day, change.zone, change.version, change.request_id
