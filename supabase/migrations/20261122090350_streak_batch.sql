-- Many activities in one call: what one activity does, for up to a thousand of them in one statement.

-- 1. The elements -----------------------------------------------------------------------------------------------------

create or replace function private.batch_elements(
  p_user_ids uuid[], p_timezones text[], p_request_ids text[], p_activity_ats timestamptz[]
) returns table (n integer, user_id uuid, timezone text, request_id text, at timestamptz)
language plpgsql stable set search_path = '' rows 1000 as $$
#variable_conflict use_column
declare
  v_now constant timestamptz := private.now();
begin
  return query
  select e.n::integer, e.user_id, e.timezone, nullif(e.request_id, ''), coalesce(e.at, v_now)
  from unnest(p_user_ids, p_timezones, p_request_ids, p_activity_ats) with ordinality e (user_id, timezone, request_id, at, n)
  where e.n <= cardinality(p_user_ids);
end
$$;
comment on function private.batch_elements(uuid[], text[], text[], timestamptz[]) is
  'The elements of a batch, numbered from 1. It tells the planner to expect many rows, which unnest() would not.';

-- 2. First activities -------------------------------------------------------------------------------------------------

create or replace function private.begin_streaks(
  p_user_ids uuid[], p_timezones text[], p_request_ids text[], p_activity_ats timestamptz[], p_started_at timestamptz
) returns table (n integer, answer private.streak_answer)
language plpgsql rows 100
-- The plan may be made for empty tables and is kept while they grow: look-ups by key, whatever their size. Hash joins, which
-- private.apply_together turns off, join what this statement made itself.
set search_path = '' set plan_cache_mode = force_generic_plan set enable_seqscan = off set enable_hashjoin = on as $$
#variable_conflict use_column
declare
  v_now constant timestamptz := private.now();
begin
  -- the users' keys before their rows, both in the one order in which everybody locks
  perform from auth.users u where u.id = any (p_user_ids) order by u.id for key share;
  return query
  with first as materialized (
    select distinct on (k.user_id) k.n, k.user_id, k.request_id, k.at, z.name as timezone, d.day,
      case when k.known is null then k.timezone end as ignored
    from (
      -- look-ups by key, one a column: as joins, a plan made for small tables would read them whole when they are large
      select e.*, (select k.name from private.streak_timezones k where k.key = lower(e.timezone)) as known,
        (select u.id from auth.users u where u.id = e.user_id) is not null
        and (select s.version from public.user_streaks s where s.user_id = e.user_id) is null
        and (select h.id from public.streak_history h
          where h.user_id = e.user_id and h.request_id = e.request_id and h.version is not null) is null
        and length(coalesce(e.request_id, '')) <= 100
        and e.at between v_now - interval '7 days' and v_now + interval '5 minutes' as begins
      from private.batch_elements(p_user_ids, p_timezones, p_request_ids, p_activity_ats) e
      offset 0
    ) k
    cross join lateral (select coalesce(k.known, private.default_timezone(k.user_id)) as name offset 0) z
    cross join lateral (select private.local_day(k.at, z.name) as day offset 0) d
    where k.begins
    order by k.user_id, k.n
  ),
  rows as (
    select f.user_id, (v_now < x.expires_at)::integer as current_streak, 1 as longest_streak, f.day, f.timezone,
      -- a row made anew goes on where the history of the old one ended
      1 + coalesce((select max(h.version) from public.streak_history h where h.user_id = f.user_id), 0) as version,
      1 as run_length, x.expires_at, f.at
    from first f cross join lateral (select private.streak_expires_at(f.day, f.timezone) as expires_at offset 0) x
    union all
    select s.user_id, 0, s.longest_streak, s.last_active_date, s.timezone, s.version, 0, s.expires_at, v_now
    from public.user_streaks s where s.user_id = any (p_user_ids)
  ),
  begun as (
    -- one statement makes the rows that are missing and locks those that are there, in that order
    insert into public.user_streaks as s (
      user_id, current_streak, longest_streak, last_active_date, timezone, version, created_at, updated_at, run_length,
      expires_at, last_activity_at, last_activity_timezone
    )
    select r.user_id, r.current_streak, r.longest_streak, r.day, r.timezone, r.version, v_now, v_now, r.run_length,
      r.expires_at, r.at, r.timezone
    from rows r order by r.user_id
    on conflict (user_id) do update set version = s.version where false
    returning s.*
  ),
  entered as (
    insert into public.streak_days (user_id, day, kind, activity_at, timezone)
    select b.user_id, b.last_active_date, 'active', b.last_activity_at, b.timezone from begun b
  ),
  recorded as (
    insert into public.streak_history (
      user_id, old_current_streak, new_current_streak, old_longest_streak, new_longest_streak, activity_date,
      change_type, timezone, version_before, version_after, request_id, created_at, duration_ms, version, activity_at,
      new_last_active_date, expires_at
    )
    select b.user_id, 0, b.current_streak, 0, 1, b.last_active_date, 'FIRST_ACTIVITY', b.timezone, b.version - 1,
      b.version, f.request_id, v_now, (extract(epoch from clock_timestamp() - p_started_at) * 1000)::integer, b.version,
      b.last_activity_at, b.last_active_date, b.expires_at
    from begun b join first f on f.user_id = b.user_id
  )
  select f.n, row(
    null, true, b.current_streak, 1, b.last_active_date, 'FIRST_ACTIVITY',
    private.streak_message('FIRST_ACTIVITY', 1, f.ignored, b.timezone),
    b.timezone, b.version, b.expires_at, false
  )::private.streak_answer
  from begun b join first f on f.user_id = b.user_id
  union all
  -- what was refused before it: judged later, its request id could be taken for the one just recorded
  select e.n, row(x.error, null, null, null, null, null, null, null, null, null, null)::private.streak_answer
  from begun b
  join first f on f.user_id = b.user_id
  join private.batch_elements(p_user_ids, p_timezones, p_request_ids, p_activity_ats) e
    on e.user_id = f.user_id and e.n < f.n
  cross join lateral (
    select case when length(e.request_id) > 100 then 'REQUEST_ID_TOO_LONG'
      when (select h.id from public.streak_history h
        where h.user_id = e.user_id and h.request_id = e.request_id and h.version is not null
      ) is not null then null
      when e.at > v_now + interval '5 minutes' then 'ACTIVITY_IN_FUTURE'
      when e.at < v_now - interval '7 days' then 'ACTIVITY_TOO_OLD'
    end as error offset 0
  ) x
  where x.error is not null;
