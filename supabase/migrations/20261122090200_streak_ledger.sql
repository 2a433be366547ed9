-- The ledger is the truth: bridging its gaps, recounting a user's row from it, and guarding both tables.

-- A database to upgrade may be large, and a role's time-out short.
select set_config('statement_timeout', '0', true);

-- 1. Gaps that are no missed days ------------------------------------------------------------------------------------

create or replace function private.bridge_gaps(p_user_ids uuid[], p_days date[] default null) returns void
language plpgsql set search_path = ''
-- The plans of functions may be made for empty tables and are kept while they grow, until somebody analyzes them. So users are
-- looked up by key, here and below, whatever the planner believes of a table's size.
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
begin
  -- The same instants give the same ledger in whatever order they arrive: where the later activity came before the
  -- streak of the earlier day would have lapsed, a journey or the zone's calendar took the days in between.
  insert into public.streak_days (user_id, day, kind, timezone)
  select g.user_id, g.day + n, 'skipped', g.next_timezone
  from (
    select d.user_id, d.day, d.timezone, lead(d.day) over w as next_day, lead(d.activity_at) over w as next_activity_at,
      lead(d.timezone) over w as next_timezone
    from public.streak_days d
    where d.user_id = any (p_user_ids)
      -- only what lies beside a new day matters, however long the ledger is
      and (p_days is null or d.day between (select min(e.day) - 4 from unnest(p_days) e (day))
        and (select max(e.day) + 4 from unnest(p_days) e (day)))
    window w as (partition by d.user_id order by d.day)
  ) g
  join public.user_streaks s on s.user_id = g.user_id
  cross join lateral generate_series(1, g.next_day - g.day - 1) n
  where g.next_day - g.day between 2 and 4 -- no two zones are more than 26 hours apart, and none skipped two days
    and g.next_activity_at < case when g.day = s.last_active_date then s.expires_at
      else private.streak_expires_at(g.day, g.timezone) end
    -- two hashed look-ups: one exists() over both days would scan all the pairs for every gap
    and (p_days is null
      or (g.user_id, g.day) in (select e.user_id, e.day from unnest(p_user_ids, p_days) e (user_id, day))
      or (g.user_id, g.next_day) in (select e.user_id, e.day from unnest(p_user_ids, p_days) e (user_id, day)))
  on conflict (user_id, day) do nothing;
end
$$;
comment on function private.bridge_gaps(uuid[], date[]) is
  'Enters as skipped the days that a journey jumped over, or a zone never had, on both sides of newly entered days: '
  'p_user_ids and p_days in pairs; without p_days in the whole ledger.';

-- 2. Counting --------------------------------------------------------------------------------------------------------

create or replace function private.count_runs(p_user_ids uuid[])
returns table (
  user_id uuid, last_day date, run_length integer, longest_run integer,
  last_activity_at timestamptz, last_activity_timezone varchar
)
language plpgsql stable set search_path = '' rows 100
-- hash joins, which callers turn off, join what the statement made itself
set enable_seqscan = off set enable_hashjoin = on as $$
#variable_conflict use_column
begin
  return query
  with days as (
    select d.user_id, d.day, d.kind, d.day - (row_number() over (partition by d.user_id order by d.day))::integer as run
    from public.streak_days d where d.user_id = any (p_user_ids)
  ),
  runs as (
    select d.user_id, max(d.day) as last_day, (count(*) filter (where d.kind in ('active', 'repaired')))::integer as length
    from days d group by d.user_id, d.run
  ),
  counts as (
    select distinct on (r.user_id) r.user_id, r.last_day, r.length,
      max(r.length) over (partition by r.user_id) as longest
    from runs r order by r.user_id, r.last_day desc
  ),
  latest as (
    select distinct on (d.user_id) d.user_id, d.activity_at, d.timezone
    from public.streak_days d where d.user_id = any (p_user_ids) and d.activity_at is not null
    order by d.user_id, d.activity_at desc, d.day desc -- of two days at one instant always the same
  )
  select c.user_id, c.last_day, c.length, c.longest, l.activity_at, l.timezone
  from counts c left join latest l on l.user_id = c.user_id;
