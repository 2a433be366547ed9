-- Time: which local day an instant belongs to, when a local day starts, and when a streak lapses.
-- Nothing else in the project converts between instants and days.

-- 1. The schema of what runs with its owner's rights ---------------------------------------------------------------

create schema if not exists private;
comment on schema private is 'Internals and functions with owner''s rights. Never exposed by the API.';

-- 2. The clock ------------------------------------------------------------------------------------------------------

create or replace function private.now() returns timestamptz
language plpgsql stable parallel safe set search_path = '' as $$
begin
  return pg_catalog.now();
end
$$;
comment on function private.now() is
  'The only clock of the streak functions: the start of the transaction. A test replaces it in its own database.';

-- 3. Zones ----------------------------------------------------------------------------------------------------------

create table if not exists private.streak_timezones (
  key text primary key,
  name varchar(64) not null
);
comment on table private.streak_timezones is
  'The IANA zones this server knows: a copy of pg_timezone_names, which takes tens of milliseconds a read.';
comment on column private.streak_timezones.key is 'The name in lower case: PostgreSQL, too, ignores the case of zone names.';
comment on column private.streak_timezones.name is 'The name as the server spells it.';

create or replace function private.refresh_timezones() returns integer
language plpgsql security definer set search_path = '' as $$
declare
  v_added integer;
begin
  -- posix/, right/ and the rest are files of the operating system's database, not names of places
  insert into private.streak_timezones (key, name)
  select distinct on (lower(z.name)) lower(z.name), z.name
  from pg_catalog.pg_timezone_names z
  where z.name !~ '^(posix|right)/' and z.name not in ('localtime', 'posixrules', 'Factory') and length(z.name) <= 64
  order by lower(z.name), z.name
  on conflict (key) do nothing;
  get diagnostics v_added = row_count;
  return v_added;
end
$$;
comment on function private.refresh_timezones() is
  'Adds zones that the server has learnt since, and returns how many. A zone once known is never forgotten: rows name it.';
select private.refresh_timezones();

create or replace function private.known_timezone(p_timezone text) returns text
language plpgsql stable strict security definer set search_path = '' as $$
begin
  return (select z.name from private.streak_timezones z where z.key = lower(p_timezone));
end
$$;
comment on function private.known_timezone(text) is
  'The zone as the server spells it, or null where it is none (''FOO+5'' converts without an error and is no zone).';

-- 4. Days -----------------------------------------------------------------------------------------------------------

create or replace function private.day_start() returns interval
language plpgsql immutable parallel safe set search_path = '' as $$
begin
  return interval '0';
end
$$;
comment on function private.day_start() is
  'Local time at which a day starts. Replacing it changes the policy for all users; run rebuild_user_streak afterwards.';

create or replace function private.local_day(
  p_at timestamptz, p_timezone text, p_day_start interval default private.day_start()
) returns date
language plpgsql immutable strict parallel safe set search_path = '' as $$
begin
  -- the subtraction comes after the conversion: the other order is wrong on the days when clocks change
  return ((p_at at time zone p_timezone) - p_day_start)::date;
end
$$;
comment on function private.local_day(timestamptz, text, interval) is 'The local day of an instant (rule 1).';

create or replace function private.local_day_starts_at(
  p_day date, p_timezone text, p_day_start interval default private.day_start()
) returns timestamptz
language plpgsql immutable strict parallel safe set search_path = '' as $$
declare
  v_wall timestamp := p_day + p_day_start;
  v_at timestamptz := v_wall at time zone p_timezone;
  v_day_before timestamptz := v_at - interval '24 hours';
  v_offset interval := (v_day_before at time zone p_timezone) - (v_day_before at time zone 'UTC');
  v_first timestamptz := (v_wall - v_offset) at time zone 'UTC';
  v_middle timestamptz;
begin
  if (v_at at time zone p_timezone) = v_wall then
    -- a wall time that comes twice (Havana): `at time zone` takes the second, the day starts at the first
    return case when v_first < v_at and (v_first at time zone p_timezone) = v_wall then v_first else v_at end;
  end if;
  -- a wall time that clocks jumped over (Santiago, Cairo): the first instant behind the gap, to the second
  v_first := v_at - ((v_at at time zone p_timezone) - v_wall);
  while v_at - v_first > interval '1 second' loop
    v_middle := to_timestamp(floor(extract(epoch from v_first + (v_at - v_first) / 2)));
    if (v_middle at time zone p_timezone) >= v_wall then
      v_at := v_middle;
    else
      v_first := v_middle;
    end if;
  end loop;
  return v_at;
end
$$;
comment on function private.local_day_starts_at(date, text, interval) is
  'The first instant of a local day; of a date that the zone skipped (Apia, 2011-12-30), the first of the next one.';

create or replace function private.streak_expires_at(
  p_last_day date, p_timezone text, p_day_start interval default private.day_start()
) returns timestamptz
language plpgsql immutable strict parallel safe set search_path = '' as $$
declare
  v_at timestamptz := ((p_last_day + 2) + p_day_start) at time zone p_timezone;
  v_day date := p_last_day;
  v_existing integer := 0;
begin
  -- no change of clocks around that midnight: nearly always
  if (v_at at time zone p_timezone) = (p_last_day + 2) + p_day_start
    and ((v_at - interval '24 hours') at time zone p_timezone) = (p_last_day + 1) + p_day_start then
    return v_at;
  end if;
  while v_existing < 2 loop
    v_day := v_day + 1;
    v_at := private.local_day_starts_at(v_day, p_timezone, p_day_start);
    if private.local_day(v_at, p_timezone, p_day_start) = v_day then
      v_existing := v_existing + 1;
    end if;
  end loop;
  return v_at;
end
$$;
comment on function private.streak_expires_at(date, text, interval) is
  'The first instant of the second existing local day after the last day of a run: from then on the streak is 0 (rule 7).';
