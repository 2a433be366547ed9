-- The guards that keep simultaneous calls apart: keys, version, append-only history. Run with `supabase test db`.
begin;
select plan(18);

-- 1. Keys -------------------------------------------------------------------------------------------------------------

select col_is_pk('public', 'streak_days', array['user_id', 'day'], 'a user has each day once');
select col_is_unique('public', 'user_streaks', array['user_id'], 'a user has one row');
select index_is_unique('public', 'streak_history', 'streak_history_user_id_version_key', 'each version is recorded once');
select index_is_unique('public', 'streak_history', 'streak_history_user_id_request_id_key', 'a request is recorded once');
select fk_ok('public', 'user_streaks', 'user_id', 'auth', 'users', 'id');
select fk_ok('public', 'streak_days', 'user_id', 'public', 'user_streaks', 'user_id');
select has_trigger('public', 'user_streaks', 'version_user_streak', 'changes by hand are versioned');
select has_trigger('public', 'streak_history', 'refuse_history_update', 'history is guarded');

insert into auth.users (id) values ('00000000-0000-4000-8000-000000000001');
select public.update_user_streak_atomic('00000000-0000-4000-8000-000000000001', 'UTC', 'r-1');

select throws_ok(
  $$insert into public.streak_days (user_id, day, timezone) select user_id, day, timezone from public.streak_days
    where user_id = '00000000-0000-4000-8000-000000000001'$$,
  '23505', null, 'a day cannot enter the ledger twice'
);
select throws_ok(
  $$insert into public.user_streaks (user_id, last_active_date) values ('00000000-0000-4000-8000-000000000001', current_date)$$,
  '23505', null, 'a user cannot get a second row'
);

-- 2. Version ----------------------------------------------------------------------------------------------------------

update public.user_streaks set longest_streak = 7 where user_id = '00000000-0000-4000-8000-000000000001';
select results_eq(
  $$select version, longest_streak from public.user_streaks where user_id = '00000000-0000-4000-8000-000000000001'$$,
  'values (2, 7)', 'a change by hand adds 1 to version'
);
update public.user_streaks set version = 40 where user_id = '00000000-0000-4000-8000-000000000001';
select is(
  (select version from public.user_streaks where user_id = '00000000-0000-4000-8000-000000000001'), 3,
  'nobody can set a version of their own'
);
select is(
  (select array_agg(version_after order by id) from public.streak_history
   where user_id = '00000000-0000-4000-8000-000000000001'),
  array[1, 2, 3], 'and each change by hand is in the history'
);
select throws_ok(
  $$update public.user_streaks set last_active_date = last_active_date - 1
    where user_id = '00000000-0000-4000-8000-000000000001'$$,
  '22023', 'last_active_date: the ledger streak_days decides it', 'nobody moves the last day by hand'
);

-- 3. History ----------------------------------------------------------------------------------------------------------

select throws_ok($$update public.streak_history set reason = 'x'$$, '42501', null, 'history is not changed');
select throws_ok(
  $$insert into public.streak_history (user_id, old_current_streak, new_current_streak, old_longest_streak,
      new_longest_streak, activity_date, change_type, timezone, version_before, version_after, version)
    values ('00000000-0000-4000-8000-000000000001', 0, 1, 0, 1, current_date, 'STREAK_RESET', 'UTC', 0, 1, 1)$$,
  '23505', null, 'a version is not recorded twice'
);

-- 4. Deletion ---------------------------------------------------------------------------------------------------------

delete from auth.users where id = '00000000-0000-4000-8000-000000000001';
select is_empty(
  $$select user_id from public.user_streaks where user_id = '00000000-0000-4000-8000-000000000001'
    union all select user_id from public.streak_days where user_id = '00000000-0000-4000-8000-000000000001'
    union all select user_id from public.streak_history where user_id = '00000000-0000-4000-8000-000000000001'$$,
  'a user who goes leaves nothing behind'
);
select throws_ok(
  $$select public.update_user_streak_atomic('00000000-0000-4000-8000-000000000001')$$, '23503', null,
  'and is unknown from then on'
);

select * from finish();
rollback;
