-- One line of text for each thing in the schemas that the migrations own, in an order that no oid decides: a snapshot of the
-- schema for machines without a pg_dump of the server's version.

with schemas as (
  select n.oid, n.nspname, n.nspacl from pg_catalog.pg_namespace n where n.nspname in ('public', 'private')
),
relations as (
  select s.nspname || '.' || c.relname as name, c.* from pg_catalog.pg_class c join schemas s on s.oid = c.relnamespace
),
functions as (
  select p.oid::regprocedure::text as name, p.* from pg_catalog.pg_proc p join schemas s on s.oid = p.pronamespace
  where not exists (select from pg_catalog.pg_depend d where d.objid = p.oid and d.deptype = 'e')
),
lines (section, name, position, line) as (
  select 1, s.nspname::text, 0, 'schema ' || s.nspname from schemas s

  union all
  select 2, r.name, 0, format('%s %s%s%s replica identity %s%s',
    case r.relkind when 'r' then 'table' when 'v' then 'view' when 'S' then 'sequence' when 'c' then 'type' end, r.name,
    case when r.relrowsecurity then ' row level security' else '' end,
    case when r.relforcerowsecurity then ' forced' else '' end, r.relreplident,
    case when r.reloptions is null then '' else ' with ' || r.reloptions::text end)
  from relations r where r.relkind in ('r', 'v', 'S', 'c')

  union all
  select 2, r.name, 1, format('%s.%s %s%s%s', r.name, a.attname, format_type(a.atttypid, a.atttypmod),
    case when a.attnotnull then ' not null' else '' end, coalesce(' default ' || pg_get_expr(d.adbin, d.adrelid), ''))
  from relations r join pg_catalog.pg_attribute a on a.attrelid = r.oid and a.attnum > 0 and not a.attisdropped
  left join pg_catalog.pg_attrdef d on d.adrelid = r.oid and d.adnum = a.attnum
  where r.relkind in ('r', 'v', 'c')

  union all
  select 2, r.name, 2, format('%s constraint %s %s', r.name, c.conname, pg_get_constraintdef(c.oid))
  from relations r join pg_catalog.pg_constraint c on c.conrelid = r.oid

  union all
  select 2, r.name, 3, format('%s index %s', r.name, pg_get_indexdef(i.indexrelid))
  from relations r join pg_catalog.pg_index i on i.indrelid = r.oid

  union all
  select 2, r.name, 4, format('%s policy "%s" %s for %s to %s using (%s) check (%s)', r.name, p.polname,
    case when p.polpermissive then 'permissive' else 'restrictive' end, p.polcmd,
    (select string_agg(coalesce(o.rolname, 'public'), ', ' order by o.rolname)
     from unnest(p.polroles) x left join pg_catalog.pg_roles o on o.oid = x),
    pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid))
  from relations r join pg_catalog.pg_policy p on p.polrelid = r.oid

  union all
  select 2, r.name, 5, format('%s %s enabled %s', r.name, pg_get_triggerdef(t.oid), t.tgenabled)
  from relations r join pg_catalog.pg_trigger t on t.tgrelid = r.oid and not t.tgisinternal

  union all
  select 2, r.name, 6, format('%s source %s', r.name, md5(pg_get_viewdef(r.oid))) from relations r where r.relkind = 'v'

  union all
  select 2, r.name, 7, format('%s publication %s', r.name, p.pubname)
  from relations r join pg_catalog.pg_publication_rel l on l.prrelid = r.oid
  join pg_catalog.pg_publication p on p.oid = l.prpubid

  union all
  select 3, f.name, 0, format('function %s returns %s', f.name, pg_get_function_result(f.oid)) from functions f
  union all
  select 3, f.name, 1, format('%s arguments (%s)', f.name, pg_get_function_arguments(f.oid)) from functions f
  union all
  select 3, f.name, 2, format('%s language %s volatile %s parallel %s%s%s rows %s %s', f.name, l.lanname, f.provolatile,
    f.proparallel, case when f.proisstrict then ' strict' else '' end,
    case when f.prosecdef then ' security definer' else '' end, f.prorows, f.proconfig::text)
  from functions f join pg_catalog.pg_language l on l.oid = f.prolang
  union all
  select 3, f.name, 3, format('%s source %s', f.name, md5(f.prosrc)) from functions f

  union all
  select o.section, o.name, 8, format('%s grant %s%s to %s', o.name, x.privilege_type,
    case when x.is_grantable then ' with grant option' else '' end, coalesce(r.rolname, 'public'))
  from (
    select 1 as section, s.nspname::text as name, s.nspacl as acl from schemas s
    union all
    select 2, c.name, coalesce(c.relacl, acldefault(case c.relkind when 'S' then 's' else 'r' end::"char", c.relowner))
    from relations c where c.relkind in ('r', 'v', 'S')
    union all
    select 3, f.name, coalesce(f.proacl, acldefault('f', f.proowner)) from functions f
  ) o
  cross join lateral aclexplode(o.acl) x
  left join pg_catalog.pg_roles r on r.oid = x.grantee
  where coalesce(r.rolname, 'public') in ('public', 'anon', 'authenticated', 'service_role')

  union all
  select 2, r.name, 9, format('%s comment %s', concat_ws('.', r.name, a.attname), to_json(d.description))
  from relations r join pg_catalog.pg_description d on d.objoid = r.oid and d.classoid = 'pg_catalog.pg_class'::regclass
  left join pg_catalog.pg_attribute a on a.attrelid = r.oid and a.attnum = d.objsubid and d.objsubid > 0
  union all
  select 3, f.name, 9, format('%s comment %s', f.name, to_json(d.description))
  from functions f join pg_catalog.pg_description d on d.objoid = f.oid and d.classoid = 'pg_catalog.pg_proc'::regclass
)
select line from lines order by section, name collate "C", position, line collate "C"
