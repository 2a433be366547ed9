-- Schema `bench`: what the benchmark knows about the users it made. {now} is the benchmark's noon, {users} how many.

create schema bench;
create table bench.state (name text primary key, value bigint not null);

-- One zone for each offset of that day, and rather one without clock changes: a run on a kept data set moves the clock on.
create table bench.zones as
select row_number() over (order by z.utc_offset)::integer - 1 as z, z.name::varchar(64) as name,
  (timestamptz '{now}' at time zone z.name)::date as today
from (
  select distinct on (o.utc_offset) k.name, o.utc_offset
  from private.streak_timezones k
  cross join lateral (select (timestamptz '{now}' at time zone k.name) - timestamp '{now}' as utc_offset) o
  order by o.utc_offset, exists (
    select from generate_series(-45, 120) d
    where ((timestamptz '{now}' + d * interval '1 day') at time zone k.name)
      <> (timestamp '{now}' + d * interval '1 day' + o.utc_offset)
  ), k.name like '%/%' desc, k.name
) z;

-- Of ten users three have lapsed, unswept and with the longest streaks; two have been active today, five yesterday.
create unlogged table bench.users as
select u::integer, ('00000000-0000-4000-8000-' || (100000000000 + u))::uuid as id, a.run, z.name as zone,
  z.today - a.age as last, timestamptz '{now}' - a.age * interval '1 day' - (5 + u % 50) * interval '1 second' as at
from generate_series(0, {users} - 1) u
join bench.zones z on z.z = (u / 10) % (select count(*) from bench.zones)
cross join lateral (
  select case when u % 10 < 3 then 40 + u % 300 when u % 10 < 5 then 0 else 1 end as age,
    case when u % 10 < 3 then 5000 + u % 1000
      -- many short streaks, few long ones
      else 1 + floor(3 / (((u::bigint * 2654435761) % 1000003) / 1000003.0 + 0.001)) end::integer as run
) a
order by u;
create unique index on bench.users (u);
analyze bench.users;