end
$$;
comment on function private.count_runs(uuid[]) is
  'The last day, the length of the run that ends on it, the longest run and the latest activity, from the ledger alone.';

-- 3. Bringing the rows of users in line with their ledger --------------------------------------------------------------

create or replace function private.settle_streaks(
  p_user_ids uuid[],
  p_change_type text,
  p_started_at timestamptz,
  p_request_id text default null,
  p_activity_at timestamptz default null,
  p_activity_date date default null,
  p_activity_timezone text default null,
  p_stored_timezone text default null,
  p_reason text default null
)
returns table (
  user_id uuid, current_streak integer, longest_streak integer, last_active_date date,
  change_type text, stored_timezone text, version integer, expires_at timestamptz
)
language plpgsql set search_path = '' rows 100
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
#variable_conflict use_column
declare
  v_now timestamptz := private.now();
begin
  return query
  with counted as (
    select s.user_id, s.current_streak, s.longest_streak, s.last_active_date, s.run_length, s.version as old_version,
      s.timezone as old_timezone, s.expires_at as old_expires_at, c.run_length as new_run_length, c.last_day,
      c.last_activity_at, c.last_activity_timezone, coalesce(p_stored_timezone, s.timezone) as new_timezone,
      case when p_change_type = 'STREAK_REBUILT' then greatest(s.longest_base, c.longest_run)
        else greatest(s.longest_base, c.longest_run, s.longest_streak) end as new_longest_streak,
      private.streak_expires_at(c.last_day, coalesce(p_stored_timezone, s.timezone)) as full_expires_at
    from private.count_runs(p_user_ids) c join public.user_streaks s on s.user_id = c.user_id
  ),
  dated as (
    select c.*,
      -- a zone that changed while the last day did not may have left a later instant, by 26 hours at most: it stays
      case when c.last_day <> c.last_active_date then c.full_expires_at
        else greatest(least(c.old_expires_at, c.full_expires_at + interval '26 hours'), c.full_expires_at)
      end as new_expires_at
    from counted c
  ),
  decided as (
    select d.*,
      case when v_now < d.new_expires_at then d.new_run_length else 0 end as new_current_streak,
      coalesce(p_change_type, case when (d.new_run_length, d.new_longest_streak) = (d.run_length, d.longest_streak)
        then 'STREAK_MAINTAINED' else 'STREAK_RECOVERED' end) as change_type
    from dated d
  ),
  updated as (
    update public.user_streaks s
    set current_streak = d.new_current_streak, longest_streak = d.new_longest_streak, last_active_date = d.last_day,
      timezone = d.new_timezone, version = s.version + 1, updated_at = v_now, run_length = d.new_run_length,
      expires_at = d.new_expires_at, last_activity_at = d.last_activity_at,
      last_activity_timezone = d.last_activity_timezone
    from decided d
    where s.user_id = d.user_id and s.version = d.old_version
      -- a rebuild that finds everything right writes nothing; a lapse that no sweep has written yet is right, too
      and (p_change_type is distinct from 'STREAK_REBUILT'
        or s.current_streak not in (d.new_current_streak, d.new_run_length)
        or (s.longest_streak, s.last_active_date, s.run_length, s.expires_at, s.last_activity_at, s.last_activity_timezone)
          is distinct from (d.new_longest_streak, d.last_day, d.new_run_length, d.new_expires_at, d.last_activity_at,
            d.last_activity_timezone))
    returning d.user_id, s.version, d.new_current_streak, d.new_longest_streak, d.last_day, d.change_type, d.new_timezone,
      d.new_expires_at, d.current_streak, d.longest_streak, d.last_active_date
  ),
  recorded as (
    insert into public.streak_history (
      user_id, old_current_streak, new_current_streak, old_longest_streak, new_longest_streak, activity_date,
      last_active_date, change_type, timezone, version_before, version_after, request_id, created_at, duration_ms,
      version, activity_at, new_last_active_date, expires_at, reason
    )
    select u.user_id, u.current_streak, u.new_current_streak, u.longest_streak, u.new_longest_streak,
      -- a row that an import has just made has no streak before
      coalesce(p_activity_date, u.last_day), case when u.longest_streak > 0 then u.last_active_date end, u.change_type,
      coalesce(p_activity_timezone, u.new_timezone), u.version - 1, u.version, p_request_id, v_now,
      (extract(epoch from clock_timestamp() - p_started_at) * 1000)::integer, u.version, p_activity_at, u.last_day,
      u.new_expires_at, p_reason
    from updated u
  )
  select u.user_id, u.new_current_streak, u.new_longest_streak, u.last_day, u.change_type, u.new_timezone::text,
    u.version, u.new_expires_at
  from updated u;
