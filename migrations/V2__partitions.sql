-- The ledger in partitions by time: the events that were received on one day (UTC) and their attempts
-- are in two partitions, which are dropped together when their facts are no longer kept. A unique key
-- can't span partitions, so events are recognised by event_keys.
--
-- It locks events and attempts, and copies the attempts of an existing installation. Processes of an
-- earlier version wait until they are upgraded: the default of attempts.received_at tells them so.

-- ---------------------------------------------------------------- Partitions

-- The partitions of the ledger's tables, with their ranges. The default partition of a table has none.
create view ledger_partitions as
select p.relname::text as parent,
       c.relname::text as name,
       substring(pg_get_expr(c.relpartbound, c.oid) from 'FROM \(''([^'']+)''\)')::timestamptz as since,
       substring(pg_get_expr(c.relpartbound, c.oid) from 'TO \(''([^'']+)''\)')::timestamptz as until,
       pg_get_expr(c.relpartbound, c.oid) = 'DEFAULT' as is_default
from pg_inherits i
join pg_class c on c.oid = i.inhrelid
join pg_class p on p.oid = i.inhparent
where p.relname in ('events', 'attempts', 'event_keys')
  and p.relnamespace = to_regnamespace(current_schema()) and c.relispartition;
comment on column ledger_partitions.parent is 'the partitioned table';
comment on column ledger_partitions.name is 'the partition''s name';
comment on column ledger_partitions.since is
    'the beginning of its range; null without a lower end, and for a default partition';
comment on column ledger_partitions.until is 'the end of its range; null for a default partition';
comment on column ledger_partitions.is_default is
    'whether it takes the rows that no other partition takes';

-- Makes the partition of `parent` for the range [since, until) of its column `by`, unless the range
-- overlaps with another partition's. Rows of the range that are in the default partition move to it.
-- Only the default partition is locked against readers and writers, and only while they move. Returns
-- whether it was made.
create function make_partition(parent text, by text, since timestamptz, until timestamptz)
returns boolean language plpgsql as $$
declare
    name text := format('%s_%s', parent, to_char(since at time zone 'UTC', 'YYYYMMDD'));
    condition text := format('%1$I >= %2$L and %1$I < %3$L', by, since, until);
