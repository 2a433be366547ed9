-- Reads: what holds now, by rule 7, whatever any job has or has not done.

-- 1. One user's streak -------------------------------------------------------------------------------------------------

create or replace function public.get_user_streak(p_user_id uuid)
returns table (
  current_streak integer, longest_streak integer, last_active_date date, timezone text, is_active_today boolean,
  days_since_activity integer, expires_at timestamptz, version integer
)
language plpgsql stable set search_path = '' rows 1 as $$
#variable_conflict use_column
declare
  v_now constant timestamptz := private.now();
begin
  -- Rule 1 stands written out, twice: a call of private.local_day, or a subquery that keeps the day, would cost a tenth of
  -- the whole read.
  return query
  select case when v_now < s.expires_at then s.run_length else 0 end, s.longest_streak, s.last_active_date,
    s.timezone::text, s.last_active_date >= ((v_now at time zone s.timezone) - private.day_start())::date,
    greatest(((v_now at time zone s.timezone) - private.day_start())::date - s.last_active_date, 0), s.expires_at, s.version
  from public.user_streaks s where s.user_id = p_user_id;
  if found then
    return;
  elsif p_user_id is null then
    perform private.raise_streak_error('USER_ID_REQUIRED');
  end if;
  -- what a first activity without a zone would use, if the caller may know this user's profile
  return query select 0, 0, null::date, private.own_default_timezone(p_user_id), false, null::integer,
    null::timestamptz, 0;
end
$$;
comment on function public.get_user_streak(uuid) is
  'A user''s streak as of now: current_streak is 0 from expires_at on. A user without activity, or one that the caller may '
  'not see, gets zeros and nulls.';

create or replace function private.own_default_timezone(p_user_id uuid) returns text
language plpgsql stable security definer set search_path = '' as $$
begin
  if coalesce(current_setting('role', true), 'none') <> 'authenticated' or (select auth.uid()) = p_user_id then
    return private.default_timezone(p_user_id);
  end if;
  return 'UTC';
end
$$;
comment on function private.own_default_timezone(uuid) is
  'The zone for a user without a streak; a stranger learns nothing about the user''s profile.';

-- 2. Many users' streaks ------------------------------------------------------------------------------------------------

create or replace function public.get_user_streaks(p_user_ids uuid[])
returns table (
  user_id uuid, current_streak integer, longest_streak integer, last_active_date date, timezone text,
  is_active_today boolean, days_since_activity integer, expires_at timestamptz, version integer
)
language plpgsql stable set search_path = '' rows 100
-- look-ups by key, whatever the planner believes of the table's size
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
#variable_conflict use_column
declare
  v_now constant timestamptz := private.now();
begin
  if p_user_ids is null then
    raise exception 'p_user_ids: an array is required' using errcode = '22023', detail = 'USER_IDS_REQUIRED';
  elsif cardinality(p_user_ids) > 1000 then
    raise exception 'p_user_ids: at most 1000 elements' using errcode = '22023', detail = 'BATCH_TOO_LARGE';
  end if;
  return query
  select u.id, case when v_now < s.expires_at then s.run_length else 0 end, coalesce(s.longest_streak, 0),
    s.last_active_date, coalesce(s.timezone::text, private.own_default_timezone(u.id)),
    coalesce(s.last_active_date >= t.today, false), case when s.user_id is not null then greatest(t.today - s.last_active_date, 0) end,
    s.expires_at, coalesce(s.version, 0)
  from unnest(p_user_ids) with ordinality u (id, n)
  left join public.user_streaks s on s.user_id = u.id
  left join lateral (select private.local_day(v_now, s.timezone) as today) t on true
  order by u.n;
end
$$;
comment on function public.get_user_streaks(uuid[]) is
  'get_user_streak for up to 1000 users: one row per element, in order.';

-- 3. The calendar -------------------------------------------------------------------------------------------------------