end
$$;
comment on function private.begin_streaks(uuid[], text[], text[], timestamptz[], timestamptz) is
  'The first activities of a batch: of each user without a row the first element that is good, and the errors before it. '
  'Locks the other users'' rows, too, as rows are made and locked in one order.';

-- 3. All that one statement can do ------------------------------------------------------------------------------------

create or replace function private.apply_together(
  p_user_ids uuid[], p_timezones text[], p_request_ids text[], p_activity_ats timestamptz[]
) returns private.streak_answer[]
language plpgsql
-- look-ups by key, as in private.apply_activity
set search_path = '' set plan_cache_mode = force_generic_plan
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
  v_started_at constant timestamptz := clock_timestamp();
  v_now constant timestamptz := private.now();
  v_answers private.streak_answer[] := array_fill(null::private.streak_answer, array[cardinality(p_user_ids)]);
  v_begun integer[];  -- the elements that began streaks; null before anybody looked for users without one
  v_missing boolean;
  v_element record;
begin
  loop
    v_missing := false;
    for v_element in
      -- What nearly every element needs: the transition as private.apply_activity has it, for all of them in one statement.
      -- It reads without a lock, and writes where the row, when it is locked, is still the version that was read.
      with ranked as materialized (
        -- of each user the first element that is to write; what comes before it has nothing to write
        select d.*, min(d.n) filter (where d.error is null and d.change_type is distinct from 'STREAK_MAINTAINED')
          over (partition by d.user_id) as first_write
        from (
          select z.*, case when z.error is not null then null
              when z.kind = 'active' and z.stored = z.timezone then 'STREAK_MAINTAINED'
              when z.day = z.last_active_date + 1 then 'STREAK_INCREMENT'
              when z.day > z.last_active_date and z.at >= z.expires_at then 'STREAK_RESET'
            end as change_type
          from (
            select e.*, case when e.overtaken then e.timezone else z.zone end as stored, z.zone, d.day,
              case when d.day <= e.last_active_date then
                (select l.kind from public.streak_days l where l.user_id = e.user_id and l.day = d.day) end as kind
            from (
              select e.n, e.user_id, e.request_id, e.at, e.timezone as sent, s.ctid as place, s.current_streak,
                s.longest_streak, s.last_active_date, s.timezone, s.version, s.run_length, s.expires_at,
                s.last_activity_at, s.last_activity_timezone, coalesce(e.at < s.last_activity_at, false) as overtaken,
                case when e.timezone = s.timezone then e.timezone
                  else (select k.name from private.streak_timezones k where k.key = lower(e.timezone)) end as known,
                case when s.version is null then 'MISSING'
                  when length(e.request_id) > 100 then 'REQUEST_ID_TOO_LONG'
                  -- not by "exists", for which the planner may read the whole history into a hash table
                  when (select h.id from public.streak_history h
                    where h.user_id = e.user_id and h.request_id = e.request_id and h.version is not null
                  ) is not null then 'REPLAY'
                  when e.at > v_now + interval '5 minutes' then 'ACTIVITY_IN_FUTURE'
                  when e.at < v_now - interval '7 days' then 'ACTIVITY_TOO_OLD'
                end as error
              from private.batch_elements(p_user_ids, p_timezones, p_request_ids, p_activity_ats) e
              left join public.user_streaks s on s.user_id = e.user_id
              where v_begun is null or e.n <> all (v_begun)
              offset 0
            ) e
            cross join lateral (
              select case when e.error is not null then null
                when e.at >= e.last_activity_at then
                  case when e.at <= e.last_activity_at + interval '12 hours' then e.last_activity_timezone
                    else coalesce(e.known, e.timezone) end
                else coalesce(private.nearest_activity_timezone(e.user_id, e.at), e.known, e.timezone) end as zone offset 0
            ) z
            cross join lateral (select ((e.at at time zone z.zone) - private.day_start())::date as day offset 0) d
            offset 0
          ) z
          offset 0
        ) d
      ),
      locked as (
        -- whoever is to write, now or below: by user, so that two batches never wait for each other
        select r.*, case when r.change_type = 'STREAK_INCREMENT' then r.run_length + 1 else 1 end as new_run
        from ranked r
        join auth.users u on u.id = r.user_id join public.user_streaks s on s.ctid = r.place
        where r.n = r.first_write
          and not (v_begun is null and exists (select from ranked m where m.error = 'MISSING'))
        order by r.user_id for key share of u for update of s
      ),
      changed as (
        update public.user_streaks s
        set current_streak = case when v_now < x.new_expires_at then l.new_run else 0 end,
          longest_streak = greatest(s.longest_streak, l.new_run), last_active_date = l.day, timezone = l.stored,
          version = s.version + 1, updated_at = v_now, run_length = l.new_run, expires_at = x.new_expires_at,
          last_activity_at = case when l.overtaken then s.last_activity_at else l.at end,
          last_activity_timezone = case when l.overtaken then s.last_activity_timezone else l.zone end
        from locked l cross join lateral (select private.streak_expires_at(l.day, l.stored) as new_expires_at offset 0) x
        where s.ctid = l.place and s.user_id = l.user_id and s.version = l.version and l.change_type is not null
        returning s.*, l.n, l.day, l.zone, l.at, l.request_id, l.change_type, l.known, l.sent,
          l.current_streak as old_current_streak, l.longest_streak as old_longest_streak,
          l.last_active_date as old_last_active_date
      ),
      entered as (
        insert into public.streak_days (user_id, day, kind, activity_at, timezone)
        select c.user_id, c.day, 'active', c.at, c.zone from changed c
      ),
      recorded as (
        insert into public.streak_history (
          user_id, old_current_streak, new_current_streak, old_longest_streak, new_longest_streak, activity_date,
          last_active_date, change_type, timezone, version_before, version_after, request_id, created_at, duration_ms,
          version, activity_at, new_last_active_date, expires_at
        )
        select c.user_id, c.old_current_streak, c.current_streak, c.old_longest_streak, c.longest_streak, c.day,
          c.old_last_active_date, c.change_type, c.zone, c.version - 1, c.version, c.request_id, v_now,
          (extract(epoch from clock_timestamp() - v_started_at) * 1000)::integer, c.version, c.at, c.last_active_date,
          c.expires_at
        from changed c
      ),
      answered as (
        select c.n, row(
            null, true, c.current_streak, c.longest_streak, c.last_active_date, c.change_type,
            private.streak_message(c.change_type, c.current_streak, case when c.known is null then c.sent end, c.zone),
            c.zone, c.version, c.expires_at, false
          )::private.streak_answer as answer
        from changed c
        union all
        select r.n, case when r.error is not null then
            row(r.error, null, null, null, null, null, null, null, null, null, null)::private.streak_answer
          else row(
            null, true, case when v_now < r.expires_at then r.run_length else 0 end, r.longest_streak, r.last_active_date,
            r.change_type, private.streak_message(r.change_type, r.run_length, case when r.known is null then r.sent end, r.zone),
            r.zone, r.version, r.expires_at, false
          )::private.streak_answer end
        from ranked r
        where r.n < coalesce(r.first_write, r.n + 1) and coalesce(r.error, '') not in ('REPLAY', 'MISSING')
      )
      select a.n, a.answer from answered a
      union all
      (select 0, null from ranked r where r.error = 'MISSING' and v_begun is null limit 1)
    loop
      if v_element.n = 0 then
        v_missing := true;
      else
        v_answers[v_element.n] := v_element.answer;
      end if;
    end loop;
    exit when not v_missing;
    -- nothing is locked or written yet: first activities come first, then once more
    v_begun := '{}';
    for v_element in
      select b.n, b.answer from private.begin_streaks(p_user_ids, p_timezones, p_request_ids, p_activity_ats, v_started_at) b
    loop
      v_answers[v_element.n] := v_element.answer;
      v_begun := v_begun || v_element.n;
    end loop;
  end loop;

  -- The rest, one by one: late days, journeys, whoever was overtaken, and what follows a write of the same user.
  for v_element in
    select e.* from unnest(p_user_ids, p_timezones, p_request_ids, p_activity_ats) with ordinality
      e (user_id, timezone, request_id, activity_at, n)
    where v_answers[e.n] is null
    order by e.user_id, e.n
  loop
    v_answers[v_element.n] := private.apply_activity(
      v_element.user_id, v_element.timezone, v_element.request_id, v_element.activity_at
    );
  end loop;
  return v_answers;
