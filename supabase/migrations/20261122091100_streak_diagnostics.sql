-- The operator's questions to the database, as functions: who is hot, what broke, what is inconsistent, what is slow.

-- 1. Changes of late ------------------------------------------------------------------------------------------------------

create or replace function private.diagnosed_changes() returns integer
language plpgsql immutable set search_path = '' as $$
begin
  return 100000;
end
$$;
comment on function private.diagnosed_changes() is
  'How many changes a check looks at, at most: the checks must end in time where a million changes come in a day.';

create or replace function private.recent_history(p_window interval)
returns setof public.streak_history
language plpgsql stable set search_path = '' rows 1000 as $$
declare
  v_since constant timestamptz := private.now() - p_window;
  v_since_id constant bigint := private.history_id_at(v_since - interval '1 minute');
begin
  return query
  select h.* from public.streak_history h
  where h.id >= v_since_id and h.created_at >= v_since and h.version is not null
  order by h.id desc limit private.diagnosed_changes();
end
$$;
comment on function private.recent_history(interval) is 'What changed within a window, the newest changes first and no more than diagnosed_changes(), found by the primary key.';

create or replace function private.hot_users(p_window interval, p_limit integer)
returns table (user_id uuid, changes bigint, first_at timestamptz, last_at timestamptz)
language plpgsql stable set search_path = '' rows 100 as $$
#variable_conflict use_column
begin
  return query
  select h.user_id, count(*), min(h.created_at), max(h.created_at)
  from private.recent_history(p_window) h
  group by h.user_id having count(*) > 5
  order by count(*) desc, h.user_id limit p_limit;
end
$$;
comment on function private.hot_users(interval, integer) is
  'Users whose rows changed more than five times within a window: a loop, an abuse, or a retry without a request id.';

create or replace function private.broken_streaks(p_window interval, p_limit integer)
returns table (user_id uuid, change_type text, lost integer, longest_streak integer, last_active_date date, at timestamptz)
language plpgsql stable set search_path = '' rows 100 as $$
#variable_conflict use_column
begin
  return query
  select h.user_id, h.change_type::text, h.old_current_streak, h.new_longest_streak, h.last_active_date, h.created_at
  from private.recent_history(p_window) h
  where h.new_current_streak < h.old_current_streak and h.old_current_streak > 1
  order by h.old_current_streak desc, h.user_id limit p_limit;
end
$$;
comment on function private.broken_streaks(interval, integer) is
  'Streaks that ended or shrank within a window, the longest first: many at once are the mark of an outage.';

create or replace function private.version_gaps(p_window interval, p_limit integer)
returns table (user_id uuid, version_before integer, version_after integer, previous integer, at timestamptz)
language plpgsql stable set search_path = '' rows 100 as $$
#variable_conflict use_column
begin
  return query
  select h.user_id, h.version_before, h.version_after, p.version, h.created_at
  from private.recent_history(p_window) h
  left join lateral (
    select o.version from public.streak_history o
    where o.user_id = h.user_id and o.version < h.version order by o.version desc limit 1
  ) p on true
  -- what an upgraded database brought along has no version, and what was archived or removed is no gap
  where h.version_after <> h.version_before + 1
    or p.version <> h.version_before
      and not exists (select from public.streak_history_archive a where a.user_id = h.user_id and a.version = h.version_before)
  order by h.id desc limit p_limit;
end
$$;
comment on function private.version_gaps(interval, integer) is
  'Changes within a window whose version does not follow the one before: each is a write that went past the history.';

create or replace function private.same_day_duplicates(p_window interval, p_limit integer)
returns table (user_id uuid, day date, times bigint)
language plpgsql stable set search_path = '' rows 100 as $$
#variable_conflict use_column
begin
  return query
  select h.user_id, h.activity_date,
    count(*) filter (where h.change_type in ('FIRST_ACTIVITY', 'STREAK_INCREMENT', 'STREAK_RESET'))
  from private.recent_history(p_window) h
  group by h.user_id, h.activity_date
  -- a day that was undone may count again
  having count(*) filter (where h.change_type in ('FIRST_ACTIVITY', 'STREAK_INCREMENT', 'STREAK_RESET'))
    > 1 + count(*) filter (where h.reason is not null)
  order by 3 desc, h.user_id limit p_limit;
end
$$;
comment on function private.same_day_duplicates(interval, integer) is
  'Days that counted twice within a window without having been undone in between: the ledger''s key should make it impossible.';

create or replace function private.ledger_disagreements(p_window interval, p_limit integer)
returns table (user_id uuid, run_length integer, counted integer, last_active_date date, last_day date)
language plpgsql stable set search_path = '' rows 100 as $$
#variable_conflict use_column
begin
  return query
  select s.user_id, s.run_length, c.run_length, s.last_active_date, c.last_day
  from private.count_runs(array(
    select distinct h.user_id from private.recent_history(p_window) h limit 10000
  )) c
  join public.user_streaks s on s.user_id = c.user_id
  where (s.run_length, s.last_active_date) is distinct from (c.run_length, c.last_day) or s.longest_streak < c.longest_run
  order by s.user_id limit p_limit;
end
$$;
comment on function private.ledger_disagreements(interval, integer) is
  'Rows, of up to 10,000 users changed within a window, that disagree with their ledger: rebuild_user_streak mends each.';

