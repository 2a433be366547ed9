-- What operators change by hand and on purpose: undoing an activity, merging two accounts. Each is audited in the history.

-- 1. Tables of operations ------------------------------------------------------------------------------------------------

create table if not exists public.streak_repairs (
  id bigint generated always as identity primary key,
  outage_from timestamptz not null,
  outage_to timestamptz not null,
  reason text not null,
  request_id varchar(100) unique,
  created_at timestamptz not null default now(),
  position uuid,
  scanned integer not null default 0,
  users integer not null default 0,
  days integer not null default 0,
  finished_at timestamptz,
  undo_began_at timestamptz,
  undone_users integer not null default 0,
  undone_days integer not null default 0,
  kept_days integer not null default 0,
  undone_at timestamptz,
  constraint valid_outage check (outage_from < outage_to)
);
comment on table public.streak_repairs is 'Mass repairs after outages: what was asked, how far it got, and whether it was undone.';
comment on column public.streak_repairs.id is 'Names the repair in every later call and in the reasons of the history.';
comment on column public.streak_repairs.outage_from is 'The first instant of the outage.';
comment on column public.streak_repairs.outage_to is 'The first instant after it.';
comment on column public.streak_repairs.reason is 'Why, for the audit trail.';
comment on column public.streak_repairs.request_id is 'The caller''s id of the request that began it.';
comment on column public.streak_repairs.created_at is 'When it was begun.';
comment on column public.streak_repairs.position is 'The last user that it has dealt with, in order of user_id: where an interrupted one goes on.';
comment on column public.streak_repairs.scanned is 'How many users it has looked at.';
comment on column public.streak_repairs.users is 'How many users it repaired.';
comment on column public.streak_repairs.days is 'How many days it entered into ledgers.';
comment on column public.streak_repairs.finished_at is 'When the last user was dealt with.';
comment on column public.streak_repairs.undo_began_at is 'When its undoing began: from then on it goes no further.';
comment on column public.streak_repairs.undone_users is 'For how many users it was undone.';
comment on column public.streak_repairs.undone_days is 'How many of its days were taken out again.';
comment on column public.streak_repairs.kept_days is 'How many of its days stayed: they have become active since, or are all that a ledger holds.';
comment on column public.streak_repairs.undone_at is 'When the last user''s repair was undone.';

create table if not exists private.streak_repair_users (
  repair_id bigint not null references public.streak_repairs (id) on delete cascade,
  user_id uuid not null references auth.users (id) on delete cascade,
  days date[] not null,
  primary key (repair_id, user_id)
);
comment on table private.streak_repair_users is
  'Which days a mass repair entered for whom: what its undoing has still to take out again.';
comment on column private.streak_repair_users.repair_id is 'The repair.';
comment on column private.streak_repair_users.user_id is 'The user.';
comment on column private.streak_repair_users.days is 'The days that it entered into the user''s ledger.';
-- the deletion, the erasure and the merging of users
create index if not exists streak_repair_users_user_id_idx on private.streak_repair_users (user_id);

alter table public.streak_repairs enable row level security;
drop policy if exists "operators read repairs" on public.streak_repairs;
create policy "operators read repairs" on public.streak_repairs for select to service_role using (true);
revoke all on public.streak_repairs, private.streak_repair_users from public, anon, authenticated, service_role;
revoke all on sequence public.streak_repairs_id_seq from public, anon, authenticated, service_role;
grant select on public.streak_repairs to service_role;

-- 2. Writing corrections -------------------------------------------------------------------------------------------------

create or replace function private.check_reason(p_reason text) returns void
language plpgsql immutable set search_path = '' as $$
begin
  if coalesce(trim(p_reason), '') = '' then
    raise exception 'p_reason: a reason is required' using errcode = '22023', detail = 'REASON_REQUIRED';
  elsif length(p_reason) > 500 then
    raise exception 'p_reason: at most 500 characters' using errcode = '22023', detail = 'REASON_TOO_LONG';
  end if;
