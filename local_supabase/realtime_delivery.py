"""From committed changes to frames: who hears of a change, and what the frame says.

One batch of changes is prepared as a whole (tables, foreign values, filters, row level security: a few queries each),
and then sent change by change. A service_role subscriber so costs no query per row.
"""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import asyncpg

from .pgoutput import UNCHANGED, Change, Kind
from .phoenix import Vsn, dumps, encode_raw
from .realtime_catalog import Table, load_tables
from .realtime_filters import CompiledFilter
from .realtime_records import Plan, error_data
from .realtime_values import Encoder
from .rls import visible_rows
from .subscriptions import Binding
from .wal import is_outage

__all__ = ["Delivery", "Entry", "Subscriber"]

_NO_PRIMARY_KEY: Final = "Error 400: Bad Request, no primary key"
_UNAUTHORIZED: Final = "Error 401: Unauthorized"
_BREATH: Final = 200  # changes sent before others get their turn


@dataclass(eq=False, slots=True)
class Entry:
    """A binding in force: the tables that it means, and its filters compiled for each."""

    id: int
    binding: Binding
    filters: dict[int, list[CompiledFilter]]

    def matches(self, change: Change) -> bool:
        """Return whether the binding's event and filters let the change through."""
        if self.binding.event not in ("*", change.kind.value):
            return False
        row = change.old if change.kind is Kind.DELETE else change.new
        for condition in self.filters[change.relation.oid]:
            value = row.get(condition.column, UNCHANGED)
            if value is UNCHANGED or not condition.matches(value):
                return False
        return True


@dataclass(eq=False, slots=True)
class Subscriber:
    """A channel's subscription to changes."""

    topic: str
    vsn: Vsn
    role: str
    claims: str
    send: Callable[[str], None]
    entries: list[Entry] = field(default_factory=list)


@dataclass(slots=True)
class _Group:
    """The subscribers of one role to one table."""

    table: Table
    role: str
    members: list[tuple[Subscriber, list[Entry]]]
    plans: dict[tuple[str, ...] | None, Plan] = field(default_factory=dict)
    visible: dict[str, set[int]] = field(default_factory=dict)  # by claims; rows as positions in the batch

    def plan(self, select: tuple[str, ...] | None, encoder: Encoder) -> Plan:
        if select not in self.plans:
            self.plans[select] = Plan(self.table, self.role, select, encoder)
        return self.plans[select]

    @property
    def key_is_readable(self) -> bool:
        return all(self.role in column.readers for column in self.table.primary_key)

    def error(self, change: Change) -> str | None:
        """Return the error that stands for the change's content, if this role cannot be told it."""
        if change.kind is Kind.DELETE:
            return None
        if not self.table.primary_key:
            return _NO_PRIMARY_KEY
        return None if self.key_is_readable else _UNAUTHORIZED