create or replace function private.unswept_lapses(p_limit integer)
returns table (user_id uuid, current_streak integer, expires_at timestamptz)
language plpgsql stable set search_path = '' rows 100 as $$
#variable_conflict use_column
begin
  return query
  select s.user_id, s.current_streak, s.expires_at from public.user_streaks s
  where s.current_streak > 0 and s.expires_at < private.now() - interval '1 hour'
  order by s.expires_at limit p_limit;
end
$$;
comment on function private.unswept_lapses(integer) is
  'Streaks that lapsed over an hour ago and that no sweep has written: no answer is wrong, but Realtime has said nothing.';

create or replace function private.slow_queries(p_limit integer)
returns table (calls bigint, mean_ms double precision, total_ms double precision, query text)
language plpgsql stable set search_path = '' rows 100 as $$
declare
  v_schema constant name := (
    select n.nspname from pg_catalog.pg_extension e join pg_catalog.pg_namespace n on n.oid = e.extnamespace
    where e.extname = 'pg_stat_statements'
  );
begin
  if v_schema is null then
    return;
  end if;
  for calls, mean_ms, total_ms, query in execute format(
    'select s.calls, s.mean_exec_time, s.total_exec_time, left(s.query, 300) from %I.pg_stat_statements s
     where s.dbid = (select d.oid from pg_catalog.pg_database d where d.datname = pg_catalog.current_database())
       and s.query ~* ''streak''
     order by s.mean_exec_time desc limit $1', v_schema
  ) using p_limit loop
    return next;
  end loop;
exception when object_not_in_prerequisite_state then
  return; -- installed, but not loaded at the start of the server
end
$$;
comment on function private.slow_queries(integer) is
  'The slowest statements about streaks by pg_stat_statements, where that is installed and loaded; none elsewhere.';

-- 2. All of them at once --------------------------------------------------------------------------------------------------

create or replace function private.diagnose_streaks(p_limit integer)
returns table (check_name text, status text, found bigint, detail text, sample jsonb)
language plpgsql stable security definer set search_path = '' rows 8 as $$
declare
  v_bound constant integer := private.diagnosed_changes();
  v_cut constant text := case
    when (select count(*) from private.recent_history('1 day')) = v_bound
      then format('; of the newest %s changes only', v_bound)
    else '' end;
begin
  return query
  with checks (n, check_name, bad, rows, detail) as (
    values
      (1, 'version gaps', 'failed', (select jsonb_agg(x) from private.version_gaps('1 day', p_limit) x),
        'changes of the last day that the history does not explain' || v_cut),
      (2, 'same-day duplicates', 'failed', (select jsonb_agg(x) from private.same_day_duplicates('1 day', p_limit) x),
        'days that counted twice in the last day' || v_cut),
      (3, 'ledger', 'failed', (select jsonb_agg(x) from private.ledger_disagreements('1 hour', p_limit) x),
        'rows changed in the last hour that disagree with the ledger: rebuild_user_streak mends each' || v_cut),
      (4, 'lapses', 'warning', (select jsonb_agg(x) from private.unswept_lapses(p_limit) x),
        'lapses of over an hour ago that no sweep has written: is expire_lapsed_streaks called?'),
      (5, 'hot users', 'warning', (select jsonb_agg(x) from private.hot_users('1 minute', p_limit) x),
        'users with more than five changes in the last minute'),
      (6, 'broken streaks', 'info', (select jsonb_agg(x) from private.broken_streaks('1 day', p_limit) x),
        'streaks that ended in the last day, the longest first' || v_cut),
      (7, 'slow queries', 'info', (select jsonb_agg(x) from private.slow_queries(p_limit) x),
        'the slowest statements by pg_stat_statements, where it is loaded')
  )
  select c.check_name, case when c.rows is null then 'ok' else c.bad end, coalesce(jsonb_array_length(c.rows), 0)::bigint,
    c.detail, coalesce(c.rows, '[]')
  from checks c order by c.n;
end
$$;
comment on function private.diagnose_streaks(integer) is 'The work of public.diagnose_streaks.';

create or replace function public.diagnose_streaks(p_limit integer default 20)
returns table (check_name text, status text, found bigint, detail text, sample jsonb)
language plpgsql stable set search_path = '' rows 8 as $$
begin
  if p_limit is null or p_limit not between 1 and 1000 then
    raise exception 'p_limit: 1 to 1000' using errcode = '22023', detail = 'LIMIT_INVALID';
  end if;
  return query select * from private.diagnose_streaks(p_limit);
end
$$;
comment on function public.diagnose_streaks(integer) is
  'The operator''s questions at once, about at most the newest 100,000 changes (detail says so where there were more), each '
  'with at most p_limit rows in sample: failed is an inconsistency, warning wants a '
  'look, info is for reading. The parts are functions of schema private, for SQL.';

-- 3. Rights ---------------------------------------------------------------------------------------------------------------

revoke all on function
  private.diagnosed_changes(), private.recent_history(interval), private.hot_users(interval, integer), private.broken_streaks(interval, integer),
  private.version_gaps(interval, integer), private.same_day_duplicates(interval, integer),
  private.ledger_disagreements(interval, integer), private.unswept_lapses(integer), private.slow_queries(integer),
  private.diagnose_streaks(integer), public.diagnose_streaks(integer)
from public, anon, authenticated, service_role;
grant execute on function private.diagnose_streaks(integer), public.diagnose_streaks(integer) to service_role;
