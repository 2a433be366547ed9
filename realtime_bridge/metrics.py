"""Counts of what passes, and of everything that is merged or dropped on the way."""

from dataclasses import dataclass, fields


@dataclass(slots=True)
class Counters:
    """Totals since the bridge started.

    Attributes:
        frames: Change frames that Realtime sent.
        unreadable: Frames that did not say enough and were read again over REST.
        changes: Changes that were newer than what was known.
        stale: Changes that were not (duplicates, reorderings, reads that confirmed).
        missed: Changes that a read over REST found before the stream brought them.
        debounced: Changes merged into a later one by debouncing.
        conflated: Messages merged into a later one in a listener's mailbox.
        dropped: Messages that a listener had not read when it was closed.
        sent: Messages that listeners took.
        lapsed: Streaks whose lapse the bridge's own clock told.
        opened: Listeners that came.
        slow: Listeners closed as slow.
        resets: Listeners told to take a fresh snapshot.
        subscriptions: Times that Realtime reported "Subscribed to PostgreSQL".
        disconnects: Sessions with Realtime that ended.
        resyncs: Synchronisations that were completed after a possible gap.
        board_reads: Reads of the leaderboard.
        rest_errors: Reads over REST that failed.
        rows_skipped: Rows that were passed over because they hold what Python cannot, such as the year 20260.
        broadcast: Changes and states published to users' Realtime channels.
        broadcast_errors: Attempts to publish that failed.
        broadcast_dropped: Changes that Realtime refused for good.
    """

    frames: int = 0
    unreadable: int = 0
    changes: int = 0
    stale: int = 0
    missed: int = 0
    debounced: int = 0
    conflated: int = 0
    dropped: int = 0
    sent: int = 0
    lapsed: int = 0
    opened: int = 0
    slow: int = 0
    resets: int = 0
    subscriptions: int = 0
    disconnects: int = 0
    resyncs: int = 0
    board_reads: int = 0
    rest_errors: int = 0
    rows_skipped: int = 0
    broadcast: int = 0
    broadcast_errors: int = 0
    broadcast_dropped: int = 0

    def as_dict(self) -> dict[str, int]:
        """The totals by name."""
        return {item.name: getattr(self, item.name) for item in fields(self)}