create or replace function public.get_streak_calendar(p_user_id uuid, p_from date, p_to date)
returns table (day date, kind text, activity_at timestamptz, timezone text)
language plpgsql stable set search_path = '' rows 366 as $$
#variable_conflict use_column
begin
  if p_user_id is null then
    perform private.raise_streak_error('USER_ID_REQUIRED');
  elsif p_from is null or p_to is null or p_from > p_to or not isfinite(p_from) or not isfinite(p_to) then
    raise exception 'p_from, p_to: two dates in order are required' using errcode = '22023', detail = 'RANGE_INVALID';
  elsif p_to - p_from >= 1000 then
    -- PostgREST returns at most 1000 rows unless told otherwise, and would cut the rest off without a word
    raise exception 'p_from, p_to: at most 1000 days' using errcode = '22023', detail = 'RANGE_TOO_LONG';
  end if;
  return query
  select d.day, d.kind, d.activity_at, d.timezone::text
  from public.streak_days d where d.user_id = p_user_id and d.day between p_from and p_to
  order by d.day;
end
$$;
comment on function public.get_streak_calendar(uuid, date, date) is
  'The ledger''s days of a user from p_from to p_to, both included, at most 1000 days.';

-- 4. The leaderboard ----------------------------------------------------------------------------------------------------

create or replace function private.leaderboard_current(p_limit integer, p_offset integer)
returns table (
  rank bigint, user_id uuid, current_streak integer, longest_streak integer, last_active_date date, is_active_today boolean
)
language plpgsql stable security definer set search_path = '' rows 100 as $$
#variable_conflict use_column
declare
  v_now constant timestamptz := private.now();
  v_taken integer := p_limit + p_offset;
  v_users uuid[];
  v_runs integer[];
  v_found integer;
begin
  -- Streaks lapse at local midnights: those alive share some eighty instants, however many users there are. Index
  -- user_streaks_live_idx holds each instant's streaks in order, so this skips from one to the next instead of reading
  -- what has lapsed. Few users opt out: they are left out of what is found, and where that leaves too few, more is taken.
  loop
    v_taken := v_taken + v_taken / 8 + 8;
    with recursive expiries as (
      (select s.expires_at from public.user_streaks s
       where s.current_streak > 0 and s.expires_at > v_now order by s.expires_at limit 1)
      union all
      select (select s.expires_at from public.user_streaks s
              where s.current_streak > 0 and s.expires_at > e.expires_at order by s.expires_at limit 1)
      from expiries e where e.expires_at is not null
    ),
    groups as materialized (
      select e.expires_at, count(*) over () as of from expiries e where e.expires_at is not null
    ),
    -- A first handful of each bounds the result from below: what is shorter than the last place among these cannot be in.
    sample as (
      select f.run_length from groups g cross join lateral (
        select s.run_length from public.user_streaks s
        where s.current_streak > 0 and s.expires_at = g.expires_at
        order by s.run_length desc, s.user_id limit v_taken / g.of + 4
      ) f
    ),
    bound as materialized (
      select coalesce((select x.run_length from sample x order by x.run_length desc offset v_taken - 1 limit 1), 1) as run_length
    ),
    best as (
      select f.user_id, f.run_length from groups g cross join bound b cross join lateral (
        select s.user_id, s.run_length from public.user_streaks s
        where s.current_streak > 0 and s.expires_at = g.expires_at and s.run_length >= b.run_length
        order by s.run_length desc, s.user_id limit v_taken
      ) f
      order by f.run_length desc, f.user_id limit v_taken
    ),
    found as (
      select b.user_id, b.run_length,
        exists (select from private.streak_profiles p where p.user_id = b.user_id and p.leaderboard_opt_out) as out
      from best b
    )
    select array_agg(f.user_id) filter (where not f.out), array_agg(f.run_length) filter (where not f.out), count(*)
    into v_users, v_runs, v_found
    from found f;
    exit when coalesce(cardinality(v_users), 0) >= p_limit + p_offset or v_found < v_taken;
  end loop;

  return query
  with page as (
    select b.user_id, b.run_length, rank() over (order by b.run_length desc) as rank
    from unnest(v_users, v_runs) b (user_id, run_length)
    order by b.run_length desc, b.user_id limit p_limit offset p_offset
  )
  select p.rank, p.user_id, p.run_length, s.longest_streak, s.last_active_date,
    -- rule 1, written out: calls of private.local_day would cost as much as the look-ups
    s.last_active_date >= ((v_now at time zone s.timezone) - private.day_start())::date
  from page p join public.user_streaks s on s.user_id = p.user_id
  order by p.run_length desc, p.user_id;
