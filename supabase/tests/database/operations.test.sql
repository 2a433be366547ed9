-- What operators do, by person: who may, what it does, and what is refused. Run with `supabase test db`.
begin;
select plan(60);

insert into auth.users (id) select ('00000000-0000-4000-8000-00000000000' || n)::uuid from generate_series(1, 9) n;
create function pg_temp.u(p_n integer) returns uuid language sql as $$
  select ('00000000-0000-4000-8000-00000000000' || p_n)::uuid
$$;
create function pg_temp.noon(p_ago integer) returns timestamptz language sql stable as $$
  select ((now() at time zone 'UTC')::date - p_ago + time '12:00') at time zone 'UTC'
$$;
create function pg_temp.day(p_ago integer) returns date language sql stable as $$
  select (now() at time zone 'UTC')::date - p_ago
$$;
create function pg_temp.act(p_n integer, variadic p_ago integer[]) returns void language sql as $$
  select public.import_user_activity(
    array_fill(pg_temp.u(p_n), array[cardinality(p_ago)]), array(select pg_temp.noon(a) from unnest(p_ago) a),
    array_fill('UTC'::text, array[cardinality(p_ago)])
  )
$$;
create function pg_temp.days(p_n integer) returns text language sql as $$
  select string_agg((pg_temp.day(0) - d.day) || left(d.kind, 1), ' ' order by d.day)
  from public.streak_days d where d.user_id = pg_temp.u(p_n)
$$;
create function pg_temp.become(p_role text, p_user uuid default null) returns void language plpgsql as $$
begin
  perform set_config('request.jwt.claims', json_build_object('sub', p_user, 'role', p_role)::text, true);
  perform set_config('request.jwt.claim.sub', p_user::text, true);
  perform set_config('role', p_role, true);
end
$$;

-- 1. Rights by name ---------------------------------------------------------------------------------------------------

select function_privs_are('public', f.name, f.arguments, 'service_role', array['EXECUTE'])
from (values
  ('undo_user_activity', array['uuid', 'date', 'text', 'text']),
  ('merge_user_streaks', array['uuid', 'uuid', 'text', 'text']),
  ('erase_user_streak', array['uuid']),
  ('export_user_streak', array['uuid']),
  ('continue_streak_repair', array['bigint', 'integer']),
  ('diagnose_streaks', array['integer'])
) f (name, arguments);
select function_privs_are('public', f.name, f.arguments, 'authenticated', array[]::text[])
from (values
  ('undo_user_activity', array['uuid', 'date', 'text', 'text']),
  ('merge_user_streaks', array['uuid', 'uuid', 'text', 'text']),
  ('erase_user_streak', array['uuid']),
  ('export_user_streak', array['uuid']),
  ('start_streak_repair', array['timestamptz', 'timestamptz', 'text', 'text']),
  ('archive_streak_history', array['interval', 'integer', 'boolean']),
  ('diagnose_streaks', array['integer'])
) f (name, arguments);
select function_privs_are('public', 'explain_user_streak', array['uuid'], 'anon', array[]::text[]);
select table_privs_are('public', 'streak_repairs', r, array[]::text[]) from unnest(array['anon', 'authenticated']) r;
select table_privs_are('public', 'streak_history_archive', 'service_role', array['SELECT']);
select policies_are('public', 'streak_history_archive', array['users read their own archived history']);

-- 2. Explanation: the owner, a stranger, the service --------------------------------------------------------------------