end
$$;
comment on function private.settle_streaks(uuid[], text, timestamptz, text, timestamptz, date, text, text, text) is
  'Recounts users from their ledger, writes their rows and one history row each. The caller holds the rows'' locks. '
  'A null change type means: STREAK_RECOVERED if a counter changed, else STREAK_MAINTAINED.';

-- 4. Rows made or changed by hand --------------------------------------------------------------------------------------

create or replace function private.complete_user_streak() returns trigger
language plpgsql security definer set search_path = '' as $$
begin
  new.timezone := coalesce(private.known_timezone(new.timezone), 'UTC');
  -- a row made anew goes on where the history of the old one ended
  new.version := greatest(
    new.version, 1 + coalesce((select max(h.version) from public.streak_history h where h.user_id = new.user_id), 0)
  );
  new.run_length := new.current_streak;
  new.longest_base := new.longest_streak;
  new.expires_at := private.streak_expires_at(new.last_active_date, new.timezone);
  return new;
end
$$;
comment on function private.complete_user_streak() is
  'Completes a row inserted with the columns of the original schema alone: by hand, by a seed, or from an old dump.';

create or replace function private.seed_ledger(p_user_ids uuid[]) returns void
language plpgsql security definer set search_path = '' as $$
begin
  -- days that the old history names; its created_at is the activity's instant where it falls on that day
  insert into public.streak_days (user_id, day, kind, activity_at, timezone)
  select distinct on (h.user_id, h.activity_date) h.user_id, h.activity_date, 'active',
    case when private.local_day(h.created_at, z.name) = h.activity_date then h.created_at end, coalesce(z.name, s.timezone)
  from public.streak_history h
  join public.user_streaks s on s.user_id = h.user_id
  left join private.streak_timezones z on z.key = lower(h.timezone)
  where h.user_id = any (p_user_ids) and h.version is null and h.activity_date <= current_date + 1
  order by h.user_id, h.activity_date, h.created_at
  on conflict (user_id, day) do nothing;
  -- days of the current run that the history does not name
  insert into public.streak_days (user_id, day, kind, timezone)
  select s.user_id, s.last_active_date - n, 'active', s.timezone
  from public.user_streaks s 
  -- a counter can be junk; what no calendar holds stays in longest_base
  cross join lateral generate_series(0, least(greatest(s.current_streak, 1), greatest(s.last_active_date - date '1970-01-01', 1)) - 1) n
  where s.user_id = any (p_user_ids)
  on conflict (user_id, day) do nothing;
end
$$;
comment on function private.seed_ledger(uuid[]) is
  'Makes the ledger of rows that have none, from the old history and the counters.';

