-- What one activity does to a streak: the transition of the streak rules, and the function that callers use.

-- 1. The answer ------------------------------------------------------------------------------------------------------

do $$
begin
  if to_regtype('private.streak_answer') is null then
    create type private.streak_answer as (
      error text,
      success boolean,
      current_streak integer,
      longest_streak integer,
      last_active_date date,
      change_type text,
      message text,
      timezone text,
      version integer,
      expires_at timestamptz,
      replayed boolean
    );
  end if;
end
$$;
comment on type private.streak_answer is 'The answer to one activity, or the code of the error that kept it out.';

create or replace function private.raise_streak_error(p_code text) returns void
language plpgsql set search_path = '' as $$
begin
  -- standard SQLSTATEs and PTxyz alone reach every client unchanged; the word in DETAIL tells them apart
  case p_code
    when 'USER_ID_REQUIRED' then
      raise exception 'p_user_id: a user id is required' using errcode = '22023', detail = p_code;
    when 'USER_NOT_FOUND' then
      raise exception 'p_user_id: there is no such user' using errcode = '23503', detail = p_code;
    when 'REQUEST_ID_TOO_LONG' then
      raise exception 'p_request_id: at most 100 characters' using errcode = '22023', detail = p_code;
    when 'ACTIVITY_IN_FUTURE' then
      raise exception 'p_activity_at: more than 5 minutes in the future' using errcode = '22023', detail = p_code;
    when 'ACTIVITY_TOO_OLD' then
      raise exception 'p_activity_at: older than 7 days' using errcode = '22023', detail = p_code,
        hint = 'import_user_activity takes activities of any age.';
    else
      raise exception 'the streak was changed at the same time' using errcode = 'PT409', detail = p_code,
        hint = 'Call again with the same request id.';
  end case;
end
$$;
comment on function private.raise_streak_error(text) is 'The one place where a code of the update becomes an error.';

create or replace function private.streak_message(
  p_change_type text, p_current_streak integer, p_ignored_timezone text default null, p_timezone text default null
) returns text
language plpgsql immutable set search_path = '' as $$
begin
  return case p_change_type
      when 'FIRST_ACTIVITY' then 'First activity: a streak begins.'
      when 'STREAK_INCREMENT' then case when p_current_streak > 0 then format('Day %s of the streak.', p_current_streak)
        else 'The day counts; the streak has lapsed since.' end
      when 'STREAK_MAINTAINED' then 'This day already counts.'
      when 'STREAK_RESET' then 'A day was missed: a new streak begins.'
      when 'STREAK_RECOVERED' then 'A missing day joined the streak.'
      when 'STREAK_REBUILT' then 'Counted anew from the ledger.'
      else p_change_type
    end
    || case when p_ignored_timezone is null then '' else
      format(' Time zone "%s" is unknown and was ignored; %s decided the day.', left(p_ignored_timezone, 64), p_timezone) end;
end
$$;
comment on function private.streak_message(text, integer, text, text) is 'What happened, for people.';

-- 2. The first answer to a request ------------------------------------------------------------------------------------

create or replace function private.recorded_answer(p_user_id uuid, p_request_id text) returns private.streak_answer
language plpgsql stable set search_path = '' as $$
declare
  v_answer private.streak_answer;
begin
  select null, true, h.new_current_streak, h.new_longest_streak, h.new_last_active_date, h.change_type,
    private.streak_message(h.change_type, h.new_current_streak), h.timezone, h.version_after, h.expires_at, true
  into v_answer
  from public.streak_history h
  where h.user_id = p_user_id and h.request_id = p_request_id and h.request_id is not null and h.version is not null;
  return v_answer;
end
$$;
comment on function private.recorded_answer(uuid, text) is
  'The first answer to a request that wrote (rule 5), or null.';

-- 3. The zone of an activity ------------------------------------------------------------------------------------------

create or replace function private.nearest_activity_timezone(p_user_id uuid, p_at timestamptz) returns text
language plpgsql stable set search_path = '' as $$
begin
  return (
    select d.timezone from public.streak_days d
    where d.user_id = p_user_id
      -- no zone is more than 14 hours from UTC: this bounds the scan of the primary key
      and d.day between (p_at at time zone 'UTC')::date - 2 and (p_at at time zone 'UTC')::date + 2
      and d.activity_at between p_at - interval '12 hours' and p_at + interval '12 hours'
    order by abs(extract(epoch from d.activity_at - p_at)), d.activity_at, d.day desc
    limit 1
  );
