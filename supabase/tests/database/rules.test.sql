-- The rules of a streak, through the functions that callers use. Run with `supabase test db`.
begin;
select plan(30);

insert into auth.users (id) select ('00000000-0000-4000-8000-00000000000' || n)::uuid from generate_series(1, 6) n;
create function pg_temp.u(p_n integer) returns uuid language sql as $$
  select ('00000000-0000-4000-8000-00000000000' || p_n)::uuid
$$;
-- noon UTC, days ago: far from any day's edge
create function pg_temp.noon(p_ago integer) returns timestamptz language sql stable as $$
  select ((now() at time zone 'UTC')::date - p_ago + time '12:00') at time zone 'UTC'
$$;
create function pg_temp.act(p_n integer, p_ago integer, p_zone text default null, p_request text default null) returns text
language sql as $$
  select change_type || ' ' || longest_streak
  from public.update_user_streak_atomic(pg_temp.u(p_n), p_zone, p_request, pg_temp.noon(p_ago))
$$;
create function pg_temp.run(p_n integer) returns integer language sql as $$
  select run_length from public.user_streaks where user_id = pg_temp.u(p_n)
$$;

-- 1. Days -------------------------------------------------------------------------------------------------------------

select is(pg_temp.act(1, 6), 'FIRST_ACTIVITY 1', 'the first activity begins a streak');
select is(pg_temp.act(1, 6), 'STREAK_MAINTAINED 1', 'a day counts once');
select is(pg_temp.act(1, 5), 'STREAK_INCREMENT 2', 'the next day counts');
select is(pg_temp.act(1, 3), 'STREAK_RESET 2', 'a missed day begins a new streak');
select is(pg_temp.run(1), 1, 'of one day');
select is(pg_temp.act(1, 4), 'STREAK_RECOVERED 4', 'the missed day, come late, joins both runs');
select is(pg_temp.run(1), 4, 'into one of four days');
select is(pg_temp.act(1, 5), 'STREAK_MAINTAINED 4', 'a late repeat changes nothing');
select is(
  (select array_agg(version_after order by id) from public.streak_history where user_id = pg_temp.u(1)),
  array[1, 2, 3, 4], 'one history row for each change, none for a repeat'
);

-- 2. Requests ---------------------------------------------------------------------------------------------------------

select is(pg_temp.act(2, 2, null, 'r-1'), 'FIRST_ACTIVITY 1', 'a request');
select is(pg_temp.act(2, 1, null, 'r-1'), 'FIRST_ACTIVITY 1', 'the same request gets its first answer, whatever its time');
select is(pg_temp.act(2, 60, null, 'r-1'), 'FIRST_ACTIVITY 1', 'even a time that would be refused');
select is((select count(*)::integer from public.streak_days where user_id = pg_temp.u(2)), 1, 'and writes nothing');

-- 3. Zones ------------------------------------------------------------------------------------------------------------

select is(pg_temp.act(3, 3, 'Pacific/Pago_Pago'), 'FIRST_ACTIVITY 1', 'noon UTC is the day before in Pago Pago');
select is(pg_temp.act(3, 3, 'Pacific/Kiritimati'), 'STREAK_MAINTAINED 1', 'another zone within 12 hours earns no second day');
select is(
  (select timezone from public.update_user_streak_atomic(pg_temp.u(3), 'FOO+5', null, pg_temp.noon(2))),
  'Pacific/Pago_Pago', 'a zone that is none is ignored for the stored one'
);
select matches(
  (select message from public.update_user_streak_atomic(pg_temp.u(4), 'Mars/Phobos', null, pg_temp.noon(2))),
  'Mars/Phobos', 'and named in the message'
);

-- 4. Lapse ------------------------------------------------------------------------------------------------------------

select is(pg_temp.act(5, 5), 'FIRST_ACTIVITY 1', 'an activity of five days ago');
select is((select current_streak from public.get_user_streak(pg_temp.u(5))), 0, 'is a streak that has lapsed');
select is((select longest_streak from public.get_user_streak(pg_temp.u(5))), 1, 'its length is not forgotten');
select is_empty(
  $$select * from public.get_streak_leaderboard(1000) where user_id = pg_temp.u(5)$$, 'it is on no leaderboard of the living'
);

-- 5. Bad input --------------------------------------------------------------------------------------------------------

select throws_ok($$select public.update_user_streak_atomic(null)$$, '22023', null, 'no user');
select throws_ok($$select public.update_user_streak_atomic(gen_random_uuid())$$, '23503', null, 'an unknown user');
select throws_ok(
  $$select public.update_user_streak_atomic(pg_temp.u(1), null, null, now() + interval '6 minutes')$$, '22023', null,
  'a time in the future'
);
select throws_ok(
  $$select public.update_user_streak_atomic(pg_temp.u(1), null, null, now() - interval '8 days')$$, '22023', null,
  'a time too long ago'
);
select throws_ok(
  $$select public.update_user_streak_atomic(pg_temp.u(1), null, repeat('x', 101))$$, '22023', null, 'an over-long request id'
);

-- 6. Upkeep -----------------------------------------------------------------------------------------------------------

select is(
  (select days_added from public.import_user_activity(array[pg_temp.u(6), pg_temp.u(6)],
    array[timestamptz '2020-02-28 12:00Z', '2020-02-29 12:00Z'])),
  2, 'an import takes activities of any age'
);
select is(
  (select change_type from public.recover_user_streak(pg_temp.u(6), date '2020-03-01', date '2020-03-02', 'an outage')),
  'STREAK_RECOVERED', 'missed days can be repaired'
);
select is(
  (select longest_streak || ' ' || last_active_date from public.user_streaks where user_id = pg_temp.u(6)),
  '4 2020-03-02', 'and the streak lives on from the last of them'
);
select is(
  (select change_type from public.rebuild_user_streak(pg_temp.u(6))), 'STREAK_MAINTAINED', 'a rebuild finds nothing wrong'
);

select * from finish();
rollback;