create or replace function private.seed_user_streak() returns trigger
language plpgsql security definer set search_path = '' as $$
begin
  perform private.seed_ledger(array[new.user_id]);
  insert into public.streak_history (
    user_id, old_current_streak, new_current_streak, old_longest_streak, new_longest_streak, activity_date,
    change_type, timezone, version_before, version_after, version, new_last_active_date, expires_at, reason
  ) values (
    new.user_id, 0, new.current_streak, 0, new.longest_streak, new.last_active_date,
    'STREAK_IMPORTED', new.timezone, new.version - 1, new.version, new.version, new.last_active_date, new.expires_at,
    'inserted by hand'
  );
  -- counters and days that do not agree: the ledger decides
  perform private.settle_streaks(array[new.user_id], 'STREAK_REBUILT', clock_timestamp());
  return null;
end
$$;
comment on function private.seed_user_streak() is 'Gives a row inserted by hand its ledger and its history.';

create or replace function private.refuse_contradiction(p_column text) returns void
language plpgsql set search_path = '' as $$
begin
  raise exception '%: the ledger streak_days decides it', p_column using errcode = '22023', detail = 'LEDGER_DECIDES',
    hint = 'Days enter and leave through import_user_activity, recover_user_streak and undo_user_activity; '
      'rebuild_user_streak brings a row in line with its ledger.';
end
$$;
comment on function private.refuse_contradiction(text) is
  'Refuses a change by hand that would contradict the ledger, and names the column.';

create or replace function private.version_user_streak() returns trigger
language plpgsql security definer set search_path = '' as $$
begin
  if new is not distinct from old then
    return new;
  end if;
  -- Where a day enters and which zone decides it follows from these: wrong, they would lose days, or enter them twice. The
  -- counters are a cache that any recount mends, and fail nobody.
  if new.last_active_date is distinct from old.last_active_date then
    perform private.refuse_contradiction('last_active_date');
  elsif new.last_activity_at is distinct from old.last_activity_at then
    perform private.refuse_contradiction('last_activity_at');
  elsif new.last_activity_timezone is distinct from old.last_activity_timezone then
    perform private.refuse_contradiction('last_activity_timezone');
  end if;
  -- a row from elsewhere may be behind its history
  new.version := 1 + greatest(old.version, (select max(h.version) from public.streak_history h where h.user_id = old.user_id));
  new.timezone := coalesce(private.known_timezone(new.timezone), old.timezone);
  if new.timezone <> old.timezone and new.expires_at = old.expires_at then
    -- as where an activity brings the zone (rule 6)
    new.expires_at := greatest(old.expires_at, private.streak_expires_at(new.last_active_date, new.timezone));
  end if;
  new.updated_at := greatest(new.updated_at, private.now());
  begin
    -- the statement has locked the row before the user's key, which everybody else locks first: waiting could deadlock
    perform from auth.users u where u.id = new.user_id for key share nowait;
  exception when lock_not_available then
    perform private.raise_streak_error('CONCURRENT_MODIFICATION');
  end;
  insert into public.streak_history (
    user_id, old_current_streak, new_current_streak, old_longest_streak, new_longest_streak, activity_date,
    last_active_date, change_type, timezone, version_before, version_after, version, new_last_active_date, expires_at, reason
  ) values (
    new.user_id, old.current_streak, new.current_streak, old.longest_streak, new.longest_streak, new.last_active_date,
    old.last_active_date, 'STREAK_REBUILT', new.timezone, old.version, new.version, new.version, new.last_active_date,
    new.expires_at, 'changed by hand'
  );
  return new;
end
$$;
comment on function private.version_user_streak() is
  'Adds 1 to version, and the history row, where a statement made by hand did not; refuses what would contradict the ledger.';

create or replace function private.refuse_history_update() returns trigger
language plpgsql set search_path = '' as $$
begin
  raise exception 'streak_history is append-only' using errcode = '42501', detail = 'HISTORY_APPEND_ONLY';
end
$$;
comment on function private.refuse_history_update() is 'History is append-only.';

-- 5. Rows that were there before the ledger ----------------------------------------------------------------------------

do $$
declare
  v_function regprocedure;