select pg_temp.act(1, 9, 8, 7, 3, 2, 1);
select pg_temp.become('authenticated', pg_temp.u(1));
select results_eq(
  $$select current_streak, first_day, last_day from public.explain_user_streak(pg_temp.u(1))$$,
  $$values (3, pg_temp.day(3), pg_temp.day(1))$$, 'the owner learns which days make the streak'
);
select matches(
  (select array_to_string(explanation, ' ') from public.explain_user_streak(pg_temp.u(1))),
  'nothing counted from ' || pg_temp.day(6) || ' to ' || pg_temp.day(4), 'and why the one before broke'
);
select pg_temp.become('authenticated', pg_temp.u(2));
select results_eq(
  $$select current_streak, history from public.explain_user_streak(pg_temp.u(1))$$, $$values (0, '[]'::jsonb)$$,
  'a stranger learns nothing'
);
select pg_temp.become('service_role');
select is((select rule from public.explain_user_streak(pg_temp.u(1))), 2, 'the service sees that an import made it');
reset role;
select throws_ok($$select public.explain_user_streak(null)$$, '22023', null, 'no user');

-- 3. Undo -----------------------------------------------------------------------------------------------------------------

select is(
  (select longest_streak || ' ' || change_type || ' ' || replayed
   from public.undo_user_activity(pg_temp.u(1), pg_temp.day(8), 'a mistake', 'undo-1')),
  '3 STREAK_REBUILT false', 'one day is taken out'
);
select is(pg_temp.days(1), '9a 7a 3a 2a 1a', 'and no other');
select is(
  (select replayed from public.undo_user_activity(pg_temp.u(1), pg_temp.day(8), 'a mistake', 'undo-1')), true,
  'the same request gets its first answer'
);
select throws_ok(
  $$select public.undo_user_activity(pg_temp.u(1), pg_temp.day(8), 'a mistake')$$, '22023', null, 'a day that does not count'
);
select throws_ok($$select public.undo_user_activity(pg_temp.u(1), pg_temp.day(7), ' ')$$, '22023', null, 'no reason');
select pg_temp.act(3, 2);
select public.undo_user_activity(pg_temp.u(3), pg_temp.day(2), 'a mistake');
select results_eq(
  $$select current_streak, longest_streak, version from public.get_user_streak(pg_temp.u(3))$$, 'values (0, 0, 0)',
  'a user without days has no streak'
);
select pg_temp.act(3, 2);
select is(
  (select array_agg(version_after order by id) from public.streak_history where user_id = pg_temp.u(3)), array[1, 2, 3],
  'and a new one goes on from the old one''s version'
);

select public.import_user_activity(
  array[pg_temp.u(7), pg_temp.u(7)], array[timestamptz '2026-02-03 04:00Z', '2026-02-03 23:00Z'],
  array['America/Los_Angeles', 'Pacific/Auckland']
);
select is(
  (select string_agg(d.day || ' ' || d.kind, ', ' order by d.day) from public.streak_days d where d.user_id = pg_temp.u(7)),
  '2026-02-02 active, 2026-02-03 skipped, 2026-02-04 active', 'a journey covers the day that it jumps over'
);
select throws_ok(
  $$select public.undo_user_activity(pg_temp.u(7), '2026-02-03', 'a mistake')$$, '22023', null, 'which nobody can undo'
);
select public.undo_user_activity(pg_temp.u(7), '2026-02-04', 'a mistake');
select is(
  (select s.timezone || ' ' || (select string_agg(d.day || ' ' || d.kind, ', ') from public.streak_days d where d.user_id = s.user_id)
   from public.user_streaks s where s.user_id = pg_temp.u(7)),
  'America/Los_Angeles 2026-02-02 active', 'undone, the journey takes the covered day and its zone along'
);

-- 4. Repair and its undoing ---------------------------------------------------------------------------------------------------

select pg_temp.act(4, 6, 5, 3, 2);
select is(
  (select users || ' ' || days from public.preview_streak_repair(pg_temp.noon(4), pg_temp.noon(4) + interval '1 hour')
   where sample -> 0 ->> 'user_id' = pg_temp.u(4)::text),
  '1 1', 'a dry run finds the user whose gap an outage explains'
);
select is(pg_temp.days(4), '6a 5a 3a 2a', 'and writes nothing');
create temporary table repair as
  select repair_id as id from public.start_streak_repair(pg_temp.noon(4), pg_temp.noon(4) + interval '1 hour', 'an outage');