end
$$;
comment on function private.nearest_activity_timezone(uuid, timestamptz) is
  'The zone of the nearest activity within 12 hours that entered a day (rule 6), or null.';

create or replace function private.default_timezone(p_user_id uuid) returns text
language plpgsql stable security definer set search_path = '' as $$
begin
  return coalesce(
    (select private.known_timezone(p.timezone) from private.streak_profiles p where p.user_id = p_user_id limit 1), 'UTC'
  );
end
$$;
comment on function private.default_timezone(uuid) is 'The profile''s zone, else UTC: for a user without a streak.';

-- 4. The transition --------------------------------------------------------------------------------------------------

create or replace function private.begin_streak(
  p_user_id uuid, p_day date, p_timezone text, p_request_id text, p_activity_at timestamptz, p_started_at timestamptz
) returns private.streak_answer
language plpgsql set search_path = '' as $$
declare
  v_now constant timestamptz := private.now();
  v_answer private.streak_answer;
begin
  with begun as (
    insert into public.user_streaks as s (
      user_id, current_streak, longest_streak, last_active_date, timezone, version, created_at, updated_at, run_length,
      expires_at, last_activity_at, last_activity_timezone
    )
    select p_user_id, (v_now < e.expires_at)::integer, 1, p_day, p_timezone,
      -- a row made anew goes on where the history of the old one ended
      1 + coalesce((select max(h.version) from public.streak_history h where h.user_id = p_user_id), 0),
      v_now, v_now, 1, e.expires_at, p_activity_at, p_timezone
    from (select private.streak_expires_at(p_day, p_timezone) as expires_at) e
    on conflict (user_id) do nothing
    returning s.*
  ),
  entered as (
    insert into public.streak_days (user_id, day, kind, activity_at, timezone)
    select b.user_id, p_day, 'active', p_activity_at, p_timezone from begun b
  )
  insert into public.streak_history (
    user_id, old_current_streak, new_current_streak, old_longest_streak, new_longest_streak, activity_date,
    change_type, timezone, version_before, version_after, request_id, created_at, duration_ms, version, activity_at,
    new_last_active_date, expires_at
  )
  select b.user_id, 0, b.current_streak, 0, 1, p_day, 'FIRST_ACTIVITY', p_timezone, b.version - 1, b.version, p_request_id,
    v_now, (extract(epoch from clock_timestamp() - p_started_at) * 1000)::integer, b.version, p_activity_at, p_day,
    b.expires_at
  from begun b
  returning true, new_current_streak, 1, p_day, version_after, expires_at
  into v_answer.success, v_answer.current_streak, v_answer.longest_streak, v_answer.last_active_date, v_answer.version,
    v_answer.expires_at;
  return v_answer;
end
$$;
comment on function private.begin_streak(uuid, date, text, text, timestamptz, timestamptz) is
  'The first activity of a user. An empty answer means that another first call was faster.';

create or replace function private.enter_late_day(
  p_user_id uuid, p_day date, p_timezone text, p_stored_timezone text, p_request_id text, p_activity_at timestamptz,
  p_started_at timestamptz
) returns private.streak_answer
language plpgsql set search_path = '' as $$
declare
  v_answer private.streak_answer;
begin
  insert into public.streak_days as d (user_id, day, kind, activity_at, timezone)
  values (p_user_id, p_day, 'active', p_activity_at, p_timezone)
  on conflict (user_id, day) do update
    set kind = 'active', activity_at = excluded.activity_at, timezone = excluded.timezone where d.kind <> 'active';
  perform private.bridge_gaps(array[p_user_id], array[p_day]);
  select true, s.current_streak, s.longest_streak, s.last_active_date, s.change_type, s.version, s.expires_at
  into v_answer.success, v_answer.current_streak, v_answer.longest_streak, v_answer.last_active_date,
    v_answer.change_type, v_answer.version, v_answer.expires_at
  from private.settle_streaks(
    array[p_user_id], null, p_started_at, p_request_id, p_activity_at, p_day, p_timezone, p_stored_timezone
  ) s;
  return v_answer;
