-- Why a streak is what it is: which local day, which zone and which rule made it so, in plain words with the evidence.

-- 1. Words ----------------------------------------------------------------------------------------------------------------

create or replace function private.said_days(p_days integer) returns text
language plpgsql immutable set search_path = '' as $$
begin
  return p_days || case when p_days = 1 then ' day' else ' days' end;
end
$$;
comment on function private.said_days(integer) is 'A number of days in words.';

create or replace function private.said_list(p_days date[]) returns text
language plpgsql immutable set search_path = '' as $$
begin
  return array_to_string(p_days[1:5], ', ') || case when cardinality(p_days) > 5
    then format(' and %s more', cardinality(p_days) - 5) else '' end;
end
$$;
comment on function private.said_list(date[]) is 'Some dates in words.';

create or replace function private.said_at(p_at timestamptz, p_timezone text) returns text
language plpgsql stable set search_path = '' as $$
begin
  return to_char(p_at at time zone p_timezone, 'YYYY-MM-DD HH24:MI:SS') || ' ' || p_timezone;
end
$$;
comment on function private.said_at(timestamptz, text) is 'An instant as the clocks of a zone show it.';

-- 2. Evidence -------------------------------------------------------------------------------------------------------------

create or replace function private.ledger_runs(p_user_id uuid)
returns table (
  first_day date, last_day date, length integer, skipped date[], repaired date[], timezones text[],
  first_activity_at timestamptz, last_timezone text
)
language plpgsql stable set search_path = '' rows 10 as $$
#variable_conflict use_column
begin
  return query
  select min(d.day), max(d.day), (count(*) filter (where d.kind <> 'skipped'))::integer,
    coalesce(array_agg(d.day order by d.day) filter (where d.kind = 'skipped'), '{}'),
    coalesce(array_agg(d.day order by d.day) filter (where d.kind = 'repaired'), '{}'),
    array_agg(distinct d.timezone::text), (array_agg(d.activity_at order by d.day))[1],
    (array_agg(d.timezone::text order by d.day desc))[1]
  from (
    select l.*, l.day - (row_number() over (order by l.day))::integer as run
    from public.streak_days l where l.user_id = p_user_id
  ) d
  group by d.run
  order by max(d.day) desc;
end
$$;
comment on function private.ledger_runs(uuid) is 'The runs of a ledger that the caller may see, the latest first.';

create or replace function private.full_history(p_user_id uuid)
returns setof public.streak_history
language plpgsql stable set search_path = '' rows 100 as $$
begin
  return query
  select h.* from public.streak_history h where h.user_id = p_user_id
  union all
  select a.* from public.streak_history_archive a where a.user_id = p_user_id;
end
$$;
comment on function private.full_history(uuid) is 'The history that the caller may see, the archived part of it too.';

-- 3. Sentences ------------------------------------------------------------------------------------------------------------

create or replace function private.explain_run(p_user_id uuid) returns text[]
language plpgsql stable set search_path = '' as $$
declare
  v_run record;
  v_said text[] := array[]::text[];
begin
  select r.* into v_run from private.ledger_runs(p_user_id) r limit 1;
  if v_run.first_day is null then
    return array['The ledger holds no day, though the row says there was one: run rebuild_user_streak (rule 2).'];
  end if;
  v_said := v_said || format(
    'The unbroken run goes from %s to %s and counts %s (rule 2).', v_run.first_day, v_run.last_day,
    private.said_days(v_run.length)
  );
  if v_run.skipped <> '{}' then
    v_said := v_said || format(
      'Covered without counting: %s. A journey jumped over it, or the zone never had that date (rule 3).',
      private.said_list(v_run.skipped)
    );
  end if;
  if v_run.repaired <> '{}' then
    v_said := v_said || format('Entered by an operator, and counted: %s (rule 2).', private.said_list(v_run.repaired));
  end if;
  if cardinality(v_run.timezones) > 1 then
    v_said := v_said || format('Its days were decided in several zones: %s (rule 6).', array_to_string(v_run.timezones, ', '));
  end if;
  return v_said;
end
$$;
comment on function private.explain_run(uuid) is 'What the current run is made of.';

create or replace function private.explain_zone(p_row public.user_streaks) returns text
language plpgsql stable set search_path = '' as $$
begin
  if p_row.last_activity_at is null then
    return format('Days are those of %s, the stored zone; no counted day has a known instant.', p_row.timezone);
  elsif p_row.timezone = p_row.last_activity_timezone then
    return format(
      'Days are those of %s: the zone that decided the latest counted activity, at %s (rule 6).', p_row.timezone,
      private.said_at(p_row.last_activity_at, p_row.timezone)
    );
  end if;
  return format(
    'Days are those of %s: a later activity on a day already counted came from there. The latest counted activity, at %s, '
    'was decided by %s (rule 6).', p_row.timezone,
    private.said_at(p_row.last_activity_at, p_row.last_activity_timezone), p_row.last_activity_timezone
  );
