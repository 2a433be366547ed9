-- What operators and jobs call: lapses, repairs, imports, rebuilds.

-- 1. Lapses --------------------------------------------------------------------------------------------------------------

create or replace function private.expire_lapsed_streaks(p_limit integer) returns integer
language plpgsql security definer set search_path = '' as $$
declare
  v_started_at constant timestamptz := clock_timestamp();
  v_now constant timestamptz := private.now();
  v_expired integer;
begin
  with lapsed as (
    -- whoever holds a lock is changing that very row, or deleting the user: its turn comes with the next sweep
    select s.user_id, s.current_streak, s.version, s.last_active_date
    from auth.users u join public.user_streaks s on s.user_id = u.id
    where s.current_streak > 0 and s.expires_at <= v_now
    order by s.expires_at limit p_limit
    for key share of u skip locked for update of s skip locked
  ),
  swept as (
    update public.user_streaks s set current_streak = 0, version = s.version + 1, updated_at = v_now
    from lapsed l where s.user_id = l.user_id and s.version = l.version
    returning s.user_id, l.current_streak, s.longest_streak, s.last_active_date, s.timezone, s.version, s.expires_at
  )
  insert into public.streak_history (
    user_id, old_current_streak, new_current_streak, old_longest_streak, new_longest_streak, activity_date,
    last_active_date, change_type, timezone, version_before, version_after, created_at, duration_ms, version,
    new_last_active_date, expires_at
  )
  select w.user_id, w.current_streak, 0, w.longest_streak, w.longest_streak, w.last_active_date, w.last_active_date,
    'STREAK_LAPSED', w.timezone, w.version - 1, w.version, v_now,
    (extract(epoch from clock_timestamp() - v_started_at) * 1000)::integer, w.version, w.last_active_date, w.expires_at
  from swept w;
  get diagnostics v_expired = row_count;
  return v_expired;
end
$$;
comment on function private.expire_lapsed_streaks(integer) is 'The work of public.expire_lapsed_streaks.';

create or replace function public.expire_lapsed_streaks(p_limit integer default 1000)
returns table (expired integer)
language plpgsql set search_path = '' rows 1 as $$
begin
  if p_limit is null or p_limit not between 1 and 100000 then
    raise exception 'p_limit: 1 to 100000' using errcode = '22023', detail = 'LIMIT_INVALID';
  end if;
  expired := private.expire_lapsed_streaks(p_limit);
  return next;
end
$$;
comment on function public.expire_lapsed_streaks(integer) is
  'Sets current_streak to 0 where the streak has lapsed, so that the table and Realtime show it, and returns how many. '
  'No answer depends on it. Call it again while it returns p_limit.';

-- 2. Rebuild --------------------------------------------------------------------------------------------------------------

create or replace function private.locked_streak(p_user_id uuid) returns public.user_streaks
language plpgsql set search_path = '' as $$
declare
  v_row public.user_streaks;
begin
  if p_user_id is null then
    perform private.raise_streak_error('USER_ID_REQUIRED');
  end if;
  select s.* into v_row
  from auth.users u join public.user_streaks s on s.user_id = u.id
  where u.id = p_user_id
  for key share of u for update of s;
  if v_row.user_id is not null then
    return v_row;
  end if;
  perform from auth.users u where u.id = p_user_id;
  if not found then
    perform private.raise_streak_error('USER_NOT_FOUND');
  end if;
  raise exception 'p_user_id: the user has no streak yet' using errcode = '22023', detail = 'NO_STREAK';
end
$$;
comment on function private.locked_streak(uuid) is 'The row of a user, locked like the update locks it; an error if there is none.';

create or replace function private.rebuild_user_streak(p_user_id uuid) returns private.streak_answer
language plpgsql security definer set search_path = '' as $$
declare
  v_started_at constant timestamptz := clock_timestamp();
  v_answer private.streak_answer;
begin
  perform private.locked_streak(p_user_id);
  select null, true, s.current_streak, s.longest_streak, s.last_active_date, s.change_type,
    private.streak_message(s.change_type, s.current_streak), s.stored_timezone, s.version, s.expires_at, false
  into v_answer
  from private.settle_streaks(array[p_user_id], 'STREAK_REBUILT', v_started_at) s;
  if not found then
    select null, true, g.current_streak, g.longest_streak, g.last_active_date, 'STREAK_MAINTAINED',
      'The row agrees with the ledger.', g.timezone, g.version, g.expires_at, false
    into v_answer
    from public.get_user_streak(p_user_id) g;
  end if;
  return v_answer;