end
$$;
comment on function private.enter_late_day(uuid, date, text, text, text, timestamptz, timestamptz) is
  'A day behind the last one, or one that was only covered: it never resets and never lowers anything.';

create or replace function private.apply_activity(
  p_user_id uuid, p_timezone text, p_request_id text, p_activity_at timestamptz
) returns private.streak_answer
language plpgsql security definer
-- Every statement here is a look-up by key. Planning one anew for a null would cost more than running it; and a plan that was
-- made for a table of a few rows would read it whole when it has grown, until it is analyzed.
set search_path = '' set plan_cache_mode = force_generic_plan set enable_seqscan = off as $$
declare
  v_started_at constant timestamptz := clock_timestamp();
  v_now constant timestamptz := private.now();
  v_at constant timestamptz := coalesce(p_activity_at, v_now);
  v_request_id constant text := nullif(p_request_id, '');
  v_row record;         -- the row as it was read
  v_locked boolean := false;
  v_same boolean;       -- the ledger was read beside the same version of the row
  v_known text;         -- the zone sent, as the server spells it; null if none was sent, or one that is none
  v_zone text;          -- the zone that decides the day
  v_stored text;        -- the zone to store
  v_overtaken boolean;  -- a counted activity is later: the stored zone stays
  v_day date;
  v_kind text;          -- what the ledger has for the day
  v_keeps boolean;      -- the new day continues the run
  v_run integer;
  v_type text;
  v_expires_at timestamptz;
  v_answer private.streak_answer;
