-- Who may do what, by role. Run with `supabase test db`.
begin;
select plan(31);

-- 1. Row level security -----------------------------------------------------------------------------------------------

select policies_are('public', 'user_streaks', array['users read their own streak']);
select policies_are('public', 'streak_days', array['users read their own days']);
select policies_are('public', 'streak_history', array['users read their own history']);
select policy_roles_are('public', 'user_streaks', 'users read their own streak', array['authenticated']);
select policy_cmd_is('public', 'user_streaks', 'users read their own streak', 'select', 'and read it only');
select is_empty(
  $$select relname from pg_class where relnamespace = 'public'::regnamespace and not relrowsecurity
    and relname in ('user_streaks', 'streak_days', 'streak_history', 'user_profiles')$$,
  'row level security is on for every table'
);

-- 2. Tables by role ---------------------------------------------------------------------------------------------------

select table_privs_are('public', t, 'anon', array[]::text[])
from unnest(array['user_streaks', 'streak_days', 'streak_history']) t;
select table_privs_are('public', t, 'authenticated', array['SELECT'])
from unnest(array['user_streaks', 'streak_days', 'streak_history']) t;
select table_privs_are('public', 'user_streaks', 'service_role', array['SELECT', 'INSERT', 'UPDATE', 'DELETE']);
select table_privs_are('public', t, 'service_role', array['SELECT']) from unnest(array['streak_days', 'streak_history']) t;
select schema_privs_are('private', 'anon', array[]::text[]);

-- 3. Functions by role ------------------------------------------------------------------------------------------------

select function_privs_are('public', 'update_user_streak_atomic', array['uuid', 'text', 'text', 'timestamptz'], r, array[]::text[])
from unnest(array['anon', 'authenticated']) r;
select function_privs_are('public', 'update_user_streak_atomic', array['uuid', 'text', 'text', 'timestamptz'], 'service_role', array['EXECUTE']);
select function_privs_are('public', 'get_user_streak', array['uuid'], 'anon', array[]::text[]);
select function_privs_are('public', 'get_user_streak', array['uuid'], 'authenticated', array['EXECUTE']);
select function_privs_are('public', 'get_streak_leaderboard', array['integer', 'integer', 'text'], 'authenticated', array['EXECUTE']);
select function_privs_are('public', 'import_user_activity', array['uuid[]', 'timestamptz[]', 'text[]'], 'authenticated', array[]::text[]);
select function_privs_are('public', 'expire_lapsed_streaks', array['integer'], 'authenticated', array[]::text[]);
select isnt_definer('public', f, 'runs with its caller''s rights: ' || f)
from unnest(array['update_user_streak_atomic', 'get_user_streak']) f;

-- 4. Two users --------------------------------------------------------------------------------------------------------

insert into auth.users (id) values ('00000000-0000-4000-8000-00000000000a'), ('00000000-0000-4000-8000-00000000000b');
select public.update_user_streak_atomic(id) from auth.users where id::text like '00000000-0000-4000-8000-00000000000_';

create function pg_temp.become(p_role text, p_user text) returns void language plpgsql as $$
begin
  perform set_config('request.jwt.claims', json_build_object('sub', p_user, 'role', p_role)::text, true);
  perform set_config('request.jwt.claim.sub', p_user, true);
  perform set_config('role', p_role, true);
end
$$;

select pg_temp.become('authenticated', '00000000-0000-4000-8000-00000000000a');
select results_eq(
  'select user_id from public.user_streaks', $$values ('00000000-0000-4000-8000-00000000000a'::uuid)$$,
  'the owner sees the own row alone'
);
select is_empty(
  $$select * from public.streak_days where user_id = '00000000-0000-4000-8000-00000000000b'$$,
  'a stranger sees no days'
);
select throws_ok(
  $$select public.update_user_streak_atomic('00000000-0000-4000-8000-00000000000a')$$, '42501', null,
  'no user counts an activity, not even the own'
);
select throws_ok($$update public.user_streaks set current_streak = 500$$, '42501', null, 'no user writes a streak');
select is(
  (select count(*)::integer from public.get_streak_leaderboard(1000)
   where user_id::text like '00000000-0000-4000-8000-00000000000_'),
  2, 'a signed-in user sees everybody on the leaderboard'
);
reset role;

select * from finish();
rollback;