end
$$;
comment on function private.rebuild_user_streak(uuid) is 'The work of public.rebuild_user_streak.';

create or replace function public.rebuild_user_streak(p_user_id uuid)
returns table (
  success boolean, current_streak integer, longest_streak integer, last_active_date date, change_type text, message text,
  timezone text, version integer, expires_at timestamptz, replayed boolean
)
language plpgsql set search_path = '' rows 1 as $$
#variable_conflict use_column
begin
  return query select a.success, a.current_streak, a.longest_streak, a.last_active_date, a.change_type, a.message,
    a.timezone, a.version, a.expires_at, a.replayed from private.rebuild_user_streak(p_user_id) a;
end
$$;
comment on function public.rebuild_user_streak(uuid) is
  'Counts a user''s row anew from the ledger: STREAK_REBUILT if anything was wrong, else STREAK_MAINTAINED and nothing is written.';

-- 3. Repair ----------------------------------------------------------------------------------------------------------------

create or replace function private.recover_user_streak(
  p_user_id uuid, p_from date, p_to date, p_reason text, p_request_id text
) returns private.streak_answer
language plpgsql security definer set search_path = '' as $$
declare
  v_started_at constant timestamptz := clock_timestamp();
  v_request_id constant text := nullif(p_request_id, '');
  v_row public.user_streaks;
  v_today date;
  v_days date[];
  v_answer private.streak_answer;
begin
  if length(v_request_id) > 100 then
    perform private.raise_streak_error('REQUEST_ID_TOO_LONG');
  end if;
  v_answer := private.recorded_answer(p_user_id, v_request_id);
  if v_answer.success then
    return v_answer;
  end if;
  v_row := private.locked_streak(p_user_id);
  v_answer := private.recorded_answer(p_user_id, v_request_id); -- again, now that nobody else writes
  if v_answer.success then
    return v_answer;
  end if;
  v_today := private.local_day(private.now(), v_row.timezone);
  if p_from is null or p_to is null or p_from > p_to or not isfinite(p_from) or not isfinite(p_to) then
    raise exception 'p_from, p_to: two dates in order are required' using errcode = '22023', detail = 'RANGE_INVALID';
  elsif p_to - p_from >= 366 then
    raise exception 'p_from, p_to: at most 366 days' using errcode = '22023', detail = 'RANGE_TOO_LONG';
  elsif p_from < (select min(d.day) from public.streak_days d where d.user_id = p_user_id) then
    raise exception 'p_from: before the first day of the ledger' using errcode = '22023', detail = 'RANGE_TOO_EARLY';
  elsif p_to >= v_today then
    raise exception 'p_to: local yesterday at the latest' using errcode = '22023', detail = 'RANGE_TOO_LATE';
  elsif coalesce(trim(p_reason), '') = '' then
    raise exception 'p_reason: a reason is required' using errcode = '22023', detail = 'REASON_REQUIRED';
  elsif length(p_reason) > 500 then
    raise exception 'p_reason: at most 500 characters' using errcode = '22023', detail = 'REASON_TOO_LONG';
  end if;

  with entered as (
    insert into public.streak_days (user_id, day, kind, timezone)
    select p_user_id, p_from + n,
      -- a date that the zone never had cannot have been missed
      case when private.local_day(private.local_day_starts_at(p_from + n, v_row.timezone), v_row.timezone) = p_from + n
        then 'repaired' else 'skipped' end,
      v_row.timezone
    from generate_series(0, p_to - p_from) n
    on conflict (user_id, day) do nothing
    returning day
  )
  select array_agg(e.day) into v_days from entered e;
  if v_days is null then
    select null, true, g.current_streak, g.longest_streak, g.last_active_date, 'STREAK_MAINTAINED',
      'No day was missing.', g.timezone, g.version, g.expires_at, false
    into v_answer
    from public.get_user_streak(p_user_id) g;
    return v_answer;
  end if;
  perform private.bridge_gaps(array_fill(p_user_id, array[cardinality(v_days)]), v_days);
  select null, true, s.current_streak, s.longest_streak, s.last_active_date, s.change_type,
    private.streak_message(s.change_type, s.current_streak), s.stored_timezone, s.version, s.expires_at, false
  into v_answer
  from private.settle_streaks(
    array[p_user_id], 'STREAK_RECOVERED', v_started_at, v_request_id, null, p_to, null, null, p_reason
  ) s;
  return v_answer;
