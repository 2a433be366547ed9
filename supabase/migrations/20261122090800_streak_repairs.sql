-- Mass repair after an outage: what would be repaired, the repair itself in batches, and its undoing.

-- 1. What an outage broke -------------------------------------------------------------------------------------------------

create or replace function private.outage_gaps(p_user_ids uuid[], p_from timestamptz, p_to timestamptz)
returns table (user_id uuid, first_day date, last_day date)
language plpgsql stable set search_path = '' rows 100 as $$
#variable_conflict use_column
declare
  v_now constant timestamptz := private.now();
begin
  return query
  select g.user_id, g.first_day, g.last_day
  from (
    select d.user_id, d.day + 1 as first_day, s.today,
      -- behind the last day of all, the days until today are missing; today can still be used
      case when d.day = s.last_active_date then s.today else lead(d.day) over w end - 1 as last_day,
      case when d.day = s.last_active_date then s.timezone else d.timezone end as zone
    from (
      select u.user_id, u.timezone, u.last_active_date, private.local_day(v_now, u.timezone) as today
      from public.user_streaks u where u.user_id = any (p_user_ids)
    ) s
    join public.streak_days d on d.user_id = s.user_id
    -- no zone is more than 14 hours from UTC: one day more on each side of the days that the outage can touch
    where d.day between (p_from at time zone 'UTC')::date - 3 and (p_to at time zone 'UTC')::date + 3
    window w as (partition by d.user_id order by d.day)
  ) g
  where g.first_day <= g.last_day and g.last_day < g.today
    and g.first_day >= private.local_day(p_from, g.zone)
    and g.last_day <= private.local_day(p_to - interval '1 microsecond', g.zone)
  order by g.user_id, g.first_day;
end
$$;
comment on function private.outage_gaps(uuid[], timestamptz, timestamptz) is
  'The gaps in ledgers all of whose days an outage touched: without it the streak could have lived. A gap with one more day '
  'in it would have been there anyway. The zone of the day before the gap says which days were touched.';

create or replace function private.check_outage(p_from timestamptz, p_to timestamptz) returns void
language plpgsql stable set search_path = '' as $$
begin
  if p_from is null or p_to is null or p_from >= p_to or not isfinite(p_from) or not isfinite(p_to) then
    raise exception 'p_from, p_to: two instants in order are required' using errcode = '22023', detail = 'RANGE_INVALID';
  elsif p_to > private.now() then
    raise exception 'p_to: in the future' using errcode = '22023', detail = 'RANGE_TOO_LATE';
  elsif p_to - p_from > interval '31 days' then
    raise exception 'p_from, p_to: at most 31 days' using errcode = '22023', detail = 'RANGE_TOO_LONG';
  end if;
end
$$;
comment on function private.check_outage(timestamptz, timestamptz) is 'Refuses what cannot be an outage.';

create or replace function private.next_users(p_after uuid, p_limit integer) returns uuid[]
language plpgsql stable set search_path = '' as $$
begin
  if p_after is null then
    return array(select s.user_id from public.user_streaks s order by s.user_id limit p_limit);
  end if;
  return array(select s.user_id from public.user_streaks s where s.user_id > p_after order by s.user_id limit p_limit);
end
$$;
comment on function private.next_users(uuid, integer) is 'The users behind one, in order of their ids.';

-- 2. Dry run --------------------------------------------------------------------------------------------------------------

create or replace function private.preview_streak_repair(
  p_from timestamptz, p_to timestamptz, p_after uuid, p_limit integer, p_sample integer
)
returns table (scanned integer, users integer, days integer, next_after uuid, sample jsonb)
language plpgsql stable security definer set search_path = '' rows 1 as $$
#variable_conflict use_column
declare
  v_users constant uuid[] := private.next_users(p_after, p_limit);
begin
  return query
  with gaps as (
    select g.user_id, g.first_day, g.last_day from private.outage_gaps(v_users, p_from, p_to) g
  ),
  few as (
    select g.user_id, jsonb_agg(jsonb_build_object('first_day', g.first_day, 'last_day', g.last_day)) as gaps
    from gaps g group by g.user_id order by g.user_id limit p_sample
  )
  select cardinality(v_users), count(distinct g.user_id)::integer, coalesce(sum(g.last_day - g.first_day + 1), 0)::integer,
    case when cardinality(v_users) = p_limit then v_users[p_limit] end,
    (select coalesce(jsonb_agg(jsonb_build_object('user_id', f.user_id, 'gaps', f.gaps)), '[]') from few f)
  from gaps g;
