-- What docs/growth/queue.sql needs of pgmq, which the embedded PostgreSQL does not carry: the same names, arguments and answers.

create schema pgmq;
create type pgmq.message_record as (
  msg_id bigint, read_ct integer, enqueued_at timestamptz, vt timestamptz, message jsonb
);

create function pgmq.create(queue_name text) returns void language plpgsql as $$
begin
  execute format('create table pgmq.q_%s (msg_id bigint generated always as identity primary key,
    read_ct integer not null default 0, enqueued_at timestamptz not null default now(), vt timestamptz not null,
    message jsonb)', queue_name);
  execute format('create index on pgmq.q_%s (vt)', queue_name);
  execute format('create table pgmq.a_%s (like pgmq.q_%s)', queue_name, queue_name);
end
$$;

create function pgmq.send(queue_name text, msg jsonb) returns setof bigint language plpgsql as $$
begin
  return query execute format('insert into pgmq.q_%s (vt, message) values (clock_timestamp(), $1) returning msg_id', queue_name)
    using msg;
end
$$;

create function pgmq.read(queue_name text, vt integer, qty integer) returns setof pgmq.message_record
language plpgsql as $$
begin
  return query execute format('
    with chosen as (
      select msg_id from pgmq.q_%1$s where vt <= clock_timestamp() order by msg_id limit $1 for update skip locked
    )
    update pgmq.q_%1$s m set vt = clock_timestamp() + make_interval(secs => $2), read_ct = m.read_ct + 1
    from chosen where m.msg_id = chosen.msg_id
    returning m.msg_id, m.read_ct, m.enqueued_at, m.vt, m.message', queue_name) using qty, vt;
end
$$;

create function pgmq.delete(queue_name text, msg_ids bigint[]) returns setof bigint language plpgsql as $$
begin
  return query execute format('delete from pgmq.q_%s where msg_id = any ($1) returning msg_id', queue_name) using msg_ids;
end
$$;

create function pgmq.archive(queue_name text, msg_ids bigint[]) returns setof bigint language plpgsql as $$
begin
  return query execute format('
    with gone as (delete from pgmq.q_%1$s where msg_id = any ($1) returning *)
    insert into pgmq.a_%1$s select * from gone returning msg_id', queue_name) using msg_ids;
end
$$;
