"""Is a database ready for production? What the original's checklist asks, asked of the database itself."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING, Any

from streak_client import _migrations
from streak_client._backup.catalog import applied_migrations
from streak_client._doctor import Finding
from streak_client.errors import StreakError

if TYPE_CHECKING:
    from streak_client._database import Connection

TABLES = (
    "user_streaks",
    "streak_days",
    "streak_history",
    "streak_history_archive",
    "streak_repairs",
    "user_profiles",
)
PRIVATE_TABLES = ("history_archive_position", "streak_repair_users", "streak_timezones")
# Signed-in users may call the other functions of the release, which show them their own.
OPERATORS = (
    "update_user_streak_atomic",
    "update_user_streaks_batch",
    "get_user_streaks",
    "recover_user_streak",
    "import_user_activity",
    "rebuild_user_streak",
    "expire_lapsed_streaks",
    "undo_user_activity",
    "merge_user_streaks",
    "export_user_streak",
    "erase_user_streak",
    "preview_streak_repair",
    "start_streak_repair",
    "continue_streak_repair",
    "undo_streak_repair",
    "archive_streak_history",
    "diagnose_streaks",
)
PUSH = "Run: supabase db push --remote"
# Each is asked of one table by its functions; a plan that reads the whole table, or sorts it, lacks its index.
QUERIES = {
    "a user's streak": "select * from public.user_streaks where user_id = $1",
    "a user's day": "select * from public.streak_days where user_id = $1 and day = current_date",
    "a user's history": "select * from public.streak_history where user_id = $1 order by version desc limit 100",
    "the replay of a request": (
        "select * from public.streak_history where user_id = $1 and request_id = 'x' "
        "and request_id is not null and version is not null"
    ),
    "the change log": "select * from public.streak_history where id > 0 order by id limit 100",
    "the sweep": (
        "select * from public.user_streaks where current_streak > 0 and expires_at <= now() "
        "order by expires_at limit 100"
    ),
    "the leaderboard by longest_streak": (
        "select * from public.user_streaks order by longest_streak desc, user_id limit 100"
    ),
}
_NOBODY = "'00000000-0000-0000-0000-000000000000'"
# $1: tables that users may read at most; $2: those they have no right to; $3: functions, and what does their work.
_RIGHTS = """
select r.rolname || ' may ' || lower(p.right) || ' ' || t.name as found
from unnest(array['anon', 'authenticated']) as r (rolname)
cross join unnest(array['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE']) as p ("right")
cross join (
  select n, to_regclass(n), false from unnest($1::text[]) n
  union all
  select n, to_regclass(n), true from unnest($2::text[]) n
) as t (name, oid, hidden)
where (t.hidden or p.right <> 'SELECT') and has_table_privilege(r.rolname, t.oid, p.right)
union all
select r.rolname || ' may call ' || f.proname
from unnest(array['anon', 'authenticated']) as r (rolname)
join pg_catalog.pg_proc f on f.proname = any ($3::text[])
  and f.pronamespace = any (array[to_regnamespace('public'), to_regnamespace('private')])