end
$$;
comment on function private.check_reason(text) is 'No operation without a reason.';

create or replace function private.touch_streak(
  p_user_id uuid, p_reason text, p_started_at timestamptz, p_request_id text default null, p_day date default null,
  p_longest_base integer default null, p_last_day date default null, p_expires_at timestamptz default null
) returns void
language plpgsql set search_path = '' as $$
declare
  v_now constant timestamptz := private.now();
begin
  with before as (
    select s.* from public.user_streaks s where s.user_id = p_user_id
  ),
  touched as (
    update public.user_streaks s
    set current_streak = case when v_now < coalesce(p_expires_at, s.expires_at) then s.run_length else 0 end,
      longest_base = greatest(s.longest_base, p_longest_base), longest_streak = greatest(s.longest_streak, p_longest_base),
      last_active_date = coalesce(p_last_day, s.last_active_date), expires_at = coalesce(p_expires_at, s.expires_at),
      version = s.version + 1, updated_at = v_now
    where s.user_id = p_user_id
    returning s.*
  )
  insert into public.streak_history (
    user_id, old_current_streak, new_current_streak, old_longest_streak, new_longest_streak, activity_date,
    last_active_date, change_type, timezone, version_before, version_after, request_id, created_at, duration_ms, version,
    new_last_active_date, expires_at, reason
  )
  select t.user_id, b.current_streak, t.current_streak, b.longest_streak, t.longest_streak,
    coalesce(p_day, t.last_active_date), b.last_active_date, 'STREAK_REBUILT', t.timezone, b.version, t.version,
    p_request_id, v_now, (extract(epoch from clock_timestamp() - p_started_at) * 1000)::integer, t.version,
    t.last_active_date, t.expires_at, p_reason
  from touched t join before b on b.user_id = t.user_id;
end
$$;
comment on function private.touch_streak(uuid, text, timestamptz, text, date, integer, date, timestamptz) is
  'Writes what no recount of the ledger would: a higher longest_base, a later expiry, or nothing but the record of a change '
  'in the ledger that moved no counter. The caller holds the row''s lock.';

create or replace function private.drop_streak(
  p_row public.user_streaks, p_reason text, p_started_at timestamptz, p_request_id text default null, p_day date default null
) returns void
language plpgsql set search_path = '' as $$
begin
  delete from public.user_streaks s where s.user_id = p_row.user_id;
  insert into public.streak_history (
    user_id, old_current_streak, new_current_streak, old_longest_streak, new_longest_streak, activity_date,
    last_active_date, change_type, timezone, version_before, version_after, request_id, created_at, duration_ms, version, reason
  ) values (
    p_row.user_id, p_row.current_streak, 0, p_row.longest_streak, 0, coalesce(p_day, p_row.last_active_date),
    p_row.last_active_date, 'STREAK_REBUILT', p_row.timezone, p_row.version, p_row.version + 1, p_request_id, private.now(),
    (extract(epoch from clock_timestamp() - p_started_at) * 1000)::integer, p_row.version + 1, p_reason
  );
end
$$;
comment on function private.drop_streak(public.user_streaks, text, timestamptz, text, date) is
  'Removes a row whose ledger is empty, or goes with it; the history stays and says why. The caller holds the row''s lock.';

create or replace function private.lock_beginning(p_user_id uuid) returns void
language plpgsql set search_path = '' as $$
begin
  perform pg_advisory_xact_lock(hashtextextended('streak ' || p_user_id, 0));
end
$$;
comment on function private.lock_beginning(uuid) is
  'Keeps apart those who begin a user''s row and those who may remove it: there is no row that both could lock. Taken before '
  'the row''s own lock, in the same order of users.';

create or replace function private.continue_versions() returns trigger
language plpgsql security definer set search_path = '' as $$
begin
  perform private.lock_beginning(new.user_id);
  -- asked only now: the statement that inserts looked before, and would use a version again that a removal has just taken
  new.version := greatest(
    new.version, 1 + (select max(h.version) from public.streak_history h where h.user_id = new.user_id)
  );
  return new;