end
$$;
comment on function private.apply_together(uuid[], text[], text[], timestamptz[]) is
  'The answers to the elements of a batch, in order: what private.apply_activity would say to each in turn. One row that '
  'disagrees with its ledger fails all of them.';

-- 4. Rows that disagree with their ledger -----------------------------------------------------------------------------

create or replace function private.mend_streak(p_user_id uuid) returns void
language plpgsql set search_path = '' as $$
declare
  v_started_at constant timestamptz := clock_timestamp();
begin
  -- the user's key before the streak row, as everybody takes them
  perform from auth.users u join public.user_streaks s on s.user_id = u.id
  where u.id = p_user_id
  for key share of u for update of s;
  -- whatever is written, the trigger of changes by hand goes on where the history ends
  update public.user_streaks s set version = s.version - 1
  where s.user_id = p_user_id
    and s.version < (select max(h.version) from public.streak_history h where h.user_id = p_user_id);
  perform private.settle_streaks(
    array[p_user_id], 'STREAK_REBUILT', v_started_at, p_reason => 'the row disagreed with its ledger'
  );
end
$$;
comment on function private.mend_streak(uuid) is
  'Brings a row that was put beside its ledger or its history past the triggers, such as by a partial restore, in line with both.';

create or replace function private.apply_mended(
  p_user_id uuid, p_timezone text, p_request_id text, p_activity_at timestamptz
) returns private.streak_answer
language plpgsql set search_path = '' as $$
declare
  v_answer private.streak_answer;