where has_function_privilege(r.rolname, f.oid, 'EXECUTE')
order by 1
"""


async def inspect(connection: Connection) -> AsyncIterator[Finding]:
    """Check migrations, publication, indexes, row level security, sweep and statistics; nothing is written.

    Args:
        connection: The database, as a role that may read its catalogues.

    Yields:
        The findings; where the tables are missing, nothing after the migrations.
    """
    migrations = await _applied(connection)
    yield migrations
    if await connection.fetchval("select to_regclass('public.user_streaks')") is None:
        return
    for check in (_publication, _indexes, _row_security, _sweep, _volume):
        try:
            yield await check(connection)
        except StreakError:
            raise
        except Exception as error:  # noqa: BLE001 - one check that the role may not make harms no other
            name = check.__name__.strip("_").replace("_", " ")
            yield Finding(name, "failed", f"cannot be checked: {error}", "Use the URL of the role postgres.")


async def _applied(connection: Connection) -> Finding:
    ours = {migration.version: migration.title for migration in _migrations.bundled()}
    applied = await applied_migrations(connection)
    if applied is None:
        detail = "nothing was applied by the Supabase CLI here"
        return Finding("migrations", "failed", detail, f"{PUSH}; for SQL run by hand: supabase migration repair")
    missing = [f"{version}_{title}" for version, title in ours.items() if version not in applied]
    if missing:
        remedy = f"streaks migrations copy supabase/, then: {PUSH.removeprefix('Run: ')}"
        return Finding("migrations", "failed", f"not applied: {', '.join(missing)}", remedy)
    return Finding("migrations", "ok", f"all {len(ours)} of this release are applied")


async def _publication(connection: Connection) -> Finding:
    level = await connection.fetchval("select current_setting('wal_level')")
    if level != "logical":
        remedy = "Set wal_level = logical and restart PostgreSQL; hosted projects have it."
        return Finding("publication", "failed", f"wal_level is {level}: Realtime cannot read changes", remedy)
    row = await connection.fetchrow(
        "select p.pubinsert and p.pubupdate and p.pubdelete as whole, t.tablename from pg_catalog.pg_publication p "
        "left join pg_catalog.pg_publication_tables t on t.pubname = p.pubname and t.schemaname = 'public' "
        "and t.tablename = 'user_streaks' where p.pubname = 'supabase_realtime'"
    )
    if row is None or row["tablename"] is None:
        remedy = "Run: alter publication supabase_realtime add table public.user_streaks;"
        return Finding("publication", "failed", "supabase_realtime does not publish user_streaks", remedy)
    if not row["whole"]:
        remedy = "Run: alter publication supabase_realtime set (publish = 'insert, update, delete, truncate');"
        return Finding("publication", "failed", "supabase_realtime leaves out some changes", remedy)
    return Finding("publication", "ok", "supabase_realtime publishes every change of user_streaks")


async def _indexes(connection: Connection) -> Finding:
    broken = await connection.fetch(
        "select i.indexrelid::regclass::text as name from pg_catalog.pg_index i "
        "where not i.indisvalid and i.indrelid = any (select to_regclass(n) from unnest($1::text[]) n)",
        [*(f"public.{name}" for name in TABLES), *(f"private.{name}" for name in PRIVATE_TABLES)],
    )
    if broken:
        names = ", ".join(row["name"] for row in broken)
        return Finding("indexes", "failed", f"not valid: {names}", f"Run: reindex index concurrently {names};")
    without = [name for name, query in QUERIES.items() if not await _is_indexed(connection, query)]
    if without:
        remedy = "Make the index again as its migration has it: streaks migrations copy brings the files."
        return Finding("indexes", "failed", f"no index serves {', '.join(without)}", remedy)
    return Finding("indexes", "ok", f"explain: each of {len(QUERIES)} queries uses an index")


async def _is_indexed(connection: Connection, query: str) -> bool:
    async with connection.transaction():
        # Small tables are read whole whatever indexes there are; this asks what happens once they have grown.
        await connection.execute("set local enable_seqscan = off; set local enable_bitmapscan = off")
        plan = await connection.fetchval(f"explain (format json) {query.replace('$1', _NOBODY)}")
    nodes = list(_nodes(json.loads(plan)[0]["Plan"]))
    scans = [node for node in nodes if node["Node Type"] in {"Index Scan", "Index Only Scan"}]
    whole = any(node["Node Type"] in {"Seq Scan", "Sort", "Incremental Sort"} for node in nodes)
    # Without a condition an index scan is a walk: good for an order, bad for a search.
    return bool(scans) and not whole and (" where " not in query or all("Index Cond" in node for node in scans))


def _nodes(plan: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [plan, *(node for child in plan.get("Plans", ()) for node in _nodes(child))]


async def _row_security(connection: Connection) -> Finding:
    open_tables = await connection.fetch(
        "select c.relname from pg_catalog.pg_class c "
        "where c.oid = any (select to_regclass(n) from unnest($1::text[]) n) and not ("
        "c.relrowsecurity and exists (select from pg_catalog.pg_policy p where p.polrelid = c.oid)) order by 1",
        [f"public.{name}" for name in TABLES],
    )
    if open_tables:
        names = ", ".join(row["relname"] for row in open_tables)
        remedy = "Run: alter table ... enable row level security; and add the policy that its migration has."
        return Finding("row security", "failed", f"no row level security, or no policy: {names}", remedy)
    # The rights to user_profiles are the project's own affair.
    hidden = ["public.streak_repairs", *(f"private.{name}" for name in PRIVATE_TABLES)]
    shown = [f"public.{name}" for name in TABLES if name not in {"user_profiles", "streak_repairs"}]
    rights = [row["found"] for row in await connection.fetch(_RIGHTS, shown, hidden, list(OPERATORS))]
    if rights:
        return Finding("row security", "failed", "; ".join(rights), "Revoke what was granted by hand.")
    return Finding("row security", "ok", "users read their own rows, and nobody but service_role writes")


async def _sweep(connection: Connection) -> Finding:
    if await connection.fetchval("select to_regclass('cron.job')") is None:
        return Finding(
            "sweep", "skipped", "no pg_cron: call expire_lapsed_streaks from a scheduler, or never; no answer needs it"
        )
    jobs = await connection.fetchval(
        "select count(*) from cron.job where active and command ilike '%expire_lapsed_streaks%'"
    )
    if jobs:
        return Finding("sweep", "ok", "pg_cron runs expire_lapsed_streaks")
    remedy = "Run: select cron.schedule('streaks', '*/5 * * * *', 'select * from public.expire_lapsed_streaks(1000)');"
    return Finding("sweep", "failed", "pg_cron has no active job for expire_lapsed_streaks", remedy)


async def _volume(connection: Connection) -> Finding:
    users = await connection.fetchval("select count(*) from (select from public.user_streaks limit 100001) s")
    if not users:
        return Finding("data volume", "skipped", "no streaks yet: try with your own data, or streaks up --demo")
    known = await connection.fetchval(
        "select reltuples >= 0 from pg_catalog.pg_class where oid = 'public.user_streaks'::regclass"
    )
    shown = f"{users} streaks" if users <= 100_000 else "over 100,000 streaks"  # noqa: PLR2004 - where counting ends
    if not known:
        return Finding("data volume", "failed", f"{shown} that the planner has never looked at", "Run: analyze;")
    return Finding("data volume", "ok", shown)
