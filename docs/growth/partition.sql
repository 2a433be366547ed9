-- Hash partitions by user for the two tables that grow: the ledger and the history. Functions, policies, rights, triggers and
-- the bridge go on unchanged; tests/growth/test_partitions.py applies this file and holds the result against the model.
--
-- For a new project, or in a maintenance window: both tables are copied under a lock, about 100,000 rows a second, and
-- meanwhile every call waits, and so do sign-in and sign-up. One transaction: if anything fails, nothing has happened. user_streaks stays as it is: it has one row per user, and
-- Realtime publishes it by name.
--
-- The partitions lie in the schema private, so the API shows them to nobody.

begin;
set local statement_timeout = 0;

-- Everything is locked before anything is copied, or a call that began earlier could meet the copy halfway, and the copy would
-- be what PostgreSQL ends. The keys of old and new tables lock the users, too. Activities come to user_streaks first, imports
-- and deletions to the users: no one order suits all, so this gives way before PostgreSQL would look for a deadlock (1 s).
do $$
begin
  for v_try in 1..100 loop
    begin
      perform set_config('lock_timeout', '500ms', true);
      lock table auth.users, public.user_streaks, public.streak_history, public.streak_days in access exclusive mode;
      perform set_config('lock_timeout', '0', true);
      return;
    exception when lock_not_available then
      perform pg_sleep(random() * 0.2);
    end;
  end loop;
  raise exception 'the tables are in use all the time: stop what writes, and run this again' using
    errcode = 'lock_not_available', hint = 'An autovacuum holds it up, too: see pg_stat_progress_vacuum.';
end
$$;

create or replace function pg_temp.partition_by_user(p_table text, p_partitions integer) returns void
language plpgsql as $$
declare
  v_public constant text := format('public.%I', p_table);
  v_old constant text := format('private.%I', p_table);
  v_later text[];  -- what is made anew once the rows are in, oldest kind first
  v_functions regprocedure[];
  v_statement text;
begin
  if (select c.relkind from pg_catalog.pg_class c where c.oid = v_public::regclass) <> 'r' then
    raise exception '% is partitioned already', v_public;
  end if;
  -- Functions that return its rows depend on the table, and are made anew.
  v_functions := array(
    select p.oid::regprocedure from pg_catalog.pg_proc p join pg_catalog.pg_type t on t.oid = p.prorettype
    where t.typrelid = v_public::regclass
  );

  -- Constraints first, as indexes and foreign keys build on them. A unique key must hold the column that partitions.
  select array_agg(s.statement order by s.position, s.statement) into v_later
  from (
    select case c.contype when 'p' then 1 when 'u' then 1 else 3 end as position,
      format('alter table %s add constraint %I %s', v_public, c.conname,
        case when c.contype = 'p' and pg_get_constraintdef(c.oid) not like '%user_id%'
          then replace(pg_get_constraintdef(c.oid), '(id)', '(id, user_id)')
          else pg_get_constraintdef(c.oid) end) as statement
    from pg_catalog.pg_constraint c where c.conrelid = v_public::regclass and c.contype in ('p', 'u', 'f')
    union all
    select 2, pg_get_indexdef(i.indexrelid)
    from pg_catalog.pg_index i
    where i.indrelid = v_public::regclass
      and not exists (select from pg_catalog.pg_constraint c where c.conindid = i.indexrelid and c.contype in ('p', 'u'))
    union all
    select 4, pg_get_triggerdef(t.oid) from pg_catalog.pg_trigger t
    where t.tgrelid = v_public::regclass and not t.tgisinternal
    union all
    select 5, format('create policy %I on %s as %s for %s to %s%s%s', p.policyname, v_public, p.permissive, p.cmd,
      (select string_agg(quote_ident(r), ', ') from unnest(p.roles) r), coalesce(' using (' || p.qual || ')', ''),
      coalesce(' with check (' || p.with_check || ')', ''))
    from pg_catalog.pg_policies p where p.schemaname = 'public' and p.tablename = p_table
    union all
    -- Default privileges grant to API roles whatever is new.
    select 6, format('revoke all on %s from public, anon, authenticated, service_role', v_public)
    union all
    select 7, format('grant %s on %s to %s', a.privilege_type, v_public, a.grantee::regrole)
    from pg_catalog.pg_class c, aclexplode(c.relacl) a
    where c.oid = v_public::regclass and a.grantee <> c.relowner and a.grantee <> 0
    union all
    select 7, format('comment on table %s is %L', v_public, obj_description(v_public::regclass, 'pg_class'))
    union all
    select 7, format('alter table %s enable row level security', v_public)
    from pg_catalog.pg_class c where c.oid = v_public::regclass and c.relrowsecurity
    union all
    select 8, pg_get_functiondef(f) from unnest(v_functions) f
    union all
    select 9, format('revoke all on function %s from public, anon, authenticated, service_role', f)
    from unnest(v_functions) f
    union all
    select 10, format('grant execute on function %s to %s', f, a.grantee::regrole)
    from unnest(v_functions) f join pg_catalog.pg_proc p on p.oid = f, aclexplode(p.proacl) a
    where a.grantee <> p.proowner and a.grantee <> 0
    union all
    select 10, format('comment on function %s is %L', f, obj_description(f, 'pg_proc')) from unnest(v_functions) f
  ) s;
  foreach v_statement in array v_functions::text[] loop
    execute 'drop function ' || v_statement;
  end loop;

  -- Out of the way, with indexes and constraints, so that the new ones can have their names. Not so the sequence.
  v_statement := (
    select pg_get_serial_sequence(v_public, a.attname) from pg_catalog.pg_attribute a
    where a.attrelid = v_public::regclass and a.attname = 'id'
  );
  if v_statement is not null then
    execute format('alter sequence %s owned by none', v_statement);
  end if;
  execute format('alter table %s set schema private', v_public);

  execute format('create table %s (like %s including comments including constraints including defaults including storage)
    partition by hash (user_id)', v_public, v_old);
  for v_remainder in 0 .. p_partitions - 1 loop
    execute format('create table private.%I partition of %s for values with (modulus %s, remainder %s)',
      p_table || '_' || v_remainder, v_public, p_partitions, v_remainder);
  end loop;
  if v_statement is not null then
    execute format('alter sequence %s owned by %s.id', v_statement, v_public);
  end if;
  execute format('insert into %s select * from %s', v_public, v_old);
  execute format('drop table %s', v_old);
  foreach v_statement in array v_later loop
    execute v_statement;
  end loop;
end
$$;

do $$
begin
  perform pg_temp.partition_by_user('streak_days', 16);
  perform pg_temp.partition_by_user('streak_history', 16);
end
$$;

commit;
