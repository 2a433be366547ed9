-- What is kept for how long: the archive of the history, and one user's data, exported or erased.

-- 1. The archive ----------------------------------------------------------------------------------------------------------

-- the columns of the history, whatever a project has added to it; who adds one later adds it here, too
create table if not exists public.streak_history_archive (
  like public.streak_history including comments,
  -- explain_user_streak, export_user_streak, and the deletion of a user
  primary key (user_id, id),
  foreign key (user_id) references auth.users (id) on delete cascade
);
comment on table public.streak_history_archive is
  'History that archive_streak_history moved here: the audit trail of old changes. Requests in it are no longer replayed.';

alter table public.streak_history_archive enable row level security;
drop policy if exists "users read their own archived history" on public.streak_history_archive;
create policy "users read their own archived history" on public.streak_history_archive
  for select to authenticated using ((select auth.uid()) = user_id);
revoke all on public.streak_history_archive from public, anon, authenticated, service_role;
grant select on public.streak_history_archive to authenticated, service_role;
create or replace trigger refuse_history_update before update on public.streak_history_archive
  for each statement execute function private.refuse_history_update();

create or replace function private.history_retention() returns interval
language plpgsql immutable set search_path = '' as $$
begin
  return null;
end
$$;
comment on function private.history_retention() is
  'How long the history stays where it is; null for ever. Replacing it (30 days or more) is how an operator sets it.';

create or replace function private.history_id_at(p_at timestamptz) returns bigint
language plpgsql stable set search_path = '' as $$
declare
  v_low bigint := 0;
  v_high bigint := coalesce((select max(h.id) from public.streak_history h), 0) + 1;
  v_middle bigint;
  v_created_at timestamptz;
begin
  -- ids grow with time: halving finds the place by the primary key, where an index on created_at would cost every change
  while v_high - v_low > 1 loop
    v_middle := v_low + (v_high - v_low) / 2;
    select h.created_at into v_created_at from public.streak_history h where h.id >= v_middle order by h.id limit 1;
    if v_created_at < p_at then
      v_low := v_middle;
    else
      v_high := v_middle;
    end if;
  end loop;
  return v_high;
end
$$;
comment on function private.history_id_at(timestamptz) is
  'About the first id of the history since an instant: transactions that ran side by side may lie a little beside it.';

create table if not exists private.history_archive_position (
  id boolean primary key default true check (id),
  position bigint not null default 0,
  began_at timestamptz not null default '-infinity'
);
comment on table private.history_archive_position is
  'One row: how far archive_streak_history has looked, so that what stays for ever is not looked at by every call.';
comment on column private.history_archive_position.id is 'Always true: there is one row.';
comment on column private.history_archive_position.position is 'The last id of the history that has been looked at.';
comment on column private.history_archive_position.began_at is
  'When it last began from the first id again: a latest change that stayed can go once its user has a later one.';
insert into private.history_archive_position default values on conflict (id) do nothing;
revoke all on private.history_archive_position from public, anon, authenticated, service_role;

create or replace function private.archive_streak_history(
  p_older_than interval, p_limit integer, p_remove boolean, out archived integer, out finished boolean
)
language plpgsql security definer set search_path = '' as $$
declare
  v_now constant timestamptz := private.now();
  v_before constant timestamptz := v_now - p_older_than;
  v_end constant bigint := private.history_id_at(v_before) - 1;
  v_place private.history_archive_position;
  v_last bigint;
  v_ids bigint[];
  v_users uuid[];