begin
  if p_user_id is null then
    v_answer.error := 'USER_ID_REQUIRED';
    return v_answer;
  elsif length(v_request_id) > 100 then
    v_answer.error := 'REQUEST_ID_TOO_LONG';
    return v_answer;
  end if;

  -- First without a lock: what has nothing to write ends there, and a new day is written if the row, when it is locked, is
  -- still the version that was read. Everything else, and whoever was overtaken, is decided again with the lock held.
  for v_try in 1..4 loop
    v_type := null;
    if v_try > 1 then
      -- the user's key before the streak row, as the deletion of a user takes them
      perform from auth.users u join public.user_streaks s on s.user_id = u.id
      where u.id = p_user_id
      for key share of u for update of s;
      v_locked := found;
    end if;
    select s.current_streak, s.longest_streak, s.last_active_date, s.timezone::text as timezone, s.version, s.run_length,
      s.expires_at, s.last_activity_at, s.last_activity_timezone::text as last_activity_timezone,
      (select h.id from public.streak_history h
       where h.user_id = p_user_id and h.request_id = v_request_id and h.version is not null) as recorded
    into v_row
    from public.user_streaks s where s.user_id = p_user_id;

    -- A replay comes before the checks of time: a retry may arrive long after its first try.
    if v_row.recorded is not null or (v_row.version is null and v_request_id is not null) then
      v_answer := private.recorded_answer(p_user_id, v_request_id);
      if v_answer.success then
        return v_answer;
      end if;
    end if;
    if v_at > v_now + interval '5 minutes' then
      v_answer.error := 'ACTIVITY_IN_FUTURE';
      return v_answer;
    elsif v_at < v_now - interval '7 days' then
      v_answer.error := 'ACTIVITY_TOO_OLD';
      return v_answer;
    end if;

    -- The zone and the day.
    v_known := case when p_timezone = v_row.timezone then p_timezone else private.known_timezone(p_timezone) end;
    v_zone := case
      when v_row.version is null then coalesce(v_known, private.default_timezone(p_user_id))
      when v_at >= v_row.last_activity_at then
        case when v_at <= v_row.last_activity_at + interval '12 hours' then v_row.last_activity_timezone
          else coalesce(v_known, v_row.timezone) end
      else coalesce(private.nearest_activity_timezone(p_user_id, v_at), v_known, v_row.timezone)
    end;
    v_day := private.local_day(v_at, v_zone);

    -- The user's first activity.
    if v_row.version is null then
      perform from auth.users u where u.id = p_user_id for key share;
      if not found then
        v_answer.error := 'USER_NOT_FOUND';
        return v_answer;
      end if;
      v_answer := private.begin_streak(p_user_id, v_day, v_zone, v_request_id, v_at, v_started_at);
      continue when v_answer.success is null; -- another first call was faster: decide again, on what it wrote
      v_type := 'FIRST_ACTIVITY';
      exit;
    end if;

    v_overtaken := coalesce(v_at < v_row.last_activity_at, false);
    v_stored := case when v_overtaken then v_row.timezone else v_zone end;
    v_kind := null;
    if v_day <= v_row.last_active_date then
      select d.kind, s.version = v_row.version into v_kind, v_same
      from public.user_streaks s left join public.streak_days d on d.user_id = s.user_id and d.day = v_day
      where s.user_id = p_user_id;
      continue when v_same is distinct from true;
    end if;
    if v_kind = 'active' and v_stored = v_row.timezone then
      -- counted already, and the zone stays: nothing to write
      v_type := 'STREAK_MAINTAINED';
      exit;
    end if;

    if v_kind = 'active' then
      -- a journey: the day stays, the zone moves
      v_type := 'STREAK_MAINTAINED';
      v_run := v_row.run_length;
      v_expires_at := greatest(v_row.expires_at, private.streak_expires_at(v_row.last_active_date, v_stored));
    elsif v_day > v_row.last_active_date then
      v_keeps := v_day = v_row.last_active_date + 1 or v_at < v_row.expires_at;
      v_type := case when v_keeps then 'STREAK_INCREMENT' else 'STREAK_RESET' end;
      v_run := case when v_keeps then v_row.run_length + 1 else 1 end;
      v_expires_at := private.streak_expires_at(v_day, v_stored);
      if v_keeps and v_day > v_row.last_active_date + 1 then
        continue when not v_locked;
        insert into public.streak_days (user_id, day, kind, timezone)
        select p_user_id, v_row.last_active_date + n, 'skipped', v_zone
        from generate_series(1, v_day - v_row.last_active_date - 1) n;
      end if;
    else
      continue when not v_locked;
      v_answer := private.enter_late_day(
        p_user_id, v_day, v_zone, v_stored, v_request_id, v_at, v_started_at
      );
      v_type := v_answer.change_type;
      exit;
    end if;

    -- Lock, row, ledger and history in one statement. The ledger's primary key has the last word: a day that is there already
    -- fails the whole call. The version is the one that was read, or nothing is written.
    with locked as (
      select s.user_id from auth.users u join public.user_streaks s on s.user_id = u.id
      where u.id = p_user_id and s.version = v_row.version
      for key share of u for update of s
    ),
    changed as (
      update public.user_streaks s
      set current_streak = case when v_now < v_expires_at then v_run else 0 end,
        longest_streak = greatest(s.longest_streak, v_run),
        last_active_date = greatest(s.last_active_date, v_day),
        timezone = v_stored, version = s.version + 1, updated_at = v_now, run_length = v_run, expires_at = v_expires_at,
        last_activity_at = case when v_kind is null and not v_overtaken then v_at else s.last_activity_at end,
        last_activity_timezone = case when v_kind is null and not v_overtaken then v_zone
          else s.last_activity_timezone end
      from locked l where s.user_id = l.user_id and s.version = v_row.version
      returning s.user_id, s.current_streak, s.longest_streak, s.last_active_date, s.version
    ),
    entered as (
      insert into public.streak_days (user_id, day, kind, activity_at, timezone)
      select c.user_id, v_day, 'active', v_at, v_zone from changed c where v_kind is null
    )
    insert into public.streak_history (
      user_id, old_current_streak, new_current_streak, old_longest_streak, new_longest_streak, activity_date,
      last_active_date, change_type, timezone, version_before, version_after, request_id, created_at, duration_ms,
      version, activity_at, new_last_active_date, expires_at
    )
    select c.user_id, v_row.current_streak, c.current_streak, v_row.longest_streak, c.longest_streak, v_day,
      v_row.last_active_date, v_type, v_zone, v_row.version, c.version, v_request_id, v_now,
      (extract(epoch from clock_timestamp() - v_started_at) * 1000)::integer, c.version, v_at, c.last_active_date,
      v_expires_at
    from changed c
    returning new_current_streak, new_longest_streak, new_last_active_date, version_after
    into v_answer.current_streak, v_answer.longest_streak, v_answer.last_active_date, v_answer.version;
    continue when not found;
    v_answer.success := true;
    v_answer.expires_at := v_expires_at;
    exit;
  end loop;

  if v_type is null then
    v_answer.error := 'CONCURRENT_MODIFICATION';
    return v_answer;
  elsif v_answer.success is null then
    v_answer.success := true;
    v_answer.current_streak := case when v_now < v_row.expires_at then v_row.run_length else 0 end;
    v_answer.longest_streak := v_row.longest_streak;
    v_answer.last_active_date := v_row.last_active_date;
    v_answer.version := v_row.version;
    v_answer.expires_at := v_row.expires_at;
  end if;
  v_answer.change_type := v_type;
  v_answer.message := private.streak_message(
    v_type, v_answer.current_streak, case when v_known is null then p_timezone end, v_zone
  );
  v_answer.timezone := v_zone;
  v_answer.replayed := false;
  return v_answer;
