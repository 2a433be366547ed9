-- The raw floor: what a new day writes, in one statement without logic. {user}, {zone}, {request} and {at} are the call's.
with u as (
  update public.user_streaks
  set current_streak = run_length + 1, run_length = run_length + 1,
    longest_streak = greatest(longest_streak, run_length + 1), last_active_date = last_active_date + 1,
    expires_at = expires_at + interval '1 day', version = version + 1, updated_at = now(), last_activity_at = {at},
    timezone = {zone}
  where user_id = {user} returning *
),
d as (
  insert into public.streak_days (user_id, day, kind, activity_at, timezone)
  select user_id, last_active_date, 'active', last_activity_at, timezone from u
)
insert into public.streak_history (
  user_id, old_current_streak, new_current_streak, old_longest_streak, new_longest_streak, activity_date,
  last_active_date, change_type, timezone, version_before, version_after, request_id, created_at, duration_ms, version,
  activity_at, new_last_active_date, expires_at
)
select user_id, current_streak - 1, current_streak, longest_streak, longest_streak, last_active_date,
  last_active_date - 1, 'STREAK_INCREMENT', timezone, version - 1, version, {request}, updated_at, 0, version,
  last_activity_at, last_active_date, expires_at
from u;
