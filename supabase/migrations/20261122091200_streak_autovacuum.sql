-- How often autovacuum visits user_streaks, measured in docs/operations-autovacuum.md.

do $$
begin
  -- What somebody has set already stays, and a partitioned table has no such settings: its partitions do.
  if exists (
    select from pg_catalog.pg_class c
    where c.oid = 'public.user_streaks'::regclass and c.relkind = 'r'
      and not exists (
        select from pg_catalog.pg_options_to_table(c.reloptions) o where o.option_name like 'autovacuum%'
      )
  ) then
    -- Every active user's row is written once a day, and no such update can be HOT: the row moves in the index by
    -- expires_at. By default a fifth of the table may be dead rows, through which the leaderboard's index walks; with
    -- 2% it reads a sixth of the pages. fillfactor stays 100: room on the page helps HOT updates alone.
    alter table public.user_streaks set (
      autovacuum_vacuum_scale_factor = 0.02,
      autovacuum_vacuum_threshold = 500 -- below it a visit costs more than it frees
    );
  end if;
end
$$;
