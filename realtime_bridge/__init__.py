"""One subscription to Supabase Realtime, debounced and fanned out to any number of listeners."""
