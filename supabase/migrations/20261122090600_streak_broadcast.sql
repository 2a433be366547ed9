-- Broadcast: who may hear the private channel user:{id}:streaks, on which the bridge can publish every change.

do $$
begin
  -- hosted Supabase and `supabase start` have the table; a plain PostgreSQL has no Realtime to ask it
  if to_regclass('realtime.messages') is null or to_regprocedure('realtime.topic()') is null then
    return;
  end if;
  drop policy if exists "users hear their own streak" on realtime.messages;
  create policy "users hear their own streak" on realtime.messages
    for select to authenticated
    using (extension = 'broadcast' and (select realtime.topic()) = 'user:' || (select auth.uid()) || ':streaks');
exception when insufficient_privilege then
  raise notice 'no policy on realtime.messages (%): front ends cannot join user:{id}:streaks', sqlerrm;
end
$$;
