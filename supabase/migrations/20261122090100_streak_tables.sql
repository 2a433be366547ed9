-- Tables of streaks: made new, or brought up to date where a database holds the original schema with rows.

-- An existing table may be large, and a role's time-out short.
select set_config('statement_timeout', '0', true);

-- 1. The row of each user --------------------------------------------------------------------------------------------

create table if not exists public.user_streaks (
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

alter table public.user_streaks
  add column if not exists run_length integer not null default 0,
  add column if not exists longest_base integer not null default 0,
  add column if not exists expires_at timestamptz,
  add column if not exists last_activity_at timestamptz,
  add column if not exists last_activity_timezone varchar(64);

update public.user_streaks s set last_active_date = s.updated_at::date where not isfinite(s.last_active_date);
alter table public.user_streaks
  drop constraint if exists valid_run,
  add constraint valid_run check (
    run_length >= 0 and longest_streak >= run_length and longest_base >= 0 and isfinite(last_active_date)
  );

comment on table public.user_streaks is
  'One row per user: a cache of the ledger streak_days that reads and Realtime use. Every change adds 1 to version.';
comment on column public.user_streaks.id is 'All that Realtime''s DELETE carries.';
comment on column public.user_streaks.user_id is 'The user; gone with the user.';
comment on column public.user_streaks.current_streak is
  'run_length as of the last write, 0 once swept. What holds now is run_length before expires_at and 0 from then on.';
comment on column public.user_streaks.longest_streak is 'The longest run ever; never falls.';
comment on column public.user_streaks.last_active_date is 'The last day of the ledger, of any kind, in the zone that decided it.';
comment on column public.user_streaks.timezone is 'IANA zone of the latest counted activity: decides today, and when the streak lapses.';
comment on column public.user_streaks.version is 'Optimistic lock; orders the changes of this row for every listener.';
comment on column public.user_streaks.created_at is 'When the row was made.';
comment on column public.user_streaks.updated_at is 'When the row was changed last.';
comment on column public.user_streaks.run_length is 'Counting days of the unbroken run that ends on last_active_date.';
comment on column public.user_streaks.longest_base is 'The longest streak that an upgraded database brought along, which no ledger explains.';
comment on column public.user_streaks.expires_at is 'The instant from which on the streak is 0, unless an activity comes before.';
comment on column public.user_streaks.last_activity_at is 'The latest instant among the activities that entered a day into the ledger.';
comment on column public.user_streaks.last_activity_timezone is 'The zone that decided the day of last_activity_at.';

-- 2. The ledger ------------------------------------------------------------------------------------------------------

create table if not exists public.streak_days (
  user_id uuid not null references public.user_streaks (user_id) on delete cascade,
  day date not null,
  kind text not null default 'active' check (kind in ('active', 'repaired', 'skipped')),
  activity_at timestamptz,
  timezone varchar(64) not null,
  primary key (user_id, day)
);
comment on table public.streak_days is 'The ledger: one row per user and day, so no day is ever counted twice. The truth about a streak.';
comment on column public.streak_days.user_id is 'The user.';
comment on column public.streak_days.day is 'The local calendar day.';
comment on column public.streak_days.kind is
  'active and repaired count 1; skipped covers a day that a journey jumped over or a zone never had, and counts 0. A row may only rise to active.';
comment on column public.streak_days.activity_at is 'When the activity happened that made the day active; null where none is known.';
comment on column public.streak_days.timezone is 'The zone that decided the day.';

-- 3. The history -----------------------------------------------------------------------------------------------------

create table if not exists public.streak_history (
  id bigserial primary key,
  user_id uuid not null references auth.users (id) on delete cascade,
  old_current_streak integer not null,
  new_current_streak integer not null,
  old_longest_streak integer not null,
  new_longest_streak integer not null,
  activity_date date not null,
  last_active_date date,
  change_type varchar(50) not null,
  timezone varchar(64) not null,
  version_before integer not null,
  version_after integer not null,
  request_id varchar(100),
  created_at timestamptz not null default now()
);

alter table public.streak_history
  add column if not exists duration_ms integer,
  add column if not exists version integer,
  add column if not exists activity_at timestamptz,
  add column if not exists new_last_active_date date,
  add column if not exists expires_at timestamptz,
  add column if not exists reason text;

do $$
declare
  v_constraint name;
begin
  -- the check of the original, whatever its name
  for v_constraint in
    select c.conname from pg_catalog.pg_constraint c
    where c.conrelid = 'public.streak_history'::regclass and c.contype = 'c'
      and pg_catalog.pg_get_constraintdef(c.oid) like '%change_type%'
  loop
    execute format('alter table public.streak_history drop constraint %I', v_constraint);
  end loop;
end
$$;
alter table public.streak_history add constraint valid_change_type check (change_type in (
  'FIRST_ACTIVITY', 'STREAK_INCREMENT', 'STREAK_MAINTAINED', 'STREAK_RESET', 'STREAK_RECOVERED',
  'STREAK_LAPSED', 'STREAK_IMPORTED', 'STREAK_REBUILT'
));

comment on table public.streak_history is
  'Append-only: one row for every change of a user_streaks row, and so the record of every request that wrote.';
comment on column public.streak_history.id is 'Grows with every change: a cheap change log.';
comment on column public.streak_history.user_id is 'The user.';
comment on column public.streak_history.old_current_streak is 'The column current_streak before the change.';
comment on column public.streak_history.new_current_streak is 'The column current_streak after it: what the caller was told.';
comment on column public.streak_history.old_longest_streak is 'The longest streak before the change.';
comment on column public.streak_history.new_longest_streak is 'The longest streak after it.';
comment on column public.streak_history.activity_date is 'The day that the change is about.';
comment on column public.streak_history.last_active_date is 'The last day before the change; null for a first activity.';
comment on column public.streak_history.change_type is 'What happened.';
comment on column public.streak_history.timezone is 'The zone that decided the day.';
comment on column public.streak_history.version_before is 'The row''s version before the change, 0 for a new row.';
comment on column public.streak_history.version_after is 'The row''s version after it.';
comment on column public.streak_history.request_id is 'The caller''s id of the request: a second call with it gets the first answer.';
comment on column public.streak_history.created_at is 'When the change was written, which may be days after the activity.';
comment on column public.streak_history.duration_ms is 'How long the database took for it, waiting for locks included, in milliseconds.';
comment on column public.streak_history.version is
  'version_after, unique per user; null on rows older than the ledger, among which versions and request ids repeat.';
comment on column public.streak_history.activity_at is 'When the activity happened; null where the change has none.';
comment on column public.streak_history.new_last_active_date is 'The last day after the change.';
comment on column public.streak_history.expires_at is 'When the streak lapses, as of this change.';
comment on column public.streak_history.reason is 'Why an operator changed it.';

-- 4. The zone in the user's profile ----------------------------------------------------------------------------------

do $$
begin
  -- a table of the platform's own keeps its own columns, policies and rights
  if to_regclass('public.user_profiles') is not null then
    return;
  end if;
  create table public.user_profiles (
    user_id uuid primary key references auth.users (id) on delete cascade
  );
  comment on table public.user_profiles is 'What a user''s streak needs to know of the user.';
  comment on column public.user_profiles.user_id is 'The user.';
  alter table public.user_profiles enable row level security;
  create policy "users read their own profile" on public.user_profiles
    for select to authenticated using ((select auth.uid()) = user_id);
  revoke all on public.user_profiles from public, anon, authenticated, service_role;
  grant select on public.user_profiles to authenticated;
  grant select, insert, update, delete on public.user_profiles to service_role;
end
$$;
alter table public.user_profiles
  add column if not exists timezone varchar(64) default 'UTC',
  add column if not exists leaderboard_opt_out boolean not null default false;
comment on column public.user_profiles.timezone is 'IANA zone for users whose activities name none and who have no streak yet.';
comment on column public.user_profiles.leaderboard_opt_out is 'True keeps the user out of get_streak_leaderboard.';

do $$
declare
  -- an existing table may be keyed by user_id or, as Supabase's examples have it, by id: named once, here
  v_key constant name := (
    select a.attname from pg_catalog.pg_attribute a
    where a.attrelid = 'public.user_profiles'::regclass and a.attname in ('user_id', 'id')
      and a.atttypid = 'uuid'::regtype and not a.attisdropped
    order by a.attname = 'user_id' desc limit 1
  );
begin
  if v_key is null then
    raise exception 'public.user_profiles needs a column user_id or id of type uuid that names the user';
  end if;
  execute format(
    'create or replace view private.streak_profiles with (security_invoker = true) as
       select p.%I as user_id, p.timezone::text as timezone, p.leaderboard_opt_out from public.user_profiles p',
    v_key
  );
  -- get_streak_leaderboard: who is out, without a look into every profile
  execute format(
    'create index if not exists user_profiles_leaderboard_opt_out_idx on public.user_profiles (%I) where leaderboard_opt_out',
    v_key
  );
  if obj_description('public.user_profiles'::regclass) is null then
    comment on table public.user_profiles is 'What a user''s streak needs to know of the user.';
  end if;
  if exists (select from pg_catalog.pg_attribute a where a.attrelid = 'public.user_profiles'::regclass
             and a.attname = 'user_id' and not a.attisdropped and col_description(a.attrelid, a.attnum) is null) then
    comment on column public.user_profiles.user_id is 'The user; gone with the user.';
  end if;
end
$$;
comment on view private.streak_profiles is 'The columns of user_profiles that streaks read, whatever the table''s key is called.';

-- 5. Indexes: each is used by a query here ---------------------------------------------------------------------------

do $$
declare
  v_index record;
  v_kept boolean := false;
begin
  -- the original's, and a second unique key on user_id (the field has seen unique_user_streak beside the column's own)
  drop index if exists public.idx_user_streaks_user_id, public.idx_user_streaks_current,
    public.idx_user_streaks_longest, public.idx_streaks_leaderboard;
  for v_index in
    select i.indexrelid::regclass as name, c.conname
    from pg_catalog.pg_index i left join pg_catalog.pg_constraint c on c.conindid = i.indexrelid and c.contype in ('u', 'p')
    where i.indrelid = 'public.user_streaks'::regclass and i.indisunique and i.indpred is null and i.indnkeyatts = 1
      and i.indkey[0] = (select a.attnum from pg_catalog.pg_attribute a
                         where a.attrelid = 'public.user_streaks'::regclass and a.attname = 'user_id')
    -- the one that the ledger's foreign key needs, if this is a second run, else the one with the usual name
    order by exists (select from pg_catalog.pg_constraint f where f.conindid = i.indexrelid and f.contype = 'f') desc,
      c.conname = 'user_streaks_user_id_key' desc nulls last
  loop
    if not v_kept then
      v_kept := true;
    elsif v_index.conname is not null then
      execute format('alter table public.user_streaks drop constraint %I', v_index.conname);
    else
      execute format('drop index %s', v_index.name);
    end if;
  end loop;