end
$$;
comment on function private.apply_activity(uuid, text, text, timestamptz) is
  'The transition of one activity (rules 1 to 7). Returns bad input as a code instead of raising it, so that a batch needs '
  'no subtransactions.';

-- 5. One activity -----------------------------------------------------------------------------------------------------

create or replace function public.update_user_streak_atomic(
  p_user_id uuid, p_timezone text default null, p_request_id text default null, p_activity_at timestamptz default null
)
returns table (
  success boolean, current_streak integer, longest_streak integer, last_active_date date, change_type text, message text,
  timezone text, version integer, expires_at timestamptz, replayed boolean
)
language plpgsql set search_path = '' rows 1 as $$
#variable_conflict use_column
declare
  v_now constant timestamptz := private.now();
  v_at constant timestamptz := coalesce(p_activity_at, v_now);
  v_answer private.streak_answer;
begin
  -- A short cut for nearly every repeat: on the local day of the latest counted activity, within the 12 hours in which
  -- that one's zone decides. Rule 1 stands written out here, as calls of private.local_day would double the cost.
  return query
  select true, case when v_now < s.expires_at then s.run_length else 0 end, s.longest_streak, s.last_active_date,
    'STREAK_MAINTAINED', 'This day already counts.', s.timezone::text, s.version, s.expires_at, false
  from public.user_streaks s
  where s.user_id = p_user_id and v_at between s.last_activity_at and s.last_activity_at + interval '12 hours'
    and v_at between v_now - interval '7 days' and v_now + interval '5 minutes'
    and s.timezone = s.last_activity_timezone and coalesce(p_timezone = s.timezone, true)
    and ((v_at at time zone s.timezone) - private.day_start())::date
      = ((s.last_activity_at at time zone s.timezone) - private.day_start())::date
    and (nullif(p_request_id, '') is null
      or (select h.id from public.streak_history h
          where h.user_id = p_user_id and h.request_id = p_request_id and h.version is not null) is null
        and length(p_request_id) <= 100);
  if found then
    return;
  end if;
  v_answer := private.apply_activity(p_user_id, p_timezone, p_request_id, p_activity_at);
  if v_answer.error is not null then
    perform private.raise_streak_error(v_answer.error);
  end if;
  success := v_answer.success;
  current_streak := v_answer.current_streak;
  longest_streak := v_answer.longest_streak;
  last_active_date := v_answer.last_active_date;
  change_type := v_answer.change_type;
  message := v_answer.message;
  timezone := v_answer.timezone;
  version := v_answer.version;
  expires_at := v_answer.expires_at;
  replayed := v_answer.replayed;
  return next;
end
$$;
comment on function public.update_user_streak_atomic(uuid, text, text, timestamptz) is
  'Counts an activity of a user. Safe to repeat: a day counts once, and a request id gets its first answer again. '
  'Errors: 22023 for bad input and 23503 for an unknown user, with a stable word in DETAIL; PT409: call again.';

-- 6. Rights -----------------------------------------------------------------------------------------------------------

revoke all on function public.update_user_streak_atomic(uuid, text, text, timestamptz)
from public, anon, authenticated, service_role;
grant execute on function public.update_user_streak_atomic(uuid, text, text, timestamptz) to service_role;