select is((select finished from public.continue_streak_repair((select id from repair), 100)), true, 'the repair');
select is(pg_temp.days(4), '6a 5a 4r 3a 2a', 'closes the gap');
select is(
  (select kept_days || ' ' || undone_days from public.undo_streak_repair((select id from repair), 100)), '0 1',
  'its undoing'
);
select is(pg_temp.days(4), '6a 5a 3a 2a', 'opens it again');
select is(
  (select longest_streak from public.user_streaks where user_id = pg_temp.u(4)), 5, 'and no longest streak falls'
);
select is((select change_type from public.rebuild_user_streak(pg_temp.u(4))), 'STREAK_MAINTAINED', 'a rebuild agrees');
select throws_ok(
  $$select public.continue_streak_repair((select id from repair), 1)$$, '22023', null, 'what is undone goes no further'
);

create temporary table second as
  select repair_id as id from public.start_streak_repair(pg_temp.noon(4), pg_temp.noon(4) + interval '1 hour', 'an outage');
select public.continue_streak_repair((select id from second), 100);
select pg_temp.act(4, 4);
select is(
  (select kept_days || ' ' || undone_days || pg_temp.days(4) from public.undo_streak_repair((select id from second), 100)),
  '1 06a 5a 4a 3a 2a', 'a repaired day that has become active stays'
);
select public.import_user_activity(
  array[pg_temp.u(2), pg_temp.u(2), pg_temp.u(2)], array[pg_temp.noon(21), pg_temp.noon(19), pg_temp.noon(1)],
  array['Pacific/Kiritimati', 'Pacific/Kiritimati', 'UTC']
);
select is(
  (select users from public.preview_streak_repair(pg_temp.noon(20), pg_temp.noon(20) + interval '1 hour')), 1,
  'the zone of the day before a gap says which days an outage touched, not where the user has moved since'
);

-- 5. Merge ----------------------------------------------------------------------------------------------------------------

select pg_temp.act(5, 5, 3, 1);
select pg_temp.act(6, 4, 3, 2);
select is(
  (select current_streak || ' ' || change_type from public.merge_user_streaks(pg_temp.u(6), pg_temp.u(5), 'one person')),
  '5 STREAK_IMPORTED', 'the days of two accounts make one streak'
);
select is((select count(*)::integer from public.user_streaks where user_id = pg_temp.u(6)), 0, 'the other has none left');
select isnt_empty($$select * from public.streak_history where user_id = pg_temp.u(6)$$, 'but its history');
select throws_ok(
  $$select public.merge_user_streaks(pg_temp.u(5), pg_temp.u(5), 'one person')$$, '22023', null, 'a user into itself'
);
select throws_ok(
  $$select public.merge_user_streaks(gen_random_uuid(), pg_temp.u(5), 'one person')$$, '23503', null, 'an unknown user'
);

select public.import_user_activity(array[pg_temp.u(8)], array[timestamptz '2026-02-03 04:00Z'], array['America/Los_Angeles']);
select public.import_user_activity(array[pg_temp.u(9)], array[timestamptz '2026-02-03 23:00Z'], array['Pacific/Auckland']);
select public.merge_user_streaks(pg_temp.u(9), pg_temp.u(8), 'one person');
select is(
  (select string_agg(d.day || ' ' || d.kind, ', ' order by d.day) from public.streak_days d where d.user_id = pg_temp.u(8)),
  '2026-02-02 active, 2026-02-03 skipped, 2026-02-04 active', 'a journey between two accounts is none missed'
);

-- two users with the same gap: the one recovered by hand, the other by a repair, then merged
insert into auth.users (id) select ('00000000-0000-4000-8000-0000000000' || n)::uuid from generate_series(11, 13) n;
create function pg_temp.repair_of(p_ago integer) returns bigint language plpgsql as $$
declare
  v_id bigint;
begin
  select r.repair_id into v_id
  from public.start_streak_repair(pg_temp.noon(p_ago), pg_temp.noon(p_ago) + interval '1 hour', 'an outage') r;
  perform public.continue_streak_repair(v_id, 1000);
  return v_id;