begin
  select p.* into v_place from private.history_archive_position p for update;
  if v_place.position = 0 or v_place.position >= v_end and v_place.began_at <= v_now - interval '1 day' then
    v_place.position := 0;
    v_place.began_at := v_now;
  end if;
  -- a call ends in time also where hundreds of thousands of rows stay
  v_last := coalesce((
    select h.id from public.streak_history h where h.id > v_place.position and h.id <= v_end order by h.id offset 99999 limit 1
  ), v_end);
  -- The latest change of each user stays: versions go on from it, and it says when the streak lapses.
  select array_agg(c.id order by c.id), array_agg(distinct c.user_id) into v_ids, v_users
  from (
    select h.id, h.user_id from public.streak_history h
    where h.id > v_place.position and h.id <= v_last and h.created_at < v_before
      and exists (
        select from public.streak_history n where n.user_id = h.user_id and n.version > coalesce(h.version, 0)
      )
    order by h.id limit p_limit
  ) c;
  if cardinality(v_ids) = p_limit then
    v_last := v_ids[p_limit];
  end if;
  -- the users' keys before their history, as the deletion of a user takes them; who is being deleted needs no archive
  v_users := array(select u.id from auth.users u where u.id = any (v_users) order by u.id for key share skip locked);
  with gone as (
    delete from public.streak_history h where h.id = any (v_ids) and h.user_id = any (v_users) returning h.*
  ),
  kept as (
    insert into public.streak_history_archive select g.* from gone g where not p_remove
  )
  select count(*)::integer into archived from gone;
  update private.history_archive_position p
  set position = greatest(v_place.position, v_last), began_at = v_place.began_at;
  finished := v_last >= v_end;
end
$$;
comment on function private.archive_streak_history(interval, integer, boolean) is 'The work of public.archive_streak_history.';

create or replace function public.archive_streak_history(
  p_older_than interval default null, p_limit integer default 1000, p_remove boolean default false
)
returns table (archived integer, finished boolean)
language plpgsql set search_path = '' rows 1 as $$
declare
  v_older_than constant interval := coalesce(p_older_than, private.history_retention());
begin
  if p_limit is null or p_limit not between 1 and 100000 then
    raise exception 'p_limit: 1 to 100000' using errcode = '22023', detail = 'LIMIT_INVALID';
  elsif v_older_than < interval '30 days' then
    raise exception 'p_older_than: at least 30 days, for which requests can be replayed'
      using errcode = '22023', detail = 'AGE_TOO_SHORT';
  elsif v_older_than is null then
    return query select 0, true;
  else
    return query select a.archived, a.finished
    from private.archive_streak_history(v_older_than, p_limit, coalesce(p_remove, false)) a;
  end if;
end
$$;
comment on function public.archive_streak_history(interval, integer, boolean) is
  'Moves history older than p_older_than (by default private.history_retention(): null, none) into streak_history_archive, or '
  'with p_remove away, at most p_limit rows, and returns how many. The ledger, the row and each user''s latest change stay. '
  'Call it again until it is finished; what could not go then is looked at again a day after the last beginning.';

-- 2. Export ---------------------------------------------------------------------------------------------------------------

create or replace function private.export_user_streak(p_user_id uuid) returns jsonb
language plpgsql stable security definer set search_path = '' as $$
begin
  if p_user_id is null then
    perform private.raise_streak_error('USER_ID_REQUIRED');
  elsif not exists (select from auth.users u where u.id = p_user_id) then
    perform private.raise_streak_error('USER_NOT_FOUND');
  end if;
  return jsonb_build_object(
    'user_id', p_user_id,
    'exported_at', private.now(),
    'profile', (select to_jsonb(p) - 'user_id' from private.streak_profiles p where p.user_id = p_user_id limit 1),
    'streak', (select to_jsonb(s) - 'user_id' from public.user_streaks s where s.user_id = p_user_id),
    'days', (select coalesce(jsonb_agg(to_jsonb(d) - 'user_id' order by d.day), '[]')
             from public.streak_days d where d.user_id = p_user_id),
    'history', (select coalesce(jsonb_agg(to_jsonb(h) - 'user_id' order by h.id), '[]')
                from private.full_history(p_user_id) h),
    'repairs', (select coalesce(jsonb_agg(to_jsonb(r) - 'user_id' order by r.repair_id), '[]')
                from private.streak_repair_users r where r.user_id = p_user_id)
  );
end
$$;
comment on function private.export_user_streak(uuid) is 'The work of public.export_user_streak.';

create or replace function public.export_user_streak(p_user_id uuid)
returns table (document jsonb)
language plpgsql stable set search_path = '' rows 1 as $$
begin
  return query select private.export_user_streak(p_user_id);