end
$$;
comment on function private.continue_versions() is
  'A row begun anew goes on where the history of the old one ended, also when that is being removed at the same moment.';
create or replace trigger continue_versions before insert on public.user_streaks
  for each row when (new.run_length > 0) execute function private.continue_versions();

create or replace function private.refuse_revival() returns trigger
language plpgsql set search_path = '' as $$
begin
  perform private.raise_streak_error('CONCURRENT_MODIFICATION');
  return null;
end
$$;
comment on function private.refuse_revival() is
  'A statement that meant to lock a row, and inserted what it had read of it because the row was removed meanwhile, has to '
  'decide again.';
create or replace trigger refuse_revival after insert on public.user_streaks
  for each row
  when (new.run_length = 0 and new.current_streak = 0 and new.longest_streak > 0 and new.last_activity_at is not null)
  execute function private.refuse_revival();

create or replace function private.correct_streak(
  p_row public.user_streaks, p_reason text, p_started_at timestamptz, p_request_id text, p_day date,
  p_stored_timezone text, p_keep_longest boolean
) returns private.streak_answer
language plpgsql set search_path = '' as $$
declare
  v_answer private.streak_answer;
begin
  if not exists (select from public.streak_days d where d.user_id = p_row.user_id) then
    perform private.drop_streak(p_row, p_reason, p_started_at, p_request_id, p_day);
    return (null, true, 0, 0, null, 'STREAK_REBUILT', private.streak_message('STREAK_REBUILT', 0), p_row.timezone,
      p_row.version + 1, null, false)::private.streak_answer;
  end if;
  if p_keep_longest and p_row.longest_streak > p_row.longest_base and p_row.longest_streak >
      (select c.longest_run from private.count_runs(array[p_row.user_id]) c) then
    -- what no ledger explains any more is kept where a rebuild will find it
    perform private.touch_streak(
      p_row.user_id, 'kept the longest streak; ' || p_reason, p_started_at, null, p_day, p_row.longest_streak
    );
  end if;
  perform private.settle_streaks(
    array[p_row.user_id], 'STREAK_REBUILT', p_started_at, p_request_id, null, p_day, null, p_stored_timezone, p_reason
  );
  if not found then
    -- no counter moved, but the ledger did
    perform private.touch_streak(p_row.user_id, p_reason, p_started_at, p_request_id, p_day);
  end if;
  select null, true, g.current_streak, g.longest_streak, g.last_active_date, 'STREAK_REBUILT',
    private.streak_message('STREAK_REBUILT', g.current_streak), g.timezone, g.version, g.expires_at, false
  into v_answer
  from public.get_user_streak(p_row.user_id) g;
  return v_answer;
end
$$;
comment on function private.correct_streak(public.user_streaks, text, timestamptz, text, date, text, boolean) is
  'Brings a row in line with a ledger from which days were taken, and always leaves a history row. longest_streak is '
  'recounted, too, unless it is to be kept.';

-- 3. Undo -----------------------------------------------------------------------------------------------------------------

create or replace function private.undo_user_activity(
  p_user_id uuid, p_day date, p_reason text, p_request_id text
) returns private.streak_answer
language plpgsql security definer set search_path = '' as $$
declare
  v_started_at constant timestamptz := clock_timestamp();
  v_request_id constant text := nullif(p_request_id, '');
  v_row public.user_streaks;
  v_gone public.streak_days;
  v_before date;
  v_after date;
  v_stored text;
  v_answer private.streak_answer;
