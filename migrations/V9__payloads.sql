-- Ages of their own for payloads and for the audit trail, and erasure. A payload is an event's data or
-- the body of an answer. The functions run with the rights of the tables' owner, as those of V3 do.

-- ---------------------------------------------------------------- The marks

-- The mark is set with the removal. The notification becomes the JSON text null then, which no event
-- has: earlier versions show it as it is.
alter table events add column payload_removed text;
comment on column events.payload_removed is
    'why the notification is null in JSON: age (it was too old) or erased (a person asked for it); null while it is there';
alter table attempts add column payload_removed text;
comment on column attempts.payload_removed is
    'why the response''s body is gone: age, or erased, which takes the error and the headers too; null while it is there';

-- ---------------------------------------------------------------- Payloads that are too old

-- One row: how far payloads are removed. All events before this position are done, except those of
-- payloads_kept.
create table payload_progress (
    singleton   boolean     primary key default true check (singleton), -- there is one row
    received_at timestamptz not null, -- the time at which the last batch that is done was routed
    batch       uuid        not null  -- that batch
);
insert into payload_progress (received_at, batch)
values ('epoch', '00000000-0000-0000-0000-000000000000');

-- Batches that are too old and keep their payloads: they are unsettled, or have an undecided dead
-- letter. There are few.
create table payloads_kept (
    batch       uuid        not null, -- the batch
    received_at timestamptz not null, -- the time at which it was routed
    checked_at  timestamptz not null default now(), -- the last time at which it was found to be needed
    primary key (batch, received_at)
);
create index payloads_kept_checked on payloads_kept (checked_at);

-- Removes the payloads of at most `most` batches that were routed before `older`: events' data and
-- answers' bodies. Batches are taken in the order of their rows in the table. Batches that were kept
-- are looked at again every ten minutes. Returns the numbers of events and answers, and whether there
-- may be more. No row: another process is at it.
create function remove_payloads(older timestamptz, most integer)
returns table (events_removed bigint, answers_removed bigint, more boolean)
language plpgsql security definer set lock_timeout = '1s' set plan_cache_mode = force_custom_plan
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
    passed payload_progress;
    next_keys uuid[];
    next_times timestamptz[];
    keys uuid[];
    times timestamptz[];
begin
    if older > now() - interval '1 day' then
        raise exception 'a payload that is not a day old is not removed';
    end if;
    if not pg_try_advisory_xact_lock(hashtext('fanfare.payloads')) then
        return;
    end if;
    select * into passed from payload_progress;
    select coalesce(array_agg(n.batch order by n.received_at, n.batch), '{}'),
           coalesce(array_agg(n.received_at order by n.received_at, n.batch), '{}')
    into next_keys, next_times
    from (select e.received_at, e.batch from events e
          where e.received_at >= passed.received_at and e.received_at < older
            and (e.received_at, e.batch) > (passed.received_at, passed.batch)
          group by e.received_at, e.batch order by e.received_at, e.batch limit most) n;
    select next_keys || coalesce(array_agg(k.batch), '{}'),
           next_times || coalesce(array_agg(k.received_at), '{}')
    into keys, times
    from (select batch, received_at from payloads_kept
          where checked_at < now() - interval '10 minutes' and received_at < older
          order by checked_at limit most) k;

    -- What is needed stays, and is looked at again later.
    with asked as (
        select * from unnest(keys, times) n(batch, received_at)
    ), needed as (
        insert into payloads_kept as k (batch, received_at)
        select n.batch, n.received_at from asked n
        where exists (select from events e
                      where e.batch = n.batch and e.received_at = n.received_at
                        and e.look_at is not null)
           or exists (select from attempts a
                      where a.batch = n.batch and a.received_at = n.received_at
                        and a.state = 'dead'
                        and not exists (select from attempts l
                                        where l.batch = a.batch and l.webhook = a.webhook
                                          and l.entry > a.entry and l.received_at = a.received_at)
                        and not exists (select from discards d
                                        where d.batch = a.batch and d.webhook = a.webhook
                                          and d.entry = a.entry))
        on conflict (batch, received_at) do update set checked_at = now()
        returning k.batch, k.received_at
    ), free as (
        delete from payloads_kept k using asked n
        where k.batch = n.batch and k.received_at = n.received_at
          and not exists (select from needed d
                          where d.batch = n.batch and d.received_at = n.received_at)
    )
    select coalesce(array_agg(n.batch), '{}'), coalesce(array_agg(n.received_at), '{}')
    into keys, times
    from asked n
    where not exists (select from needed d
                      where d.batch = n.batch and d.received_at = n.received_at);

    -- A person may begin a delivery again at this moment. The restart locks the event, and is refused
    -- when it comes second; when it comes first, the event is unsettled.
    update events e set notification = 'null', payload_removed = 'age'
    from unnest(keys, times) n(batch, received_at)
    where e.batch = n.batch and e.received_at = n.received_at
      and e.received_at between (select min(t) from unnest(times) t) and (select max(t) from unnest(times) t)
      and e.look_at is null and e.payload_removed is null;
    get diagnostics events_removed = row_count;
    update attempts a set response_body = null, payload_removed = 'age'
    from unnest(keys, times) n(batch, received_at)
    where a.batch = n.batch and a.received_at = n.received_at
      and a.received_at between (select min(t) from unnest(times) t) and (select max(t) from unnest(times) t)
      and a.response_body is not null
      and not exists (select from events e
                      where e.batch = n.batch and e.received_at = n.received_at
                        and e.look_at is not null);
    get diagnostics answers_removed = row_count;

    more := cardinality(next_keys) = most;
    if more then
        update payload_progress
        set received_at = next_times[most], batch = next_keys[most];
    elsif older > passed.received_at then
        update payload_progress
        set received_at = older, batch = '00000000-0000-0000-0000-000000000000';
    end if;
    return next;
