"""What a repeat leaves behind: the bytes of WAL it writes and the row locks it takes."""

from __future__ import annotations

from tests.benchmarks import database_pgbench as scripts
from tests.benchmarks.database_load import NOON
from tests.benchmarks.database_pgbench import Load
from tests.benchmarks.database_works import Bench, Figure, at, noon


async def traces(bench: Bench) -> None:
    """What a repeat leaves behind, with the original's beside it to show that this would be seen."""
    await noon(bench)
    for table in ("public.user_streaks", "public.streak_days", "public.streak_history", "original.user_streaks"):
        await bench.connection.execute(f"vacuum {table}")
    wal: dict[str, list[float]] = {"ours": [], "(o)": []}
    for peer, script in (("(o)", scripts.ORIGINAL), ("ours", scripts.UPDATE)) * 3:
        load = Load(scripts.ACTIVE + script, calls=250, variables={"at": at(0)})
        before = await bench.connection.fetchval("select pg_current_wal_insert_lsn()")
        calls = (await bench.pgbench.run(load)).calls
        written = await bench.connection.fetchval("select pg_current_wal_insert_lsn() - $1::pg_lsn", before)
        wal[peer].append(float(written) / calls)
    bench.take("repeat, WAL bytes a call", wal)
    # the least of three: a checkpoint or a snapshot of the background writer is nobody's call
    ours, original = min(wal["ours"]), min(wal["(o)"])
    bench.figures.append(
        Figure("same-day repeat, WAL", f"{ours:.1f} bytes a call", f"(o) {original:.1f}", ours, "0 bytes", ours == 0)
    )
    locks = {peer: await _row_locks(bench, peer) for peer in ("ours", "(o)")}
    bench.figures.append(
        Figure(
            "same-day repeat, row locks", locks["ours"], f"(o) {locks['(o)']}", None, "none", locks["ours"] == "none"
        )
    )


async def _row_locks(bench: Bench, peer: str) -> str:
    """Repeats for 100 users in one transaction and looks whether it needed what a row lock cannot do without."""
    call = (
        "public.update_user_streak_atomic($1, $2, 'trace', $3)"
        if peer == "ours"
        else ("original.update_user_streak_atomic($1, $2, 'trace')")
    )
    transaction = bench.connection.transaction()
    await transaction.start()
    try:
        users = await bench.connection.fetch(
            "select user_id, timezone from public.user_streaks "
            "where user_id = any (array(select ('00000000-0000-4000-8000-' || (100000000003 + 10 * n))::uuid "
            "from generate_series(0, 99) n))"
        )
        for user, zone in users:
            arguments = [user, zone, NOON] if peer == "ours" else [user, zone]
            kind = await bench.connection.fetchval(f"select change_type from {call}", *arguments)  # noqa: S608
            assert kind == "STREAK_MAINTAINED", kind
        # a row lock is an xmax in the row: it takes a transaction id, and the table's lock for it
        has_id = await bench.connection.fetchval("select pg_current_xact_id_if_assigned() is not null")
        modes = await bench.connection.fetchval(
            "select string_agg(distinct mode, ', ') from pg_locks where pid = pg_backend_pid() "
            "and relation::regclass::text like '%user_streaks' and mode <> 'AccessShareLock'"
        )
    finally:
        await transaction.rollback()
    return f"transaction id, {modes}" if has_id or modes else "none"