end
$$;
comment on function private.preview_streak_repair(timestamptz, timestamptz, uuid, integer, integer) is
  'The work of public.preview_streak_repair.';

create or replace function public.preview_streak_repair(
  p_from timestamptz, p_to timestamptz, p_after uuid default null, p_limit integer default 10000, p_sample integer default 10
)
returns table (scanned integer, users integer, days integer, next_after uuid, sample jsonb)
language plpgsql stable set search_path = '' rows 1 as $$
begin
  if p_limit is null or p_limit not between 1 and 100000 then
    raise exception 'p_limit: 1 to 100000' using errcode = '22023', detail = 'LIMIT_INVALID';
  elsif p_sample is null or p_sample not between 0 and 1000 then
    raise exception 'p_sample: 0 to 1000' using errcode = '22023', detail = 'SAMPLE_INVALID';
  end if;
  perform private.check_outage(p_from, p_to);
  return query select * from private.preview_streak_repair(p_from, p_to, p_after, p_limit, p_sample);
end
$$;
comment on function public.preview_streak_repair(timestamptz, timestamptz, uuid, integer, integer) is
  'What a repair would do to the next p_limit users behind p_after, and nothing is written: how many users and days, and '
  'some of them. Call it again with next_after until that is null.';

-- 3. Repair ---------------------------------------------------------------------------------------------------------------

create or replace function private.start_streak_repair(
  p_from timestamptz, p_to timestamptz, p_reason text, p_request_id text
) returns bigint
language plpgsql security definer set search_path = '' as $$
declare
  v_request_id constant text := nullif(p_request_id, '');
  v_id bigint;
begin
  if length(v_request_id) > 100 then
    perform private.raise_streak_error('REQUEST_ID_TOO_LONG');
  end if;
  insert into public.streak_repairs (outage_from, outage_to, reason, request_id, created_at)
  values (p_from, p_to, p_reason, v_request_id, private.now())
  on conflict (request_id) do nothing
  returning id into v_id;
  return coalesce(v_id, (select r.id from public.streak_repairs r where r.request_id = v_request_id));
end
$$;
comment on function private.start_streak_repair(timestamptz, timestamptz, text, text) is
  'The work of public.start_streak_repair.';

create or replace function public.start_streak_repair(
  p_from timestamptz, p_to timestamptz, p_reason text, p_request_id text default null
)
returns table (repair_id bigint)
language plpgsql set search_path = '' rows 1 as $$
begin
  perform private.check_outage(p_from, p_to);
  perform private.check_reason(p_reason);
  return query select private.start_streak_repair(p_from, p_to, p_reason, p_request_id);
end
$$;
comment on function public.start_streak_repair(timestamptz, timestamptz, text, text) is
  'Begins a repair: writes down what is to be done, and changes no streak. The same request id gives the same repair.';

create or replace function private.locked_repair(p_repair_id bigint) returns public.streak_repairs
language plpgsql set search_path = '' as $$
declare
  v_repair public.streak_repairs;
begin
  -- no stronger: a merge that moves a repaired user's days refers to the repair while it holds the user
  select r.* into v_repair from public.streak_repairs r where r.id = p_repair_id for no key update;
  if not found then
    raise exception 'p_repair_id: there is no such repair' using errcode = '22023', detail = 'REPAIR_NOT_FOUND';
  end if;
  return v_repair;
end
$$;
comment on function private.locked_repair(bigint) is 'A repair, locked: two processes do not work on one.';

create or replace function private.lock_streak(p_user_id uuid) returns public.user_streaks
language plpgsql set search_path = '' as $$
declare
  v_row public.user_streaks;
begin
  select s.* into v_row
  from auth.users u join public.user_streaks s on s.user_id = u.id
  where u.id = p_user_id
  for key share of u for update of s;
  return v_row;
end
$$;
comment on function private.lock_streak(uuid) is 'The row of a user, locked like the update locks it; nulls if there is none any more.';

create or replace function private.repair_one(p_repair public.streak_repairs, p_user_id uuid) returns integer
language plpgsql set search_path = '' as $$
declare
  v_gap record;
  v_days date[] := array[]::date[];