end
$$;
comment on function public.export_user_streak(uuid) is
  'All that streaks hold of a user, as of one instant, in one JSON document: profile, streak, days, history, repairs.';

-- 3. Erasure --------------------------------------------------------------------------------------------------------------

create or replace function private.erase_user_streak(p_user_id uuid)
returns table (streaks integer, days integer, history integer, archived integer, profiles integer)
language plpgsql security definer set search_path = '' rows 1 as $$
#variable_conflict use_column
declare
  v_key constant name := (
    select a.attname from pg_catalog.pg_attribute a
    where a.attrelid = 'public.user_profiles'::regclass and a.attname in ('user_id', 'id')
      and a.atttypid = 'uuid'::regtype and not a.attisdropped
    order by a.attname = 'user_id' desc limit 1
  );
  v_streaks integer;
  v_days integer;
  v_history integer;
  v_archived integer;
  v_profiles integer;
begin
  if p_user_id is null then
    perform private.raise_streak_error('USER_ID_REQUIRED');
  end if;
  perform from auth.users u where u.id = p_user_id for key share;
  if not found then
    perform private.raise_streak_error('USER_NOT_FOUND');
  end if;
  perform private.lock_beginning(p_user_id);
  perform private.lock_streak(p_user_id);
  delete from public.streak_days d where d.user_id = p_user_id;
  get diagnostics v_days = row_count;
  delete from public.user_streaks s where s.user_id = p_user_id;
  get diagnostics v_streaks = row_count;
  delete from public.streak_history h where h.user_id = p_user_id;
  get diagnostics v_history = row_count;
  delete from public.streak_history_archive a where a.user_id = p_user_id;
  get diagnostics v_archived = row_count;
  delete from private.streak_repair_users r where r.user_id = p_user_id;
  -- the table may be the project's own: its row stays, what streaks keep in it goes
  execute format(
    'update public.user_profiles set timezone = default, leaderboard_opt_out = default
     where %I = $1 and (timezone is distinct from ''UTC'' or leaderboard_opt_out)', v_key
  ) using p_user_id;
  get diagnostics v_profiles = row_count;
  return query select v_streaks, v_days, v_history, v_archived, v_profiles;
end
$$;
comment on function private.erase_user_streak(uuid) is 'The work of public.erase_user_streak.';

create or replace function public.erase_user_streak(p_user_id uuid)
returns table (streaks integer, days integer, history integer, archived integer, profiles integer)
language plpgsql set search_path = '' rows 1 as $$
begin
  return query select * from private.erase_user_streak(p_user_id);
end
$$;
comment on function public.erase_user_streak(uuid) is
  'Removes all that streaks hold of a user, who stays signed up, and returns how many rows of each kind; the profile''s zone '
  'goes back to its default. Nothing can be brought back, and no earlier request is known any more.';

-- 4. Rights ---------------------------------------------------------------------------------------------------------------

revoke all on function
  private.history_retention(), private.history_id_at(timestamptz),
  private.archive_streak_history(interval, integer, boolean), private.export_user_streak(uuid),
  private.erase_user_streak(uuid), public.archive_streak_history(interval, integer, boolean),
  public.export_user_streak(uuid), public.erase_user_streak(uuid)
from public, anon, authenticated, service_role;
grant execute on function
  private.history_retention(), private.archive_streak_history(interval, integer, boolean),
  private.export_user_streak(uuid), private.erase_user_streak(uuid),
  public.archive_streak_history(interval, integer, boolean), public.export_user_streak(uuid),
  public.erase_user_streak(uuid)
to service_role;

-- 5. A job, where pg_cron is in use ---------------------------------------------------------------------------------------

do $$
begin
  if to_regprocedure('cron.schedule(text, text, text)') is null then
    return;
  end if;
  begin
    -- does nothing until private.history_retention() says how long
    perform cron.schedule('archive-streak-history', '*/5 * * * *', 'select * from public.archive_streak_history(null, 10000)');
  exception when others then
    raise notice 'pg_cron is there but cannot be used (%): call archive_streak_history from a scheduler of your own', sqlerrm;
  end;
end
$$;
