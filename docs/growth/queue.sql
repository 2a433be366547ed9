-- Activities through a queue: for peaks that the database should take at its own pace, and for producers that only know how to
-- send a message. Needs pgmq (Supabase Queues). A producer sends
--
--   select pgmq.send('streak_activity', jsonb_build_object(
--     'user_id', ..., 'activity_at', now(), 'timezone', 'Europe/Paris', 'request_id', ...));
--
-- or, over the API, the RPC pgmq_public.send. The activity's time and the request id belong into the message: then it counts
-- for its own day however late it is read, and counts once however often it is sent. Messages are read, counted and
-- deleted in one transaction, so that none is lost and none waits without need.

select pgmq.create('streak_activity');

create or replace function private.take_streak_queue(p_limit integer default 1000, p_hidden_seconds integer default 30)
returns table (taken integer, counted integer, refused integer)
language plpgsql set search_path = '' as $$
declare
  v_ids bigint[];
  v_user_ids uuid[];
  v_ats timestamptz[];
  v_timezones text[];
  v_request_ids text[];
  v_bad bigint[];      -- messages that will never count, kept in the queue's archive
  v_counted bigint[];
begin
  -- A message that cannot be read must not stop those behind it.
  select array_agg(m.msg_id order by m.msg_id) filter (where m.sound),
    array_agg((case when m.sound then m.message ->> 'user_id' end)::uuid order by m.msg_id) filter (where m.sound),
    array_agg((case when m.sound then m.message ->> 'activity_at' end)::timestamptz order by m.msg_id) filter (where m.sound),
    array_agg(m.message ->> 'timezone' order by m.msg_id) filter (where m.sound),
    array_agg(m.message ->> 'request_id' order by m.msg_id) filter (where m.sound),
    coalesce(array_agg(m.msg_id) filter (where not m.sound), '{}')
  into v_ids, v_user_ids, v_ats, v_timezones, v_request_ids, v_bad
  from (
    select r.msg_id, r.message, coalesce(
      pg_input_is_valid(r.message ->> 'user_id', 'uuid')
      and pg_input_is_valid(r.message ->> 'activity_at', 'timestamptz'), false) as sound
    from pgmq.read('streak_activity', p_hidden_seconds, least(p_limit, 1000)) r
  ) m;

  if v_ids is not null then
    select array_agg(v_ids[b.index + 1]) filter (where b.error is null),
      -- What another call got in the way of comes again by itself.
      v_bad || coalesce(array_agg(v_ids[b.index + 1])
        filter (where b.error <> 'CONCURRENT_MODIFICATION'), '{}')
    into v_counted, v_bad
    from public.update_user_streaks_batch(v_user_ids, v_ats, v_timezones, v_request_ids) b;
    perform pgmq.delete('streak_activity', v_counted);
  end if;
  perform pgmq.archive('streak_activity', v_bad);
  return query select coalesce(cardinality(v_ids), 0) + cardinality(v_bad)
      - (select count(*)::integer from unnest(v_bad) b where b = any (v_ids)),
    coalesce(cardinality(v_counted), 0), cardinality(v_bad);
end
$$;
comment on function private.take_streak_queue(integer, integer) is
  'Counts up to 1000 activities of the queue streak_activity in one transaction. Those that are refused go to the queue''s archive.';

-- No search_path here: a procedure that has one may not commit. All names are qualified.
create or replace procedure private.drain_streak_queue()
language plpgsql as $$
declare
  v_taken integer;
begin
  loop
    select t.taken into v_taken from private.take_streak_queue() t;
    commit;
    exit when v_taken = 0;
  end loop;
end
$$;
comment on procedure private.drain_streak_queue() is
  'Empties the queue streak_activity, a thousand messages a transaction. Any number of them may run at once.';

revoke all on function private.take_streak_queue(integer, integer) from public, anon, authenticated, service_role;
revoke all on procedure private.drain_streak_queue() from public, anon, authenticated, service_role;

do $$
begin
  if exists (select from pg_catalog.pg_extension where extname = 'pg_cron') then
    perform cron.schedule('drain streak queue', '5 seconds', 'call private.drain_streak_queue()');
  end if;
end
$$;