end
$$;

-- get_streak_leaderboard in its first order, by skipping from one expiry to the next; expire_lapsed_streaks
create index if not exists user_streaks_live_idx on public.user_streaks (expires_at, run_length desc, user_id)
  where current_streak > 0;
-- get_streak_leaderboard ordered by longest_streak
create index if not exists user_streaks_longest_idx on public.user_streaks (longest_streak desc, user_id);
-- one row per version, a user's history, and the foreign key to auth.users
create unique index if not exists streak_history_user_id_version_key on public.streak_history (user_id, version);
-- the replay of a request
create unique index if not exists streak_history_user_id_request_id_key on public.streak_history (user_id, request_id)
  where request_id is not null and version is not null;

-- 6. Rights: users read their own rows, nobody but service_role writes ------------------------------------------------

do $$
declare
  v_policy record;
begin
  for v_policy in
    select p.policyname, p.tablename from pg_catalog.pg_policies p
    where p.schemaname = 'public' and p.tablename in ('user_streaks', 'streak_days', 'streak_history')
  loop
    execute format('drop policy %I on public.%I', v_policy.policyname, v_policy.tablename);
  end loop;
end
$$;

alter table public.user_streaks enable row level security;
alter table public.streak_days enable row level security;
alter table public.streak_history enable row level security;
create policy "users read their own streak" on public.user_streaks
  for select to authenticated using ((select auth.uid()) = user_id);
create policy "users read their own days" on public.streak_days
  for select to authenticated using ((select auth.uid()) = user_id);
create policy "users read their own history" on public.streak_history
  for select to authenticated using ((select auth.uid()) = user_id);

revoke all on public.user_streaks, public.streak_days, public.streak_history
  from public, anon, authenticated, service_role;
revoke all on sequence public.streak_history_id_seq from public, anon, authenticated, service_role;
grant select on public.user_streaks, public.streak_days, public.streak_history to authenticated;
grant select, insert, update, delete on public.user_streaks to service_role;
grant select on public.streak_days, public.streak_history to service_role;
grant usage on schema private to authenticated, service_role;

-- 7. Realtime --------------------------------------------------------------------------------------------------------

do $$
begin
  if not exists (select from pg_catalog.pg_publication where pubname = 'supabase_realtime') then
    create publication supabase_realtime;
  end if;
  if not exists (select from pg_catalog.pg_publication_tables
                 where pubname = 'supabase_realtime' and schemaname = 'public' and tablename = 'user_streaks') then
    alter publication supabase_realtime add table public.user_streaks;
  end if;
end
$$;