begin
    perform pg_advisory_xact_lock(hashtext('fanfare.partitions'));
    if exists (select from ledger_partitions p
               where p.parent = make_partition.parent and not p.is_default
                 and coalesce(p.since, '-infinity') < make_partition.until
                 and p.until > make_partition.since) then
        return false;
    end if;
    execute format('create table %I (like %I including all)', name, parent);
    execute format('lock table %I in access exclusive mode', parent || '_default');
    execute format('with moved as (delete from %I where %s returning *)
                    insert into %I select * from moved', parent || '_default', condition, name);
    execute format('alter table %I add constraint in_range check (%s)', name, condition);
    execute format('alter table %I attach partition %I for values from (%L) to (%L)',
                   parent, name, since, until);
    execute format('alter table %I drop constraint in_range', name);
    return true;
end $$;

-- Makes the partitions from the present day up to `days` days ahead. Returns the number of partitions
-- that were made. Routers call it with the rights of the tables' owner. It waits at most 100 ms for a
-- lock, since others wait behind it.
create function make_partitions(days integer) returns integer
language plpgsql security definer set lock_timeout = '100ms' as $$
declare
    today timestamptz := date_trunc('day', now(), 'UTC');
    week timestamptz := date_trunc('week', now(), 'UTC');
    made integer := 0;
    day timestamptz;
begin
    for n in 0 .. days loop
        day := today + n * interval '24 hours';
        made := made + make_partition('events', 'received_at', day, day + interval '24 hours')::int
                     + make_partition('attempts', 'received_at', day, day + interval '24 hours')::int;
    end loop;
    for n in 0 .. days / 7 + 1 loop
        day := week + n * interval '168 hours';
        made := made + make_partition('event_keys', 'week', day, day + interval '168 hours')::int;
    end loop;
    return made;
end $$;
revoke execute on function make_partitions(integer) from public;

-- ---------------------------------------------------------------- Events

alter table events rename to events_before;
alter table events_before drop constraint events_pkey;
drop index events_batch, events_received, events_open, events_event_id, events_check_first,
    events_check_later;

-- As events of V1, with comments that changed. A batch's events have one received_at.
create table events (
    like events_before including comments including defaults including constraints,
    primary key (batch, position, received_at)
) partition by range (received_at);
comment on table events is
    'published events and their plans, in partitions by the day on which they were routed. A row is '
    'written once; only look_at, queued_at and first_pending change';
comment on column events.received_at is
    'the time at which it was routed, to which its partition belongs';
-- Lists are read in pages, the newest first.
create index events_received on events (received_at, batch);
-- Events that are not settled.
create index events_open on events (received_at, batch) where look_at is not null;
-- For searches by the publisher's id.
create index events_event_id on events (event_id);
-- The events that the reconciler checks.
create index events_check_first on events (queued_at) where look_at is not null and first_pending;
create index events_check_later on events (queued_at) where look_at is not null and not first_pending;
-- Takes the events for whose day no partition was made, and those that are kept when theirs is dropped.
create table events_default partition of events default;

-- ---------------------------------------------------------------- Keys of events

-- Recognises repeated events, and leads from a key to the partition of its day. There is a row for
-- each event, and one for each batch, whose key a single event has. A unique key can't span
-- partitions, so near the end of a week a key is written for both weeks: of two routers with the same
-- event, one waits for the other whichever week it sees.
create table event_keys (
    week        timestamptz not null, -- the beginning of the week (UTC)
    key         uuid        not null, -- digest of source and id; or a batch's key
    batch       uuid        not null, -- the batch in which it was published last
    received_at timestamptz not null, -- the time at which it was routed last
    primary key (key, week)
) partition by range (week);
-- Takes the keys for whose week no partition was made, and those of rows that are kept.
create table event_keys_default partition of event_keys default;

select make_partition('event_keys', 'week', week, week + interval '168 hours')
from (select distinct date_trunc('week', received_at, 'UTC') as week from events_before) weeks;
insert into event_keys (week, key, batch, received_at)
select distinct date_trunc('week', received_at, 'UTC'), k.key, batch, received_at
from events_before cross join lateral (values (key), (batch)) k(key)
on conflict do nothing;

-- ---------------------------------------------------------------- Attempts

alter table attempts rename to attempts_before;
alter table attempts_before drop constraint attempts_pkey;
drop index attempts_webhook, attempts_ended, attempts_at;

-- A process of an earlier version does not give the time. This error makes it wait.
create function require_upgrade() returns timestamptz language plpgsql as $$
begin
    raise exception using errcode = 'undefined_column',
        message = 'attempts need received_at: upgrade this process';
end $$;

create table attempts (
    like attempts_before including comments including defaults including constraints,
    received_at timestamptz not null default require_upgrade(), -- that of the delivery's events
    primary key (batch, webhook, entry, received_at)
) partition by range (received_at);
comment on table attempts is
    'one row for each attempt, and for each decision to make none, in partitions by the day on which '
    'the delivery''s events were routed. The last row of a delivery is its state';
comment on column attempts.received_at is
    'the time at which the delivery''s events were routed, to which its partition belongs';
-- A webhook's deliveries by time: in the first row of a delivery, `since` is the time of its events.
-- Statistics read the included columns from the index alone.
create index attempts_webhook on attempts (webhook, since, batch, entry)
    include (at, outcome, status);
-- Deliveries of all webhooks that ended without success; there are few.
create index attempts_ended on attempts (state, since, batch, webhook)
    where state in ('dead', 'dropped');
-- Attempts by time, to find the newest: those of the last days may be in several partitions.
create index attempts_at on attempts using brin (at) with (autosummarize = on);
-- Takes the attempts for whose day no partition was made, and those that are kept when theirs is
-- dropped.
create table attempts_default partition of attempts default;

-- ---------------------------------------------------------------- Existing rows

-- What an existing installation has becomes one partition of each table, up to the end of the day.
do $$
declare
    tomorrow timestamptz := date_trunc('day', now(), 'UTC') + interval '24 hours';
begin
    if exists (select from events_before) or exists (select from attempts_before) then
        execute format('alter table events attach partition events_before
                        for values from (minvalue) to (%L)', tomorrow);
        execute format('create table attempts_before_today partition of attempts
                        for values from (minvalue) to (%L)', tomorrow);
        insert into attempts
        select a.*, coalesce(e.received_at, a.since)
        from attempts_before a
        left join (select batch, max(received_at) as received_at from events group by batch) e
            using (batch);
    else
        drop table events_before;
    end if;
    drop table attempts_before;
end $$;

-- The functions that run with the rights of the owner find nothing but the ledger.
do $$
begin
    execute format('alter function make_partitions(integer) set search_path = %I, pg_temp',
                   current_schema());
end $$;

select make_partitions(7);