begin
  if length(v_request_id) > 100 then
    perform private.raise_streak_error('REQUEST_ID_TOO_LONG');
  end if;
  v_answer := private.recorded_answer(p_user_id, v_request_id);
  if v_answer.success then
    return v_answer;
  end if;
  if p_user_id is not null then
    perform private.lock_beginning(p_user_id);
  end if;
  v_row := private.locked_streak(p_user_id);
  v_answer := private.recorded_answer(p_user_id, v_request_id); -- again, now that nobody else writes
  if v_answer.success then
    return v_answer;
  end if;
  perform private.check_reason(p_reason);
  select d.* into v_gone from public.streak_days d where d.user_id = p_user_id and d.day = p_day and d.kind <> 'skipped';
  if not found then
    raise exception 'p_day: not a day that counts' using errcode = '22023', detail = 'DAY_NOT_COUNTED';
  end if;
  select max(d.day) filter (where d.day < p_day), min(d.day) filter (where d.day > p_day) into v_before, v_after
  from public.streak_days d where d.user_id = p_user_id and d.kind <> 'skipped';
  if v_before is null and v_after is null and v_row.longest_base > 0 then
    raise exception 'p_day: the last day of a user whose longest streak no ledger explains; it would be lost'
      using errcode = '22023', detail = 'DAY_IS_LAST', hint = 'Count or import another day first, or erase the user.';
  end if;
  -- the days that were covered because of this one go with it, and whatever the days on both sides cover comes back
  delete from public.streak_days d
  where d.user_id = p_user_id and d.day > coalesce(v_before, '-infinity') and d.day < coalesce(v_after, 'infinity');
  -- if the day comes back it is by somebody else's doing, which no undoing of a repair may take
  update private.streak_repair_users r set days = array_remove(r.days, p_day)
  where r.user_id = p_user_id and p_day = any (r.days);
  if v_before is not null then
    perform private.bridge_gaps(array[p_user_id], array[v_before]);
  end if;
  if v_gone.activity_at = v_row.last_activity_at and v_gone.timezone = v_row.timezone then
    -- the zone that this activity brought goes with it
    v_stored := (select c.last_activity_timezone from private.count_runs(array[p_user_id]) c);
  end if;
  return private.correct_streak(v_row, 'undone: ' || p_reason, v_started_at, v_request_id, p_day, v_stored, false);
end
$$;
comment on function private.undo_user_activity(uuid, date, text, text) is 'The work of public.undo_user_activity.';

