-- Retention: days of the ledger that are no longer kept are dropped, and what must stay moves to the
-- default partitions. The functions run with the rights of the tables' owner.

-- Dead letters that a person discarded. The ledger's last row of the delivery stays as it is.
create table discards (
    batch        uuid        not null, -- batch and webhook together are the delivery
    webhook      uuid        not null,
    entry        integer     not null, -- the sequence number of the row by which it died
    discarded_at timestamptz not null default now(), -- the time at which it was discarded
    primary key (batch, webhook, entry)
);

-- Moves to the default partitions what must stay of the rows of detached partitions: unsettled events
-- with all their attempts, and dead deliveries that were neither replayed nor discarded. The plan of
-- an event without others is cut to those. Returns the number of attempts and events that stay.
create function keep_rows(events_from regclass, attempts_from regclass) returns bigint
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
                                first_pending, routed_by)
            select e.key, e.batch, e.position, e.source, e.event_id, e.event_type, e.subject,
                   e.occurred_at, e.access_revision, e.decided_revision, e.traceparent,
                   e.notification,
                   case when s.webhooks is null then e.webhooks
                        else array(select unnest(e.webhooks) intersect select unnest(s.webhooks)) end,
                   e.received_at, e.look_at, e.queued_at, e.first_pending, e.routed_by
            from stays s join %1$s e on e.batch = s.batch
                                    and (s.webhooks is null or e.webhooks && s.webhooks)
            returning 1
        )
        select (select count(*) from attempts_kept) + (select count(*) from events_kept)
        $sql$, events_from, attempts_from) into kept;
    return kept;
end $$;

-- Drops the oldest day of events and attempts that ended before `older`, and returns the name of its
-- partition of events, and the number of rows that stay. No row: there is none, or another process
-- is at it. It waits at most 100 ms for the locks, and holds them while it moves what stays.
create function drop_day(older timestamptz)
returns table (name text, kept bigint)
language plpgsql security definer set lock_timeout = '100ms' as $$
declare
    of_events text;
    of_attempts text;
begin
    if older > now() - interval '1 day' then
        raise exception 'a day that has not ended a day ago is not dropped';
    end if;
    if not pg_try_advisory_xact_lock(hashtext('fanfare.partitions')) then
        return;
    end if;
    select e.name, a.name into of_events, of_attempts
    from ledger_partitions e
    join ledger_partitions a on a.parent = 'attempts' and a.until = e.until
    where e.parent = 'events' and e.until <= older
    order by e.until limit 1;
    if of_events is null then
        return;
    end if;
    execute format('alter table events detach partition %I', of_events);
    execute format('alter table attempts detach partition %I', of_attempts);
    kept := keep_rows(of_events::regclass, of_attempts::regclass);
    execute format('drop table %I, %I', of_events, of_attempts);
    name := of_events;
    return next;
end $$;
revoke execute on function drop_day(timestamptz) from public;

-- Drops the oldest week of keys that ended before `older`, if no partition of events reaches into it.
-- Keys of events that are kept stay. Returns its partition; null: there is none, or another process is
-- at it.
create function drop_week(older timestamptz) returns text
language plpgsql security definer set lock_timeout = '100ms'
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
    of_keys text;
begin
    if older > now() - interval '1 day' then
        raise exception 'a week that has not ended a day ago is not dropped';
    end if;
    if not pg_try_advisory_xact_lock(hashtext('fanfare.partitions')) then
        return null;
    end if;
    select k.name into of_keys from ledger_partitions k
    where k.parent = 'event_keys' and k.until <= older
      and not exists (select from ledger_partitions e
                      where e.parent = 'events' and not e.is_default
                        and coalesce(e.since, '-infinity') < k.until)
    order by k.until limit 1;
    if of_keys is null then
        return null;
    end if;
    execute format('alter table event_keys detach partition %I', of_keys);
    execute format('insert into event_keys
                    select k.* from (select key from events_default union
                                     select batch from events_default) e
                    join %I k on k.key = e.key', of_keys);
    execute format('drop table %I', of_keys);
    return of_keys;
end $$;
revoke execute on function drop_week(timestamptz) from public;

-- Removes rows that were kept and need not be kept any longer, of at most `batches` batches that were
-- routed before `older`. Returns the number of rows. What is kept is little, so that it is removed row
-- by row.
create function sweep_kept(older timestamptz, batches integer) returns bigint
language plpgsql security definer as $$
declare
    removed bigint;
begin
    if older > now() - interval '1 day' then
        raise exception 'a batch that was not routed a day ago is not removed';
    end if;
    if not pg_try_advisory_xact_lock(hashtext('fanfare.partitions')) then
        return 0;
    end if;
    with old as (
        select e.batch, e.received_at from events_default e
        where e.received_at < older
        group by e.batch, e.received_at
        having bool_and(e.look_at is null)
           and not exists (
               select from attempts_default a
               where a.batch = e.batch and a.received_at = e.received_at and a.state = 'dead'
                 and not exists (select from attempts_default l
                                 where l.batch = a.batch and l.webhook = a.webhook
                                   and l.entry > a.entry and l.received_at = a.received_at)
                 and not exists (select from discards d
                                 where d.batch = a.batch and d.webhook = a.webhook
                                   and d.entry = a.entry))
        limit batches
    ), of_attempts as (
        delete from attempts_default a using old o
        where a.batch = o.batch and a.received_at = o.received_at returning 1
    ), of_events as (
        delete from events_default e using old o
        where e.batch = o.batch and e.received_at = o.received_at returning 1
    ), of_keys as (
        delete from event_keys_default k using old o
        where k.batch = o.batch and k.received_at = o.received_at returning 1
    ), of_discards as (
        delete from discards d
        where d.discarded_at < older
          and not exists (select from attempts_default a
                          where a.batch = d.batch and a.webhook = d.webhook and a.entry = d.entry)
        returning 1
    )
    select (select count(*) from of_attempts) + (select count(*) from of_events)
         + (select count(*) from of_keys) + (select count(*) from of_discards) into removed;
    return removed;
end $$;
revoke execute on function sweep_kept(timestamptz, integer) from public;

do $$
begin
    execute format('alter function drop_day(timestamptz) set search_path = %I, pg_temp',
                   current_schema());
    execute format('alter function drop_week(timestamptz) set search_path = %I, pg_temp',
                   current_schema());
    execute format('alter function sweep_kept(timestamptz, integer) set search_path = %I, pg_temp',
                   current_schema());
end $$;