class Delivery:
    """The subscribers, and the way of changes to them.

    Attributes:
        changes_seen: Changes of published tables since the start.
        changes_dropped: Those of them that `drop` took away.
        drop: How many of the next changes that someone listens for to lose silently; None for all. For tests.
        drop_table: The table that `drop` is about; None for all.
    """

    def __init__(self) -> None:
        self.changes_seen = 0
        self.changes_dropped = 0
        self.drop: int | None = 0
        self.drop_table: str | None = None
        self._subscribers: dict[Subscriber, None] = {}
        self._encoder = Encoder()

    def add(self, subscriber: Subscriber) -> None:
        """Let a subscriber hear of the changes that are delivered from now on."""
        self._subscribers[subscriber] = None

    def remove(self, subscriber: Subscriber) -> None:
        """Let a subscriber hear nothing more."""
        self._subscribers.pop(subscriber, None)

    async def deliver(self, connection: Any, changes: list[Change]) -> None:
        """Send changes, in their order, to all who may and want to hear of them.

        Args:
            connection: A connection on which `rls.CREATE_FUNCTIONS` ran, with the settings of `wal.connect`.
            changes: Whole transactions in order of commit.
        """
        self.changes_seen += len(changes)
        members = self._members()
        changes = self._without_dropped([change for change in changes if change.relation.oid in members])
        if not changes:
            return
        groups = await self._groups(connection, {change.relation.oid for change in changes}, members)
        await self._learn(connection, changes, groups)
        for table_groups in groups.values():
            for group in table_groups:
                await self._look_for_rows(connection, changes, group)
        for at, change in enumerate(changes):
            for group in groups.get(change.relation.oid, ()):
                self._send(at, change, group)
            if at % _BREATH == _BREATH - 1:
                await asyncio.sleep(0)

    def _without_dropped(self, changes: list[Change]) -> list[Change]:
        if self.drop == 0:
            return changes
        kept = []
        for change in changes:
            if self.drop == 0 or self.drop_table not in (None, change.relation.table):
                kept.append(change)
                continue
            self.changes_dropped += 1
            if self.drop is not None:
                self.drop -= 1
        return kept

    def _members(self) -> dict[int, list[tuple[Subscriber, list[Entry]]]]:
        members: dict[int, list[tuple[Subscriber, list[Entry]]]] = {}
        for subscriber in self._subscribers:
            by_table: dict[int, list[Entry]] = {}
            for entry in reversed(subscriber.entries):  # the real server lists the ids from last to first
                for oid in entry.filters:
                    by_table.setdefault(oid, []).append(entry)
            for oid, entries in by_table.items():
                members.setdefault(oid, []).append((subscriber, entries))
        return members

    async def _groups(
        self, connection: Any, oids: set[int], members: dict[int, list[tuple[Subscriber, list[Entry]]]]
    ) -> dict[int, list[_Group]]:
        roles = sorted({subscriber.role for oid in oids for subscriber, _ in members[oid]})
        tables = await load_tables(connection, sorted(oids), roles)
        return {
            oid: [
                _Group(table, role, here)
                for role in roles
                if (here := [member for member in members[oid] if member[0].role == role])
            ]
            for oid, table in tables.items()
        }

    async def _learn(self, connection: Any, changes: list[Change], groups: dict[int, list[_Group]]) -> None:
        """Ask PostgreSQL, once for the whole batch, what cannot be decided or written here."""
        tables = {oid: table_groups[0].table for oid, table_groups in groups.items() if table_groups}
        sql_types = {column.type_oid: column.sql_type for table in tables.values() for column in table.columns}
        await self._encoder.learn(connection, _foreign_values(changes, tables, self._encoder), sql_types)
        for oid, table_groups in groups.items():
            filters = {
                id(f): f for g in table_groups for _, entries in g.members for e in entries for f in e.filters[oid]
            }
            rows = [c.old if c.kind is Kind.DELETE else c.new for c in changes if c.relation.oid == oid]
            for condition in filters.values():
                values = (row.get(condition.column, UNCHANGED) for row in rows)
                await condition.learn(connection, [value for value in values if value is not UNCHANGED])

    async def _look_for_rows(self, connection: Any, changes: list[Change], group: _Group) -> None:
        table = group.table
        if not table.has_rls or not table.primary_key or not group.key_is_readable:
            return
        positions = [
            at
            for at, change in enumerate(changes)
            if change.relation.oid == table.oid
            and change.kind is not Kind.DELETE
            and any(entry.matches(change) for _, entries in group.members for entry in entries)
        ]
        if not positions:
            return
        names = [column.name for column in table.primary_key]
        keys = [[str(changes[at].new.get(name)) for name in names] for at in positions]
        claim_sets = list(dict.fromkeys(subscriber.claims for subscriber, _ in group.members))
        try:
            found = await visible_rows(connection, table, group.role, claim_sets, keys)
        except asyncpg.PostgresError as error:
            if is_outage(error):
                raise
            return  # the table changed shape under us: nothing can be shown to be visible
        for claims, rows in zip(claim_sets, found, strict=True):
            group.visible[claims] = {positions[row] for row in rows}

    def _send(self, at: int, change: Change, group: _Group) -> None:
        error = group.error(change)
        checks_rows = group.table.has_rls and change.kind is not Kind.DELETE and error is None
        frames: dict[tuple[str, str, str], str] = {}
        for subscriber, entries in group.members:
            if checks_rows and at not in group.visible.get(subscriber.claims, ()):
                continue
            if error is not None:
                matching = [entry for entry in entries if entry.binding.event in ("*", change.kind.value)]
            else:
                matching = [entry for entry in entries if entry.matches(change)]
            for select in dict.fromkeys(entry.binding.select for entry in matching):
                ids = dumps([entry.id for entry in matching if entry.binding.select == select])
                key = (subscriber.topic + str(select), ids, subscriber.vsn)
                if key not in frames:
                    data = error_data(change, error) if error else group.plan(select, self._encoder).data(change)
                    payload = f'{{"data":{data},"ids":{ids}}}'
                    frames[key] = encode_raw(subscriber.vsn, None, None, subscriber.topic, "postgres_changes", payload)
                subscriber.send(frames[key])


def _foreign_values(changes: Iterable[Change], tables: dict[int, Table], encoder: Encoder) -> Iterable[tuple[int, str]]:
    """Yield the values that PostgreSQL must write."""
    foreign = {
        oid: [column for column in table.columns if encoder.is_foreign(column.type_oid)]
        for oid, table in tables.items()
    }
    for change in changes:
        for column in foreign.get(change.relation.oid, ()):
            for row in (change.new, change.old):
                value = row.get(column.name)
                if isinstance(value, str):
                    yield column.type_oid, value