end
$$;
select public.import_user_activity(
  array_fill(('00000000-0000-4000-8000-0000000000' || u)::uuid, array[4]),
  array[pg_temp.noon(26), pg_temp.noon(25), pg_temp.noon(23), pg_temp.noon(22)], array_fill('UTC'::text, array[4])
) from generate_series(11, 13) u;
select public.recover_user_streak(
  '00000000-0000-4000-8000-000000000011', pg_temp.day(24), pg_temp.day(24), 'by hand'
);
create temporary table third as select pg_temp.repair_of(24) as id;
select public.merge_user_streaks(
  '00000000-0000-4000-8000-000000000012', '00000000-0000-4000-8000-000000000011', 'one person'
);
select public.undo_user_activity('00000000-0000-4000-8000-000000000013', pg_temp.day(24), 'not so');
select public.recover_user_streak(
  '00000000-0000-4000-8000-000000000013', pg_temp.day(24), pg_temp.day(24), 'by hand'
);
select public.undo_streak_repair((select id from third), 1000);
select is(
  (select d.kind from public.streak_days d
   where d.user_id = '00000000-0000-4000-8000-000000000011' and d.day = pg_temp.day(24)),
  'repaired', 'a day that the other account had by itself outlives the undoing of a repair that came with the merge'
);
select is(
  (select d.kind from public.streak_days d
   where d.user_id = '00000000-0000-4000-8000-000000000013' and d.day = pg_temp.day(24)),
  'repaired', 'a repaired day that was undone and then recovered by hand is no longer the repair''s'
);

-- 6. Retention ------------------------------------------------------------------------------------------------------------

select is((select archived from public.archive_streak_history()), 0, 'nothing is archived unless somebody says how old');
select throws_ok(
  $$select public.archive_streak_history('29 days')$$, '22023', null, 'nor while requests can be replayed'
);

delete from public.streak_history;
create function pg_temp.change(p_version integer, p_ago integer) returns void language sql as $$
  insert into public.streak_history (
    user_id, old_current_streak, new_current_streak, old_longest_streak, new_longest_streak, activity_date, change_type,
    timezone, version_before, version_after, version, created_at
  ) values (
    pg_temp.u(1), 0, 1, 0, 1, pg_temp.day(p_ago), 'STREAK_INCREMENT', 'UTC', p_version - 1, p_version, p_version,
    pg_temp.noon(p_ago)
  )
$$;
select pg_temp.change(n, 100 - n) from generate_series(1, 3) n;
select results_eq(
  $$select * from public.archive_streak_history('30 days', 1)$$, 'values (1, false)', 'a full batch is not the last'
);
select results_eq(
  $$select * from public.archive_streak_history('30 days', 1000)$$, 'values (1, true)', 'the latest change stays'
);
select pg_temp.change(4, 0);
select is(
  (select archived from public.archive_streak_history('30 days', 1000)), 0, 'and is not looked at again on the same day'
);
update private.history_archive_position set began_at = began_at - interval '1 day';
select is(
  (select archived from public.archive_streak_history('30 days', 1000)), 1, 'but on the next, when there is a later one'
);

-- 7. Checks -----------------------------------------------------------------------------------------------------------------

select is_empty(
  $$select * from public.diagnose_streaks() where detail like '%newest%'$$, 'the checks look at all changes of the last day'
);
select pg_temp.change(n, 0) from generate_series(5, 7) n;
create or replace function private.diagnosed_changes() returns integer
language plpgsql immutable set search_path = '' as $$ begin return 2; end $$;
select results_eq(
  $$select count(*), (select array_agg(h.id) from private.recent_history('1 day') h)
    from public.diagnose_streaks() where detail like '%; of the newest 2 changes only'$$,
  $$select 4::bigint, (select array_agg(n.id) from (select id from public.streak_history order by id desc limit 2) n)$$,
  'where there are too many, at the newest, and say so'
);

select * from finish();
rollback;