end
$$;
comment on function private.explain_zone(public.user_streaks) is 'Which zone decides, and why.';

create or replace function private.explain_lapse(p_row public.user_streaks, p_today date) returns text
language plpgsql stable set search_path = '' as $$
declare
  v_at constant text := private.said_at(p_row.expires_at, p_row.timezone);
begin
  if p_row.run_length = 0 then
    return 'No day of the run counts.';
  elsif private.now() >= p_row.expires_at then
    return format(
      'It lapsed at %s: after %s nothing counted up to the end of %s (rule 7).', v_at, p_row.last_active_date,
      private.local_day(p_row.expires_at - interval '1 microsecond', p_row.timezone)
    );
  elsif p_row.last_active_date >= p_today then
    return format('Today, %s, counts already. The streak lapses at %s unless an activity comes before (rule 7).', p_today, v_at);
  end if;
  return format('Today, %s, does not count yet. The streak lapses at %s unless an activity comes before (rule 7).', p_today, v_at);
end
$$;
comment on function private.explain_lapse(public.user_streaks, date) is 'When the streak lapses, or why it has.';

create or replace function private.explain_break(p_user_id uuid) returns text[]
language plpgsql stable set search_path = '' as $$
declare
  v_run record;
  v_old record;
  v_due timestamptz;
  v_said text[];
begin
  select r.* into v_run from private.ledger_runs(p_user_id) r limit 1;
  select r.* into v_old from private.ledger_runs(p_user_id) r offset 1 limit 1;
  if v_old.first_day is null then
    return array[]::text[];
  end if;
  -- what was written at the time knows of journeys on the last day; the calendar alone does not
  v_due := coalesce(
    (select h.expires_at from private.full_history(p_user_id) h
     where h.new_last_active_date = v_old.last_day and h.expires_at is not null order by h.version desc limit 1),
    private.streak_expires_at(v_old.last_day, v_old.last_timezone)
  );
  v_said := array[format(
    'The run before it counted %s and ended on %s: nothing counted from %s to %s (%s), and it lapsed at %s.',
    private.said_days(v_old.length), v_old.last_day, v_old.last_day + 1, v_run.first_day - 1,
    private.said_days(v_run.first_day - v_old.last_day - 1), private.said_at(v_due, v_old.last_timezone)
  )];
  if v_run.first_activity_at >= v_due then
    v_said := v_said || format(
      'The next activity, at %s, came after that and began a new run (rule 3).',
      private.said_at(v_run.first_activity_at, v_old.last_timezone)
    );
  end if;
  return v_said || array(
    select format('On %s an operator changed %s: %s.', h.created_at::date, h.activity_date, h.reason)
    from private.full_history(p_user_id) h
    where h.reason is not null and h.activity_date between v_old.last_day + 1 and v_run.first_day - 1
    order by h.version desc limit 3
  );
end
$$;
comment on function private.explain_break(uuid) is 'Why the run before the current one ended.';

create or replace function private.explain_numbers(p_row public.user_streaks) returns text[]
language plpgsql stable set search_path = '' as $$
declare
  v_longest integer;
  v_length integer;
  v_best record;
begin
  select max(r.length), (array_agg(r.length order by r.last_day desc))[1] into v_longest, v_length
  from private.ledger_runs(p_row.user_id) r;
  select r.* into v_best from private.ledger_runs(p_row.user_id) r order by r.length desc, r.last_day desc limit 1;
  return case
      when v_longest is null then '{}'::text[]
      when p_row.longest_streak = v_longest then array[format(
        'The longest streak, %s, went from %s to %s.', private.said_days(v_longest), v_best.first_day, v_best.last_day
      )]
      when p_row.longest_streak = p_row.longest_base then array[format(
        'The longest streak, %s, is kept from before the ledger, or from a repair undone since; the ledger''s best run has %s.',
        private.said_days(p_row.longest_streak), private.said_days(v_longest)
      )]
      else array['The longest streak does not agree with the ledger: run rebuild_user_streak (rule 2).']
    end
    || case when v_length <> p_row.run_length
      then array['The row does not agree with the ledger: run rebuild_user_streak (rule 2).'] else '{}'::text[] end;
end
$$;
comment on function private.explain_numbers(public.user_streaks) is 'Where the longest streak comes from, and whether row and ledger agree.';