end
$$;
comment on function private.recover_user_streak(uuid, date, date, text, text) is 'The work of public.recover_user_streak.';

create or replace function public.recover_user_streak(
  p_user_id uuid, p_from date, p_to date, p_reason text, p_request_id text default null
)
returns table (
  success boolean, current_streak integer, longest_streak integer, last_active_date date, change_type text, message text,
  timezone text, version integer, expires_at timestamptz, replayed boolean
)
language plpgsql set search_path = '' rows 1 as $$
#variable_conflict use_column
begin
  return query select a.success, a.current_streak, a.longest_streak, a.last_active_date, a.change_type, a.message,
    a.timezone, a.version, a.expires_at, a.replayed
  from private.recover_user_streak(p_user_id, p_from, p_to, p_reason, p_request_id) a;
end
$$;
comment on function public.recover_user_streak(uuid, date, date, text, text) is
  'Enters the missing days from p_from to p_to as repaired, with the reason in the history; the streak lives on from the '
  'last of them. At most 366 days, from the first day of the ledger to local yesterday.';

-- 4. Import ----------------------------------------------------------------------------------------------------------------

create or replace function private.import_user_activity(
  p_user_ids uuid[], p_activity_ats timestamptz[], p_timezones text[]
)
returns table (
  user_id uuid, error text, days_added integer, current_streak integer, longest_streak integer, last_active_date date,
  change_type text, timezone text, version integer, expires_at timestamptz
)
language plpgsql security definer set search_path = '' rows 100
-- tables are looked up by key, whatever the planner believes of their size, and what the call brings is joined by hash
set enable_seqscan = off as $$
#variable_conflict use_column
declare
  v_started_at constant timestamptz := clock_timestamp();
  v_now constant timestamptz := private.now();
  v_known uuid[];
  v_users uuid[];
  v_days date[];
  v_ats timestamptz[];
  v_zones text[];
  v_changed uuid[];
  v_added integer[];