begin
  perform private.lock_streak(p_user_id);
  -- asked again now that nobody else writes; of a user who has gone there is nothing to ask
  for v_gap in select * from private.outage_gaps(array[p_user_id], p_repair.outage_from, p_repair.outage_to) loop
    perform private.recover_user_streak(
      p_user_id, v_gap.first_day, v_gap.last_day, left(format('repair %s: %s', p_repair.id, p_repair.reason), 500), null
    );
    v_days := v_days || array(select v_gap.first_day + n from generate_series(0, v_gap.last_day - v_gap.first_day) n);
  end loop;
  if v_days <> '{}' then
    insert into private.streak_repair_users as r (repair_id, user_id, days) values (p_repair.id, p_user_id, v_days)
    on conflict (repair_id, user_id) do update set days = r.days || excluded.days;
  end if;
  return cardinality(v_days);
end
$$;
comment on function private.repair_one(public.streak_repairs, uuid) is
  'Enters the days that an outage took from one user, and notes them for the undoing. Returns how many.';

create or replace function private.continue_streak_repair(p_repair_id bigint, p_limit integer) returns public.streak_repairs
language plpgsql security definer set search_path = '' as $$
declare
  v_repair public.streak_repairs := private.locked_repair(p_repair_id);
  v_users uuid[];
  v_broken uuid[];
  v_user uuid;
  v_days integer;
begin
  if v_repair.undo_began_at is not null then
    raise exception 'p_repair_id: it has been undone' using errcode = '22023', detail = 'REPAIR_UNDONE';
  elsif v_repair.finished_at is not null then
    return v_repair;
  end if;
  -- looking is cheap, writing locks rows: many are looked at, few are written
  v_users := private.next_users(v_repair.position, p_limit * 50);
  v_broken := array(
    select distinct g.user_id from private.outage_gaps(v_users, v_repair.outage_from, v_repair.outage_to) g
    order by g.user_id limit p_limit
  );
  foreach v_user in array v_broken loop
    v_days := private.repair_one(v_repair, v_user);
    v_repair.users := v_repair.users + (v_days > 0)::integer;
    v_repair.days := v_repair.days + v_days;
  end loop;
  if cardinality(v_broken) = p_limit then
    v_users := array(select u from unnest(v_users) u where u <= v_broken[p_limit]);
  elsif cardinality(v_users) < p_limit * 50 then
    v_repair.finished_at := private.now();
  end if;
  v_repair.scanned := v_repair.scanned + cardinality(v_users);
  v_repair.position := coalesce(v_users[cardinality(v_users)], v_repair.position);
  update public.streak_repairs r
  set position = v_repair.position, scanned = v_repair.scanned, users = v_repair.users, days = v_repair.days,
    finished_at = v_repair.finished_at
  where r.id = v_repair.id;
  return v_repair;
end
$$;
comment on function private.continue_streak_repair(bigint, integer) is 'The work of public.continue_streak_repair.';

create or replace function public.continue_streak_repair(p_repair_id bigint, p_limit integer default 100)
returns table (repair_id bigint, scanned integer, users integer, days integer, finished boolean)
language plpgsql set search_path = '' rows 1 as $$
#variable_conflict use_column
begin
  if p_limit is null or p_limit not between 1 and 1000 then
    raise exception 'p_limit: 1 to 1000' using errcode = '22023', detail = 'LIMIT_INVALID';
  end if;
  return query select r.id, r.scanned, r.users, r.days, r.finished_at is not null
  from private.continue_streak_repair(p_repair_id, p_limit) r;
end
$$;
comment on function public.continue_streak_repair(bigint, integer) is
  'Repairs at most p_limit users, in one transaction that also notes how far it got, and returns the totals so far. Call it '
  'again until it is finished; after an interruption, too.';

-- 4. Undo -----------------------------------------------------------------------------------------------------------------

create or replace function private.undo_repair_of(p_repair_id bigint, p_user_id uuid, p_days date[]) returns integer
language plpgsql set search_path = '' as $$
declare
  v_started_at constant timestamptz := clock_timestamp();
  v_row public.user_streaks;
  v_gone integer;
begin
  v_row := private.lock_streak(p_user_id);
  delete from public.streak_days d
  where d.user_id = p_user_id and d.day = any (p_days) and d.kind in ('repaired', 'skipped')
    -- an empty ledger has no row, and a longest streak that nothing explains would go with it
    and exists (
      select from public.streak_days o
      where o.user_id = p_user_id and (o.day <> all (p_days) or o.kind not in ('repaired', 'skipped'))
    );
  get diagnostics v_gone = row_count;
  if v_gone > 0 then
    perform private.correct_streak(
      v_row, format('undone: repair %s', p_repair_id), v_started_at, null, p_days[1], null, true
    );
  end if;
  return v_gone;