end
$$;
comment on function private.leaderboard_current(integer, integer) is 'The leaderboard of the streaks alive now.';

create or replace function private.leaderboard_longest(p_limit integer, p_offset integer)
returns table (
  rank bigint, user_id uuid, current_streak integer, longest_streak integer, last_active_date date, is_active_today boolean
)
language plpgsql stable security definer set search_path = '' rows 100 as $$
#variable_conflict use_column
declare
  v_now constant timestamptz := private.now();
begin
  return query
  with best as (
    select s.user_id, s.longest_streak from public.user_streaks s
    where not exists (select from private.streak_profiles p where p.user_id = s.user_id and p.leaderboard_opt_out)
    order by s.longest_streak desc, s.user_id limit p_limit + p_offset
  ),
  page as (
    select b.user_id, rank() over (order by b.longest_streak desc) as rank
    from best b order by b.longest_streak desc, b.user_id limit p_limit offset p_offset
  )
  select p.rank, p.user_id, case when v_now < s.expires_at then s.run_length else 0 end, s.longest_streak,
    s.last_active_date, s.last_active_date >= private.local_day(v_now, s.timezone)
  from page p join public.user_streaks s on s.user_id = p.user_id
  order by s.longest_streak desc, p.user_id;
end
$$;
comment on function private.leaderboard_longest(integer, integer) is 'The leaderboard of the longest streaks ever.';

create or replace function public.get_streak_leaderboard(
  p_limit integer default 100, p_offset integer default 0, p_order_by text default 'current_streak'
)
returns table (
  rank bigint, user_id uuid, current_streak integer, longest_streak integer, last_active_date date, is_active_today boolean
)
language plpgsql stable set search_path = '' rows 100 as $$
declare
  v_limit constant integer := coalesce(p_limit, 100);
  v_offset constant integer := coalesce(p_offset, 0);
begin
  if v_limit not between 1 and 1000 then
    raise exception 'p_limit: 1 to 1000' using errcode = '22023', detail = 'LIMIT_INVALID';
  elsif v_offset not between 0 and (case when current_user = 'authenticated' then 10000 else 1000000 end) then
    raise exception 'p_offset: 0 to 10000, for service_role to 1000000' using errcode = '22023', detail = 'OFFSET_INVALID';
  end if;
  case coalesce(p_order_by, 'current_streak')
    when 'current_streak' then return query select * from private.leaderboard_current(v_limit, v_offset);
    when 'longest_streak' then return query select * from private.leaderboard_longest(v_limit, v_offset);
    else raise exception 'p_order_by: current_streak or longest_streak' using errcode = '22023', detail = 'ORDER_BY_INVALID';
  end case;
end
$$;
comment on function public.get_streak_leaderboard(integer, integer, text) is
  'The best streaks of all users but those who opted out, equal streaks in order of user_id. In the order current_streak '
  'those that have lapsed are left out, swept or not.';

-- 5. Rights -------------------------------------------------------------------------------------------------------------

revoke all on function
  public.get_user_streak(uuid), public.get_user_streaks(uuid[]), public.get_streak_calendar(uuid, date, date),
  public.get_streak_leaderboard(integer, integer, text)
from public, anon, authenticated, service_role;
grant execute on function
  public.get_user_streak(uuid), public.get_streak_calendar(uuid, date, date),
  public.get_streak_leaderboard(integer, integer, text)
to authenticated, service_role;
grant execute on function public.get_user_streaks(uuid[]) to service_role;