begin
  -- the users' keys before their rows, both in the one order in which everybody locks
  v_known := array(
    select u.id from auth.users u where u.id = any (array(select distinct x from unnest(p_user_ids) x))
    order by u.id for key share
  );
  -- one statement makes the rows that are missing and locks those that are there, in that order
  insert into public.user_streaks as s (
    user_id, last_active_date, timezone, version, expires_at, last_activity_at, created_at, updated_at
  )
  select n.user_id, d.day, n.timezone,
    coalesce((select max(h.version) from public.streak_history h where h.user_id = n.user_id), 0),
    private.streak_expires_at(d.day, n.timezone), n.at, v_now, v_now
  from (
    select distinct on (i.user_id) i.user_id, i.at, coalesce(z.name, private.default_timezone(i.user_id)) as timezone
    from private.batch_elements(p_user_ids, p_timezones, null, p_activity_ats) i
    left join private.streak_timezones z on z.key = lower(i.timezone)
    -- hashed: = any (v_known) would go through the whole array for every event
    where (i.user_id in (select k from unnest(v_known) k)) is true
    order by i.user_id, i.at desc, z.name -- of two at one instant always the same, so that importing again changes nothing
  ) n
  cross join lateral (select private.local_day(n.at, n.timezone) as day) d
  order by n.user_id
  on conflict (user_id) do update set version = s.version where false;

  -- of the events of one day the first enters it
  select array_agg(e.user_id), array_agg(e.day), array_agg(e.at), array_agg(e.timezone)
  into v_users, v_days, v_ats, v_zones
  from (
    select distinct on (x.user_id, x.day) x.user_id, x.day, x.at, x.timezone
    from (
      -- rule 1 stands written out here, as calls of private.local_day would cost more than the rest of the statement
      select i.user_id, i.at, y.timezone, ((i.at at time zone y.timezone) - private.day_start())::date as day
      from private.batch_elements(p_user_ids, p_timezones, null, p_activity_ats) i
      left join private.streak_timezones z on z.key = lower(i.timezone)
      cross join lateral (
        select coalesce(z.name, (select s.timezone from public.user_streaks s where s.user_id = i.user_id)) as timezone offset 0
      ) y
      where (i.user_id in (select k from unnest(v_known) k)) is true
    ) x
    order by x.user_id, x.day, x.at, x.timezone
  ) e;

  -- Whoever writes a user's days holds the lock of the user's row, so nobody else enters one of these meanwhile: no need for
  -- the tentative insertion of on conflict, which costs half as much again.
  with found as (
    select e.user_id, e.day, e.at, e.timezone, d.kind, d.place
    from unnest(v_users, v_days, v_ats, v_zones) e (user_id, day, at, timezone)
    left join lateral (
      select l.kind, l.ctid as place from public.streak_days l where l.user_id = e.user_id and l.day = e.day offset 0
    ) d on true
  ),
  entered as (
    insert into public.streak_days (user_id, day, kind, activity_at, timezone)
    select f.user_id, f.day, 'active', f.at, f.timezone from found f where f.kind is null
    returning user_id, day
  ),
  raised as (
    update public.streak_days d set kind = 'active', activity_at = f.at, timezone = f.timezone
    from found f where f.kind <> 'active' and d.ctid = f.place
    returning d.user_id, d.day
  )
  -- only the days that this import entered: what lies beside others was decided when they came
  select array_agg(e.user_id), array_agg(e.day) into v_users, v_days
  from (select n.user_id, n.day from entered n union all select r.user_id, r.day from raised r) e;
  select array_agg(c.user_id), array_agg(c.added) into v_changed, v_added
  from (select e.user_id, count(*)::integer as added from unnest(v_users) e (user_id) group by e.user_id) c;
  if v_changed is not null then
    perform private.bridge_gaps(v_users, v_days);
    perform private.settle_streaks(v_changed, 'STREAK_IMPORTED', v_started_at);
  end if;

  return query
  select u.user_id, case when s.user_id is null then 'USER_NOT_FOUND' end, coalesce(c.added, 0),
    case when v_now >= s.expires_at then 0 else s.run_length end, s.longest_streak, s.last_active_date,
    case when c.added is not null then 'STREAK_IMPORTED' when s.user_id is not null then 'STREAK_MAINTAINED' end,
    s.timezone::text, s.version, s.expires_at
  from (select distinct x as user_id from unnest(p_user_ids) x) u
  left join lateral (
    select r.* from public.user_streaks r
    where r.user_id = u.user_id and (u.user_id in (select k from unnest(v_known) k)) is true offset 0
  ) s on true
  left join unnest(v_changed, v_added) c (user_id, added) on c.user_id = u.user_id
  order by u.user_id;
end
$$;
comment on function private.import_user_activity(uuid[], timestamptz[], text[]) is 'The work of public.import_user_activity.';

create or replace function public.import_user_activity(
  p_user_ids uuid[], p_activity_ats timestamptz[], p_timezones text[] default null
)
returns table (
  user_id uuid, error text, days_added integer, current_streak integer, longest_streak integer, last_active_date date,
  change_type text, timezone text, version integer, expires_at timestamptz
)
language plpgsql set search_path = '' rows 100 as $$
#variable_conflict use_column
declare
  v_now constant timestamptz := private.now();
  v_bad record;
begin
  if p_user_ids is null or p_activity_ats is null or cardinality(p_user_ids) <> cardinality(p_activity_ats) then
    raise exception 'p_user_ids, p_activity_ats: two arrays of the same length are required'
      using errcode = '22023', detail = 'ARRAYS_DIFFER';
  elsif cardinality(p_timezones) > cardinality(p_user_ids) then
    raise exception 'p_timezones: longer than p_user_ids' using errcode = '22023', detail = 'ARRAYS_DIFFER';
  elsif cardinality(p_user_ids) > 100000 then
    raise exception 'p_user_ids: at most 100000 elements' using errcode = '22023', detail = 'BATCH_TOO_LARGE';
  end if;
  -- nothing is half done: the first bad event refuses the call
  select i.n - 1 as index, case
      when i.user_id is null then 'USER_ID_REQUIRED'
      when i.at is null then 'ACTIVITY_AT_REQUIRED'
      when i.at > v_now + interval '5 minutes' then 'ACTIVITY_IN_FUTURE'
      else 'ACTIVITY_TOO_OLD'
    end as code
  into v_bad
  from unnest(p_user_ids, p_activity_ats) with ordinality i (user_id, at, n)
  where i.user_id is null or i.at is null or i.at > v_now + interval '5 minutes' or i.at < timestamptz '1970-01-02 00:00Z'
  order by i.n limit 1;
  if found then
    raise exception 'event %: % is %', v_bad.index,
      case v_bad.code when 'USER_ID_REQUIRED' then 'p_user_ids' else 'p_activity_ats' end,
      case v_bad.code when 'ACTIVITY_IN_FUTURE' then 'more than 5 minutes in the future'
        when 'ACTIVITY_TOO_OLD' then 'before 1970' else 'null' end
      using errcode = '22023', detail = v_bad.code;
  end if;
  return query select * from private.import_user_activity(p_user_ids, p_activity_ats, p_timezones);