end
$$;
comment on function private.undo_repair_of(bigint, uuid, date[]) is
  'Takes a repair''s days out of one ledger, those aside that have become active. Returns how many it took.';

create or replace function private.undo_streak_repair(p_repair_id bigint, p_limit integer) returns public.streak_repairs
language plpgsql security definer set search_path = '' as $$
declare
  v_repair public.streak_repairs := private.locked_repair(p_repair_id);
  v_user uuid;
  v_days date[];
  v_gone integer;
begin
  if v_repair.undone_at is not null then
    return v_repair;
  end if;
  for v_user in
    select r.user_id from private.streak_repair_users r
    where r.repair_id = p_repair_id
    order by r.user_id limit p_limit
  loop
    perform private.lock_streak(v_user);
    -- read only now that nobody else writes: a merge may have given the days to another user, or more to this one
    delete from private.streak_repair_users r where r.repair_id = p_repair_id and r.user_id = v_user
    returning r.days into v_days;
    continue when not found;
    v_gone := private.undo_repair_of(p_repair_id, v_user, v_days);
    v_repair.undone_users := v_repair.undone_users + (v_gone > 0)::integer;
    v_repair.undone_days := v_repair.undone_days + v_gone;
    v_repair.kept_days := v_repair.kept_days + cardinality(v_days) - v_gone;
  end loop;
  if not exists (select from private.streak_repair_users r where r.repair_id = p_repair_id) then
    v_repair.undone_at := private.now();
  end if;
  update public.streak_repairs r
  set undo_began_at = coalesce(r.undo_began_at, private.now()), undone_users = v_repair.undone_users, undone_days = v_repair.undone_days,
    kept_days = v_repair.kept_days, undone_at = v_repair.undone_at
  where r.id = v_repair.id;
  return v_repair;
end
$$;
comment on function private.undo_streak_repair(bigint, integer) is 'The work of public.undo_streak_repair.';

create or replace function public.undo_streak_repair(p_repair_id bigint, p_limit integer default 100)
returns table (repair_id bigint, undone_users integer, undone_days integer, kept_days integer, finished boolean)
language plpgsql set search_path = '' rows 1 as $$
#variable_conflict use_column
begin
  if p_limit is null or p_limit not between 1 and 1000 then
    raise exception 'p_limit: 1 to 1000' using errcode = '22023', detail = 'LIMIT_INVALID';
  end if;
  return query select r.id, r.undone_users, r.undone_days, r.kept_days, r.undone_at is not null
  from private.undo_streak_repair(p_repair_id, p_limit) r;
end
$$;
comment on function public.undo_streak_repair(bigint, integer) is
  'Takes the days of a repair, and no others, out of the ledgers of at most p_limit users; days that have become active since '
  'stay. longest_streak stays, too: longest_base keeps what the ledger no longer explains. Call it again until finished.';

-- 5. Rights ---------------------------------------------------------------------------------------------------------------

revoke all on function
  private.outage_gaps(uuid[], timestamptz, timestamptz), private.check_outage(timestamptz, timestamptz),
  private.next_users(uuid, integer), private.preview_streak_repair(timestamptz, timestamptz, uuid, integer, integer),
  private.start_streak_repair(timestamptz, timestamptz, text, text), private.locked_repair(bigint),
  private.lock_streak(uuid), private.repair_one(public.streak_repairs, uuid),
  private.continue_streak_repair(bigint, integer), private.undo_repair_of(bigint, uuid, date[]),
  private.undo_streak_repair(bigint, integer),
  public.preview_streak_repair(timestamptz, timestamptz, uuid, integer, integer),
  public.start_streak_repair(timestamptz, timestamptz, text, text), public.continue_streak_repair(bigint, integer),
  public.undo_streak_repair(bigint, integer)
from public, anon, authenticated, service_role;
grant execute on function
  private.check_reason(text), private.check_outage(timestamptz, timestamptz),
  private.preview_streak_repair(timestamptz, timestamptz, uuid, integer, integer),
  private.start_streak_repair(timestamptz, timestamptz, text, text), private.continue_streak_repair(bigint, integer),
  private.undo_streak_repair(bigint, integer),
  public.preview_streak_repair(timestamptz, timestamptz, uuid, integer, integer),
  public.start_streak_repair(timestamptz, timestamptz, text, text), public.continue_streak_repair(bigint, integer),
  public.undo_streak_repair(bigint, integer)
to service_role;
