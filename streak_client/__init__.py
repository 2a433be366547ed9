"""A typed client, sync and async, for daily streaks kept by PostgreSQL on Supabase."""