end
$$;
comment on function public.import_user_activity(uuid[], timestamptz[], text[]) is
  'Back-fills activities of any age: one row per user, in order of user_id; importing again changes nothing. Each event''s '
  'own zone gives its day (none: the stored one, the profile''s, UTC). An unknown user gets USER_NOT_FOUND in error and '
  'harms no other; any other bad event refuses the whole call and is named by its index, from 0.';

-- 5. Rights ------------------------------------------------------------------------------------------------------------------

do $$
declare
  v_function regprocedure;
begin
  -- by name: a project may keep functions of its own in this schema
  for v_function in
    select p.oid::regprocedure from pg_catalog.pg_proc p
    where p.pronamespace = 'private'::regnamespace and p.proname in (
      'apply_activities', 'apply_activity', 'apply_mended', 'apply_together', 'batch_elements', 'begin_streak',
      'begin_streaks', 'bridge_gaps', 'complete_user_streak', 'count_runs', 'day_start', 'default_timezone',
      'enter_late_day', 'expire_lapsed_streaks', 'import_user_activity', 'known_timezone', 'leaderboard_current',
      'leaderboard_longest', 'local_day', 'local_day_starts_at', 'locked_streak', 'mend_streak',
      'nearest_activity_timezone', 'now', 'own_default_timezone', 'raise_streak_error', 'rebuild_user_streak',
      'recorded_answer', 'recover_user_streak', 'refresh_timezones', 'refuse_contradiction', 'refuse_history_update',
      'seed_ledger', 'seed_user_streak', 'settle_streaks', 'streak_expires_at', 'streak_message', 'version_user_streak'
    )
  loop
    execute format('revoke all on function %s from public, anon, authenticated, service_role', v_function);
  end loop;
end
$$;
revoke all on private.streak_timezones, private.streak_profiles from public, anon, authenticated, service_role;
revoke all on function
  public.expire_lapsed_streaks(integer), public.rebuild_user_streak(uuid),
  public.recover_user_streak(uuid, date, date, text, text),
  public.import_user_activity(uuid[], timestamptz[], text[])
from public, anon, authenticated, service_role;
grant execute on function
  public.expire_lapsed_streaks(integer), public.rebuild_user_streak(uuid),
  public.recover_user_streak(uuid, date, date, text, text),
  public.import_user_activity(uuid[], timestamptz[], text[]),
  private.apply_activity(uuid, text, text, timestamptz),
  private.apply_activities(uuid[], text[], text[], timestamptz[]), private.expire_lapsed_streaks(integer),
  private.rebuild_user_streak(uuid), private.recover_user_streak(uuid, date, date, text, text),
  private.import_user_activity(uuid[], timestamptz[], text[])
to service_role;
grant execute on function
  private.now(), private.day_start(), private.local_day(timestamptz, text, interval), private.raise_streak_error(text),
  private.own_default_timezone(uuid), private.leaderboard_current(integer, integer),
  private.leaderboard_longest(integer, integer)
to authenticated, service_role;

-- 6. Jobs, where pg_cron exists -------------------------------------------------------------------------------------------------

do $$
begin
  if not exists (select from pg_catalog.pg_available_extensions where name = 'pg_cron') then
    return;
  end if;
  begin
    create extension if not exists pg_cron;
    perform cron.schedule('expire-lapsed-streaks', '*/5 * * * *', 'select * from public.expire_lapsed_streaks(10000)');
    perform cron.schedule('refresh-streak-timezones', '23 3 * * *', 'select private.refresh_timezones()');
  exception when others then
    -- installed, but not for this database or this role: nothing depends on the jobs
    raise notice 'pg_cron is there but cannot be used (%): call expire_lapsed_streaks from a scheduler of your own', sqlerrm;
  end;
end
$$;