end $$;
revoke execute on function remove_payloads(timestamptz, integer) from public;

-- As in V3, with the column that is new.
create or replace function keep_rows(events_from regclass, attempts_from regclass) returns bigint
-- What stays is little, and is looked up: everything else waits for the locks meanwhile.
language plpgsql set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
    kept bigint;
begin
    execute format($sql$
        with unsettled as (
            select distinct batch from %1$s where look_at is not null
        ), dead as (
            select a.batch, array_agg(a.webhook) as webhooks from %2$s a
            where a.state = 'dead' and a.state in ('dead', 'dropped')
              and not exists (select from %2$s l where l.batch = a.batch and l.webhook = a.webhook
                                                   and l.entry > a.entry)
              and not exists (select from discards d where d.batch = a.batch
                              and d.webhook = a.webhook and d.entry = a.entry)
              and not exists (select from unsettled u where u.batch = a.batch)
            group by a.batch
        ), stays as materialized (
            select batch, null::uuid[] as webhooks from unsettled union all select * from dead
        ), attempts_kept as (
            insert into attempts
            select a.* from stays s
            join %2$s a on a.batch = s.batch and (s.webhooks is null or a.webhook = any(s.webhooks))
            returning 1
        ), events_kept as (
            insert into events (key, batch, position, source, event_id, event_type, subject,
                                occurred_at, access_revision, decided_revision, traceparent,
                                notification, webhooks, received_at, look_at, queued_at,
                                first_pending, routed_by, payload_removed)
            select e.key, e.batch, e.position, e.source, e.event_id, e.event_type, e.subject,
                   e.occurred_at, e.access_revision, e.decided_revision, e.traceparent,
                   e.notification,
                   case when s.webhooks is null then e.webhooks
                        else array(select unnest(e.webhooks) intersect select unnest(s.webhooks)) end,
                   e.received_at, e.look_at, e.queued_at, e.first_pending, e.routed_by,
                   e.payload_removed
            from stays s join %1$s e on e.batch = s.batch
                                    and (s.webhooks is null or e.webhooks && s.webhooks)
            returning 1
        )
        select (select count(*) from attempts_kept) + (select count(*) from events_kept)
        $sql$, events_from, attempts_from) into kept;
    return kept;
end $$;

-- ---------------------------------------------------------------- The audit trail

-- The partitions of the audit trail with their ranges. The default partition has none.
create view audit_partitions as
select p.relname::text as parent,
       c.relname::text as name,
       substring(pg_get_expr(c.relpartbound, c.oid) from 'FROM \(''([^'']+)''\)')::timestamptz as since,
       substring(pg_get_expr(c.relpartbound, c.oid) from 'TO \(''([^'']+)''\)')::timestamptz as until,
       pg_get_expr(c.relpartbound, c.oid) = 'DEFAULT' as is_default
from pg_inherits i
join pg_class c on c.oid = i.inhrelid
join pg_class p on p.oid = i.inhparent
where p.relname = 'audit'
  and p.relnamespace = to_regnamespace(current_schema()) and c.relispartition;
comment on column audit_partitions.parent is 'the partitioned table';
comment on column audit_partitions.name is 'the partition''s name';
comment on column audit_partitions.since is 'the beginning of its month; null for the default partition';
comment on column audit_partitions.until is 'the end of its month; null for the default partition';
comment on column audit_partitions.is_default is 'whether it takes the rows that no other partition takes';

-- Drops the oldest month of the audit trail that ended before `older`, and returns its partition; null:
-- there is none, or another process is at it. Then it removes what is too old from the default
-- partition, where rows are only if partitions were missing. It waits at most 100 ms for the lock.
create function drop_audit_month(older timestamptz) returns text
language plpgsql security definer set lock_timeout = '100ms' as $$
declare
    month text;
begin
    if older > now() - interval '1 day' then
        raise exception 'a month that has not ended a day ago is not dropped';
    end if;
    if not pg_try_advisory_xact_lock(hashtextextended('fanfare partitions of audit', 0)) then
        return null;
    end if;
    select name into month from audit_partitions where until <= older order by until limit 1;
    if month is not null then
        execute format('drop table %I', month);
        return month;
    end if;
    delete from audit_rest where at < older;
    return null;
end $$;
revoke execute on function drop_audit_month(timestamptz) from public;

do $$
begin
    execute format('alter function remove_payloads(timestamptz, integer) set search_path = %I, pg_temp',
                   current_schema());
    execute format('alter function drop_audit_month(timestamptz) set search_path = %I, pg_temp',
                   current_schema());
end $$;