-- 4. The explanation ------------------------------------------------------------------------------------------------------

create or replace function private.deciding_rule(p_row public.user_streaks, p_change_type text, p_reason text) returns integer
language plpgsql stable set search_path = '' as $$
begin
  return case
    when private.now() >= p_row.expires_at or p_change_type = 'STREAK_LAPSED' then 7
    when p_change_type = 'STREAK_MAINTAINED' then 6
    when p_reason is not null or p_change_type in ('STREAK_IMPORTED', 'STREAK_REBUILT') then 2
    else 3
  end;
end
$$;
comment on function private.deciding_rule(public.user_streaks, text, text) is
  'The number of the rule that made the streak what it is: 2 ledger and corrections, 3 transition, 6 zone, 7 lapse.';

create or replace function public.explain_user_streak(p_user_id uuid)
returns table (
  current_streak integer, longest_streak integer, version integer, timezone text, today date, rule integer,
  first_day date, last_day date, skipped_days date[], repaired_days date[], expires_at timestamptz,
  explanation text[], history jsonb
)
language plpgsql stable set search_path = '' rows 1 as $$
#variable_conflict use_column
declare
  v_row public.user_streaks;
  v_today date;
  v_last record;
  v_history jsonb;
begin
  if p_user_id is null then
    perform private.raise_streak_error('USER_ID_REQUIRED');
  end if;
  select s.* into v_row from public.user_streaks s where s.user_id = p_user_id;
  select coalesce(jsonb_agg(to_jsonb(h) order by h.id desc), '[]') into v_history
  from (select f.* from private.full_history(p_user_id) f order by f.id desc limit 10) h;
  if v_row.user_id is null then
    return query select 0, 0, 0, private.own_default_timezone(p_user_id), null::date, 3, null::date, null::date, '{}'::date[],
      '{}'::date[], null::timestamptz, array['There is no streak: the first activity begins one (rule 3).']
      || array(select format('On %s: %s.', h ->> 'created_at', h ->> 'reason') from jsonb_array_elements(v_history) h
               where h ->> 'reason' is not null limit 1), v_history;
    return;
  end if;
  v_today := private.local_day(private.now(), v_row.timezone);
  select h.change_type, h.reason into v_last from private.full_history(p_user_id) h order by h.id desc limit 1;
  return query
  select case when private.now() < v_row.expires_at then v_row.run_length else 0 end, v_row.longest_streak, v_row.version,
    v_row.timezone::text, v_today, private.deciding_rule(v_row, v_last.change_type, v_last.reason), r.first_day,
    v_row.last_active_date, coalesce(r.skipped, '{}'), coalesce(r.repaired, '{}'), v_row.expires_at,
    private.explain_run(p_user_id) || private.explain_lapse(v_row, v_today) || private.explain_zone(v_row)
      || private.explain_break(p_user_id) || private.explain_numbers(v_row)
      || case when v_last.reason is not null
        then array[format('The latest change was made by an operator: %s.', v_last.reason)] else '{}'::text[] end,
    v_history
  from (select 1) one left join lateral (select * from private.ledger_runs(p_user_id) limit 1) r on true;
end
$$;
comment on function public.explain_user_streak(uuid) is
  'Why a user''s streak is what it is, in plain words: run, zone, lapse, the break before it and where the longest streak '
  'comes from, with the latest ten changes. rule is the number of the streak rule that made it so. Of a user whom the caller '
  'may not see it says what it says of one without a streak.';

-- 5. Rights ---------------------------------------------------------------------------------------------------------------

revoke all on function
  private.said_days(integer), private.said_list(date[]), private.said_at(timestamptz, text), private.ledger_runs(uuid),
  private.full_history(uuid), private.explain_run(uuid), private.explain_zone(public.user_streaks),
  private.explain_lapse(public.user_streaks, date), private.explain_break(uuid),
  private.explain_numbers(public.user_streaks), private.deciding_rule(public.user_streaks, text, text),
  public.explain_user_streak(uuid)
from public, anon, authenticated, service_role;
grant execute on function
  private.said_days(integer), private.said_list(date[]), private.said_at(timestamptz, text), private.ledger_runs(uuid),
  private.full_history(uuid), private.explain_run(uuid), private.explain_zone(public.user_streaks),
  private.explain_lapse(public.user_streaks, date), private.explain_break(uuid),
  private.explain_numbers(public.user_streaks), private.deciding_rule(public.user_streaks, text, text),
  private.local_day_starts_at(date, text, interval), private.streak_expires_at(date, text, interval),
  public.explain_user_streak(uuid)
to authenticated, service_role;