create or replace function public.undo_user_activity(
  p_user_id uuid, p_day date, p_reason text, p_request_id text default null
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
  from private.undo_user_activity(p_user_id, p_day, p_reason, p_request_id) a;
end
$$;
comment on function public.undo_user_activity(uuid, date, text, text) is
  'Takes a day out of the ledger as if nothing had counted on it, with the reason in the history. longest_streak is '
  'recounted, too: a record that rested on the day goes with it. A user without days has no row. A retry of the undone '
  'activity''s own request gets its first answer and counts nothing; a new activity of that day counts again.';

-- 4. Merge ----------------------------------------------------------------------------------------------------------------

create or replace function private.lock_merge_rows(p_from uuid, p_into uuid) returns void
language plpgsql set search_path = '' as $$
declare
  v_now constant timestamptz := private.now();
begin
  -- a row that is missing is made in its turn: made later, it could close a circle of waiting calls
  for v_turn in 1..2 loop
    if (v_turn = 1) = (p_into < p_from) then
      perform private.lock_beginning(p_into);
      insert into public.user_streaks as s (
        user_id, last_active_date, timezone, version, expires_at, last_activity_at, longest_base, created_at, updated_at
      )
      select p_into, f.last_active_date, f.timezone,
        coalesce((select max(h.version) from public.streak_history h where h.user_id = p_into), 0),
        f.expires_at, coalesce(f.last_activity_at, v_now), f.longest_base, v_now, v_now
      from public.user_streaks f where f.user_id = p_from
      on conflict (user_id) do update set version = s.version where false;
      perform from public.user_streaks s where s.user_id = p_into for update;
    else
      perform private.lock_beginning(p_from);
      perform from public.user_streaks s where s.user_id = p_from for update;
    end if;
  end loop;
end
$$;
comment on function private.lock_merge_rows(uuid, uuid) is
  'Locks the rows of two users in order of their ids; one without a row who is to get days gets an empty one.';

create or replace function private.lock_merge(p_from uuid, p_into uuid) returns void
language plpgsql set search_path = '' as $$
declare
  v_patience constant text := current_setting('lock_timeout');
  v_found integer;
begin
  perform from auth.users u where u.id in (p_from, p_into) order by u.id for key share;
  get diagnostics v_found = row_count;
  if v_found < 2 then
    raise exception 'p_from, p_into: there is no such user' using errcode = '23503', detail = 'USER_NOT_FOUND';
  end if;
  -- Batches lock many users in ways of their own. A merge is rare and can wait: it lets go of everything and tries again
  -- long before PostgreSQL would look for a deadlock and end somebody's activity.
  for v_try in 1..20 loop
    begin
      perform set_config('lock_timeout', '100ms', true);
      perform private.lock_merge_rows(p_from, p_into);
      perform set_config('lock_timeout', v_patience, true);
      return;
    exception when lock_not_available then
      perform pg_sleep(random() * 0.05);
    end;
  end loop;
  perform private.raise_streak_error('CONCURRENT_MODIFICATION');
end
$$;
comment on function private.lock_merge(uuid, uuid) is
  'Locks two users, keys before rows, without ever holding up for long those who hold one of them.';

create or replace function private.merge_user_streaks(
  p_from uuid, p_into uuid, p_reason text, p_request_id text
) returns private.streak_answer
language plpgsql security definer set search_path = '' as $$
declare
  v_started_at constant timestamptz := clock_timestamp();
  v_request_id constant text := nullif(p_request_id, '');
  v_from public.user_streaks;
  v_into public.user_streaks;
  v_days date[];
  v_stored text;
  v_expires_at timestamptz;
  v_answer private.streak_answer;
begin
  if p_from is null or p_into is null then
    raise exception 'p_from, p_into: two user ids are required' using errcode = '22023', detail = 'USER_ID_REQUIRED';
  elsif p_from = p_into then
    raise exception 'p_into: the same user as p_from' using errcode = '22023', detail = 'USERS_SAME';
  elsif length(v_request_id) > 100 then
    perform private.raise_streak_error('REQUEST_ID_TOO_LONG');
  end if;
  perform private.check_reason(p_reason);
  v_answer := private.recorded_answer(p_into, v_request_id);
  if v_answer.success then
    return v_answer;
  end if;
  perform private.lock_merge(p_from, p_into);
  v_answer := private.recorded_answer(p_into, v_request_id); -- again, now that nobody else writes
  if v_answer.success then
    return v_answer;
  end if;
  select s.* into v_into from public.user_streaks s where s.user_id = p_into;
  select s.* into v_from from public.user_streaks s where s.user_id = p_from;
  if v_from.user_id is null then
    if v_into.user_id is not null and not exists (select from public.streak_days d where d.user_id = p_into) then
      perform private.raise_streak_error('CONCURRENT_MODIFICATION'); -- its streak went while this call made a row for it
    end if;
    select null, true, g.current_streak, g.longest_streak, g.last_active_date, 'STREAK_MAINTAINED',
      'There was nothing to merge.', g.timezone, g.version, g.expires_at, false
    into v_answer
    from public.get_user_streak(p_into) g;
    return v_answer;
  elsif v_into.user_id is null then
    perform private.raise_streak_error('CONCURRENT_MODIFICATION'); -- its streak began after this call had looked for it
  end if;

  with entered as (
    insert into public.streak_days as d (user_id, day, kind, activity_at, timezone)
    select p_into, f.day, f.kind, f.activity_at, f.timezone from public.streak_days f where f.user_id = p_from
    on conflict (user_id, day) do update
      set kind = excluded.kind, activity_at = excluded.activity_at, timezone = excluded.timezone
      where excluded.kind = 'active'
        and (d.kind <> 'active' or excluded.activity_at < coalesce(d.activity_at, 'infinity'))
        or excluded.kind = 'repaired' and d.kind = 'skipped'
    returning d.day
  )
  select array_agg(e.day) into v_days from entered e;
  if v_days is not null then
    perform private.bridge_gaps(array_fill(p_into, array[cardinality(v_days)]), v_days);
  end if;
  if v_from.last_activity_at > coalesce(v_into.last_activity_at, '-infinity') then
    v_stored := v_from.timezone;
  end if;
  -- a journey may have left a later expiry than the calendar alone gives: merging takes no time away
  v_expires_at := case
    when v_from.last_active_date = v_into.last_active_date and v_from.expires_at > v_into.expires_at then v_from.expires_at
    when v_from.last_active_date > v_into.last_active_date and v_from.expires_at
      > private.streak_expires_at(v_from.last_active_date, coalesce(v_stored, v_into.timezone)) then v_from.expires_at
  end;
  if v_expires_at is not null or v_from.longest_base > v_into.longest_base then
    perform private.touch_streak(
      p_into, format('took over from %s what its ledger does not say', p_from), v_started_at, null, null,
      v_from.longest_base, case when v_expires_at is not null then v_from.last_active_date end, v_expires_at
    );
  end if;
  select null, true, s.current_streak, s.longest_streak, s.last_active_date, s.change_type,
    'The days of both count as one user''s.', s.stored_timezone, s.version, s.expires_at, false
  into v_answer
  from private.settle_streaks(
    array[p_into], 'STREAK_IMPORTED', v_started_at, v_request_id, null, null, null, v_stored,
    format('merged from %s: %s', p_from, p_reason)
  ) s;
  perform private.drop_streak(v_from, format('merged into %s: %s', p_into, p_reason), v_started_at);
  -- what a mass repair gave can still be taken back, but not what p_into had by itself
  insert into private.streak_repair_users as r (repair_id, user_id, days)
  select f.repair_id, p_into, array_agg(d order by d) from private.streak_repair_users f, unnest(f.days) d
  where f.user_id = p_from and d = any (v_days)
  group by f.repair_id
  on conflict (repair_id, user_id) do update set days = array(select distinct unnest(r.days || excluded.days) order by 1);
  delete from private.streak_repair_users f where f.user_id = p_from;
  return v_answer;
end
$$;
comment on function private.merge_user_streaks(uuid, uuid, text, text) is 'The work of public.merge_user_streaks.';

create or replace function public.merge_user_streaks(
  p_from uuid, p_into uuid, p_reason text, p_request_id text default null
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
  from private.merge_user_streaks(p_from, p_into, p_reason, p_request_id) a;
end
$$;
comment on function public.merge_user_streaks(uuid, uuid, text, text) is
  'Gives the days of p_from to p_into: the union of both ledgers, active before repaired before skipped, of two active '
  'days the earlier instant. p_from keeps its history and has no streak afterwards. Merging again changes nothing.';

-- 5. Rights ---------------------------------------------------------------------------------------------------------------

revoke all on function
  private.check_reason(text), private.touch_streak(uuid, text, timestamptz, text, date, integer, date, timestamptz),
  private.drop_streak(public.user_streaks, text, timestamptz, text, date),
  private.correct_streak(public.user_streaks, text, timestamptz, text, date, text, boolean), private.continue_versions(),
  private.lock_beginning(uuid), private.lock_merge_rows(uuid, uuid), private.refuse_revival(),
  private.lock_merge(uuid, uuid), private.undo_user_activity(uuid, date, text, text),
  private.merge_user_streaks(uuid, uuid, text, text), public.undo_user_activity(uuid, date, text, text),
  public.merge_user_streaks(uuid, uuid, text, text)
from public, anon, authenticated, service_role;
grant execute on function
  private.undo_user_activity(uuid, date, text, text), public.undo_user_activity(uuid, date, text, text),
  private.merge_user_streaks(uuid, uuid, text, text), public.merge_user_streaks(uuid, uuid, text, text)
to service_role;
