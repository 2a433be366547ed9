-- The schema that this project replaces, written from the description in its design document: row lock, version check, date
-- check, and a history row on each new day. Tests show what it gets wrong, and upgrade databases that hold it. Not mended.

create table public.user_streaks (
  id uuid primary key default gen_random_uuid(),
  user_id uuid not null unique references auth.users (id) on delete cascade,
  current_streak integer not null default 0 check (current_streak >= 0),
  longest_streak integer not null default 0 check (longest_streak >= 0),
  last_active_date date not null,
  timezone varchar(64) not null default 'UTC',
  version integer not null default 1,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint valid_longest_streak check (longest_streak >= current_streak)
);

create index idx_user_streaks_user_id on public.user_streaks (user_id);
create index idx_user_streaks_current on public.user_streaks (current_streak desc);
create index idx_user_streaks_longest on public.user_streaks (longest_streak desc);
create index idx_streaks_leaderboard on public.user_streaks (current_streak desc, longest_streak desc)
  include (user_id, last_active_date);

create table public.streak_history (
  id bigserial primary key,
  user_id uuid not null references auth.users (id) on delete cascade,
  old_current_streak integer not null,
  new_current_streak integer not null,
  old_longest_streak integer not null,
  new_longest_streak integer not null,
  activity_date date not null,
  last_active_date date,
  change_type varchar(50) not null check (change_type in (
    'FIRST_ACTIVITY', 'STREAK_INCREMENT', 'STREAK_MAINTAINED', 'STREAK_RESET', 'STREAK_RECOVERED'
  )),
  timezone varchar(64) not null,
  version_before integer not null,
  version_after integer not null,
  request_id varchar(100),
  created_at timestamptz not null default now()
);

create function public.update_user_streak_atomic(p_user_id uuid, p_timezone text default 'UTC', p_request_id text default null)
returns table (
  success boolean, current_streak integer, longest_streak integer, last_active_date date, change_type text, message text
)
language plpgsql security definer as $$
#variable_conflict use_column
declare
  v_row public.user_streaks;
  v_today date := (now() at time zone p_timezone)::date;
  v_days integer;
  v_streak integer;
  v_longest integer;
  v_type text;
  v_message text;
begin
  select * into v_row from public.user_streaks s where s.user_id = p_user_id for update;

  if not found then
    insert into public.user_streaks (user_id, current_streak, longest_streak, last_active_date, timezone)
    values (p_user_id, 1, 1, v_today, p_timezone);
    insert into public.streak_history (
      user_id, old_current_streak, new_current_streak, old_longest_streak, new_longest_streak, activity_date,
      change_type, timezone, version_before, version_after, request_id
    ) values (p_user_id, 0, 1, 0, 1, v_today, 'FIRST_ACTIVITY', p_timezone, 0, 1, p_request_id);
    return query select true, 1, 1, v_today, 'FIRST_ACTIVITY', 'Streak started';
    return;
  end if;

  if v_row.last_active_date = v_today then
    return query select true, v_row.current_streak, v_row.longest_streak, v_row.last_active_date, 'STREAK_MAINTAINED',
      'Already active today';
    return;
  end if;

  v_days := v_today - v_row.last_active_date;
  if v_days = 1 then
    v_streak := v_row.current_streak + 1;
    v_type := 'STREAK_INCREMENT';
    v_message := format('%s days in a row', v_streak);
  else
    v_streak := 1;
    v_type := 'STREAK_RESET';
    v_message := format('You missed %s day(s)', v_days - 1);
  end if;
  v_longest := greatest(v_row.longest_streak, v_streak);

  update public.user_streaks s
  set current_streak = v_streak, longest_streak = v_longest, last_active_date = v_today, timezone = p_timezone,
    version = s.version + 1, updated_at = now()
  where s.user_id = p_user_id and s.version = v_row.version;
  if not found then
    raise exception 'CONCURRENT_MODIFICATION';
  end if;
  insert into public.streak_history (
    user_id, old_current_streak, new_current_streak, old_longest_streak, new_longest_streak, activity_date,
    last_active_date, change_type, timezone, version_before, version_after, request_id
  ) values (
    p_user_id, v_row.current_streak, v_streak, v_row.longest_streak, v_longest, v_today, v_row.last_active_date, v_type,
    p_timezone, v_row.version, v_row.version + 1, p_request_id
  );
  return query select true, v_streak, v_longest, v_today, v_type, v_message;
end
$$;

create function public.get_user_streak(p_user_id uuid)
returns table (
  current_streak integer, longest_streak integer, last_active_date date, timezone text, is_active_today boolean,
  days_since_activity integer
)
language plpgsql stable as $$
#variable_conflict use_column
begin
  return query
  select s.current_streak, s.longest_streak, s.last_active_date, s.timezone::text,
    s.last_active_date = (now() at time zone s.timezone)::date,
    (now() at time zone s.timezone)::date - s.last_active_date
  from public.user_streaks s where s.user_id = p_user_id;
  if not found then
    return query select 0, 0, null::date, 'UTC', false, null::integer;
  end if;
end
$$;

create function public.get_streak_leaderboard(
  p_limit integer default 100, p_offset integer default 0, p_order_by text default 'current_streak'
)
returns table (
  rank bigint, user_id uuid, current_streak integer, longest_streak integer, last_active_date date, is_active_today boolean
)
language plpgsql stable as $$
#variable_conflict use_column
begin
  return query
  select row_number() over (
      order by case when p_order_by = 'longest_streak' then s.longest_streak else s.current_streak end desc
    ), s.user_id, s.current_streak, s.longest_streak, s.last_active_date, s.last_active_date = current_date
  from public.user_streaks s
  order by 1 limit p_limit offset p_offset;
end
$$;

alter table public.user_streaks enable row level security;
alter table public.streak_history enable row level security;
create policy "Users view own streak" on public.user_streaks for select using (auth.uid() = user_id);
create policy "Service role updates" on public.user_streaks for all using (auth.role() = 'service_role');
create policy "Users view own history" on public.streak_history for select using (auth.uid() = user_id);

alter publication supabase_realtime add table public.user_streaks;