begin
  begin
    return private.apply_activity(p_user_id, p_timezone, p_request_id, p_activity_at);
  exception when unique_violation or check_violation or data_exception then
    perform private.mend_streak(p_user_id);
  end;
  return private.apply_activity(p_user_id, p_timezone, p_request_id, p_activity_at);
exception when unique_violation or check_violation or data_exception then
  v_answer.error := 'STREAK_DAMAGED';
  return v_answer;
end
$$;
comment on function private.apply_mended(uuid, text, text, timestamptz) is
  'What private.apply_activity says, once a row that fails it has been mended; STREAK_DAMAGED where that does not help.';

create or replace function private.apply_activities(
  p_user_ids uuid[], p_timezones text[], p_request_ids text[], p_activity_ats timestamptz[]
) returns private.streak_answer[]
language plpgsql security definer set search_path = '' as $$
declare
  v_answers private.streak_answer[] := array_fill(null::private.streak_answer, array[cardinality(p_user_ids)]);
  v_element record;
begin
  begin
    return private.apply_together(p_user_ids, p_timezones, p_request_ids, p_activity_ats);
  exception when unique_violation or check_violation or data_exception then
    null; -- one row disagrees with its ledger: nothing is written and nothing is locked, so each goes by itself
  end;
  for v_element in
    select e.* from unnest(p_user_ids, p_timezones, p_request_ids, p_activity_ats) with ordinality
      e (user_id, timezone, request_id, activity_at, n)
    where e.n <= cardinality(p_user_ids)
    order by e.user_id, e.n
  loop
    v_answers[v_element.n] := private.apply_mended(
      v_element.user_id, v_element.timezone, v_element.request_id, v_element.activity_at
    );
  end loop;
  return v_answers;