begin
  -- not overloaded: PostgREST could not choose between an old signature and a new one
  for v_function in
    select p.oid::regprocedure from pg_catalog.pg_proc p
    where p.pronamespace = 'public'::regnamespace
      and p.proname in ('update_user_streak_atomic', 'get_user_streak', 'get_streak_leaderboard')
  loop
    execute format('drop function %s', v_function);
  end loop;
end
$$;

do $$
declare
  v_users uuid[];
begin
  -- nobody writes while the ledger is made: what an old call wrote behind it would be missing in it
  lock table public.user_streaks in share row exclusive mode;
  update public.user_streaks s
  set timezone = coalesce((select z.name from private.streak_timezones z where z.key = lower(s.timezone)), 'UTC')
  where s.expires_at is null and s.timezone is distinct from
    coalesce((select z.name from private.streak_timezones z where z.key = lower(s.timezone)), 'UTC');
  loop
    -- in portions: one user may bring years of days
    v_users := array(select s.user_id from public.user_streaks s where s.expires_at is null order by s.user_id limit 10000);
    exit when v_users = '{}';
    perform private.seed_ledger(v_users);
    perform private.bridge_gaps(v_users);
    update public.user_streaks s
    set longest_base = s.longest_streak, run_length = s.current_streak,
      expires_at = private.streak_expires_at(s.last_active_date, s.timezone)
    where s.user_id = any (v_users);
    -- silent where the ledger agrees with the counters: only what it mends is a change
    with counted as (
      select c.user_id, c.last_day, c.run_length, greatest(c.longest_run, s.longest_base) as longest, c.last_activity_at,
        c.last_activity_timezone, private.streak_expires_at(c.last_day, s.timezone) as expires_at, s.version,
        s.current_streak, s.longest_streak, s.last_active_date, s.timezone,
        (c.run_length <> greatest(s.current_streak, 1) or c.last_day <> s.last_active_date
          or c.longest_run > s.longest_base) as mended
      from private.count_runs(v_users) c join public.user_streaks s on s.user_id = c.user_id
    ),
    updated as (
      update public.user_streaks s
      set run_length = c.run_length, longest_streak = c.longest, last_active_date = c.last_day, expires_at = c.expires_at,
        last_activity_at = c.last_activity_at, last_activity_timezone = c.last_activity_timezone,
        current_streak = case when not c.mended then s.current_streak when now() < c.expires_at then c.run_length else 0 end,
        version = s.version + c.mended::integer
      from counted c where s.user_id = c.user_id
      returning s.*
    )
    insert into public.streak_history (
      user_id, old_current_streak, new_current_streak, old_longest_streak, new_longest_streak, activity_date,
      last_active_date, change_type, timezone, version_before, version_after, version, new_last_active_date, expires_at, reason
    )
    select u.user_id, c.current_streak, u.current_streak, c.longest_streak, u.longest_streak, u.last_active_date,
      c.last_active_date, 'STREAK_REBUILT', u.timezone, c.version, u.version, u.version, u.last_active_date, u.expires_at,
      'counted anew from the history when the ledger was made'
    from updated u join counted c on c.user_id = u.user_id where c.mended;
  end loop;
end
$$;

alter table public.user_streaks alter column expires_at set not null;

create or replace trigger complete_user_streak before insert on public.user_streaks
  for each row when (new.expires_at is null) execute function private.complete_user_streak();
create or replace trigger seed_user_streak after insert on public.user_streaks
  -- as below: whoever inserts as service_role does it by hand, whatever columns it fills
  for each row when (new.last_activity_at is null or current_user = 'service_role') execute function private.seed_user_streak();
create or replace trigger version_user_streak before update on public.user_streaks
  -- the functions here write as the owner; whoever writes as service_role does it by hand, whatever version it sets
  for each row when (new.version <> old.version + 1 or current_user = 'service_role') execute function private.version_user_streak();
create or replace trigger refuse_history_update before update on public.streak_history
  for each statement execute function private.refuse_history_update();
