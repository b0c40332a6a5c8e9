-- Statistics read the attempts of each hour from a table of their own, since counting them in the ledger would
-- read every attempt of a day or a month. And a day is read before it is locked to be dropped.

-- ---------------------------------------------------------------- Attempts by hour

-- Consoles add the new attempts every few seconds, and count those from before this migration hour by hour.

-- Attempts by webhook, by the hour in which they began, and by outcome. Hours of the last 32 days are kept.
create table attempt_hours (
    webhook  uuid        not null, -- the webhook; all digits zero for all webhooks together
    hour     timestamptz not null, -- the beginning of the hour
    outcome  text        not null, -- the code of the outcome
    attempts bigint      not null, -- the number of attempts
    primary key (webhook, hour, outcome)
);
create index attempt_hours_old on attempt_hours (hour);

-- One row: which attempts are counted in attempt_hours. An attempt is counted once, in the transaction that
-- moves one of the ends over it.
create table attempt_hours_state (
    singleton    boolean     primary key default true check (singleton), -- there is one row
    counted_from timestamptz not null, -- attempts that began at this time or later are counted …
    counted_to   timestamptz not null  -- … if they began before this time
);
-- The rows of attempts that began an hour ago are in the ledger. Without attempts there is nothing to count.
insert into attempt_hours_state (counted_from, counted_to)
select case when exists (select from attempts) then date_trunc('hour', now(), 'UTC') - interval '1 hour'
            else 'epoch' end,
       date_trunc('hour', now(), 'UTC') - interval '1 hour';

-- ---------------------------------------------------------------- Dropping a day

-- The rows of a day that must stay when it is dropped, as the beginning of a statement: its `stays` has
-- batches, each with the webhooks whose deliveries stay, or null for all of them.
create function rows_that_stay(events_from regclass, attempts_from regclass) returns text
language sql immutable as $$
    select format($sql$
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
        )
        $sql$, events_from, attempts_from)
$$;
comment on function rows_that_stay is
    'the beginning of a statement about the rows of a day that must stay when it is dropped';

-- Reads what must stay of a day, so that the same search under the lock finds its pages in memory: an old
-- day has not been read for long, and everything waits for the lock. Returns the number of batches.
create function read_what_stays(events_from regclass, attempts_from regclass) returns bigint
language plpgsql set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
    batches bigint;
begin
    execute rows_that_stay(events_from, attempts_from) || format($sql$
        select count(*) filter (where e.notification is not null) from stays s
        left join lateral (select max(a.error) as error from %2$s a where a.batch = s.batch) a on true
        left join lateral (select max(e.notification) as notification from %1$s e
                           where e.batch = s.batch) e on true
        $sql$, events_from, attempts_from) into batches;
    return batches;
end $$;

-- The search and the moving are those of V1.
create or replace function keep_rows(events_from regclass, attempts_from regclass) returns bigint
language plpgsql set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
    kept bigint;
begin
    execute rows_that_stay(events_from, attempts_from) || format($sql$
        , attempts_kept as (
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

-- Drops the oldest day of events and attempts that ended before `older`, and returns the name of its
-- partition of events, and the number of rows that stay. No row: there is none, or another process
-- is at it. It waits at most 100 ms for the first lock, and at most 50 ms for each other one, since others
-- wait for the first meanwhile. It holds them while it moves what stays, which it has read before.
create or replace function drop_day(older timestamptz)
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
    perform read_what_stays(of_events::regclass, of_attempts::regclass);
    lock table only events in access exclusive mode;
    perform set_config('lock_timeout', '50ms', true);
    lock table only attempts in access exclusive mode;
    execute format('alter table events detach partition %I', of_events);
    execute format('alter table attempts detach partition %I', of_attempts);
    kept := keep_rows(of_events::regclass, of_attempts::regclass);
    execute format('drop table %I, %I', of_events, of_attempts);
    name := of_events;
    return next;
end $$;

-- The function that runs with the rights of the owner finds nothing but the tables of this schema.
do $$
begin
    execute format('alter function drop_day(timestamptz) set search_path = %I, pg_temp', current_schema());
end $$;