end
$$;
comment on function private.apply_activities(uuid[], text[], text[], timestamptz[]) is
  'The answers to the elements of a batch, in order. All at once; and one by one, in the one order in which everybody locks, '
  'where a row disagrees with its ledger.';

-- 5. The batch --------------------------------------------------------------------------------------------------------

create or replace function public.update_user_streaks_batch(
  p_user_ids uuid[],
  p_activity_ats timestamptz[] default null,
  p_timezones text[] default null,
  p_request_ids text[] default null
)
returns table (
  index integer, user_id uuid, error text,
  success boolean, current_streak integer, longest_streak integer, last_active_date date, change_type text, message text,
  timezone text, version integer, expires_at timestamptz, replayed boolean
)
language plpgsql set search_path = '' rows 100 as $$
#variable_conflict use_column
declare
  v_answers private.streak_answer[];
begin
  if cardinality(p_user_ids) > 1000 then
    raise exception 'p_user_ids: at most 1000 elements' using errcode = '22023', detail = 'BATCH_TOO_LARGE';
  elsif p_user_ids is null then
    raise exception 'p_user_ids: an array is required' using errcode = '22023', detail = 'USER_IDS_REQUIRED';
  elsif greatest(cardinality(p_activity_ats), cardinality(p_timezones), cardinality(p_request_ids))
      > cardinality(p_user_ids)
    or greatest(array_ndims(p_user_ids), array_ndims(p_activity_ats), array_ndims(p_timezones), array_ndims(p_request_ids))
      > 1 then
    raise exception 'p_activity_ats, p_timezones, p_request_ids: flat arrays, no longer than p_user_ids'
      using errcode = '22023', detail = 'ARRAYS_DIFFER';
  end if;
  v_answers := private.apply_activities(p_user_ids, p_timezones, p_request_ids, p_activity_ats);
  return query
    select (a.n - 1)::integer, a.id, a.error, coalesce(a.success, false), a.current_streak, a.longest_streak,
      a.last_active_date, a.change_type, a.message, a.timezone, a.version, a.expires_at, a.replayed
    from unnest(p_user_ids, v_answers) with ordinality a (
      id, error, success, current_streak, longest_streak, last_active_date, change_type, message, timezone, version,
      expires_at, replayed, n
    )
    order by a.n;
end
$$;
comment on function public.update_user_streaks_batch(uuid[], timestamptz[], text[], text[]) is
  'Counts up to 1000 activities in one call: one row each, in order, index from 0. A bad element gets a code in error and '
  'harms no other. A shorter or null array means defaults.';

-- 6. Rights -----------------------------------------------------------------------------------------------------------

revoke all on function public.update_user_streaks_batch(uuid[], timestamptz[], text[], text[])
from public, anon, authenticated, service_role;
grant execute on function public.update_user_streaks_batch(uuid[], timestamptz[], text[], text[]) to service_role;
