-- The index of dead letters: what the queues of dead letters have, as far as the ledger knows it. Lists,
-- searches and groups read this table and leave the queues alone. Triggers write it in the transaction of
-- the row by which a delivery dies or an event is refused. A delivery that succeeds costs nothing.
create table dead_letters (
    id          text        primary key,   -- the letter's id, a header of its message
    kind        text        not null check (kind in ('events', 'deliveries')), -- the queue that has it
    source      text        not null check (source in ('ledger', 'broker')), -- ledger: its content is in the ledger; broker: only its queue has it
    batch       uuid,                      -- the delivery's batch; null for an event, or when it is not known
    webhook     uuid,                      -- the delivery's webhook; null as above
    entry       integer,                   -- the row of attempts by which it died; null as above
    received_at timestamptz,               -- when its events were routed, which leads to its partition; null as above
    owner       text,                      -- the webhook's owner, as written; null for an event
    owner_key   text,                      -- the same, folded
    host        text,                      -- the host of the webhook's address at that time; null for an event
    event_type  text,                      -- the type of its first event, as published; null if it is not known
    event_id    text,                      -- the id of its first event; null if it is not known
    reason      text        not null,      -- why it was given up, a stable code
    detail      text,                      -- the reason in more words; null: none
    outcome     text,                      -- the outcome of the last attempt; null without one
    status      integer,                   -- the HTTP status of the last attempt; null without an answer
    attempts    integer,                   -- the number of attempts; null for an event
    error       text,                      -- the error of the last attempt; null: none
    cause       text,                      -- what groups it: the error or detail without its numbers and ids
    bytes       integer     not null default 0, -- the size of its content, if the ledger keeps it as a message
    died_at     timestamptz not null,      -- when it became a dead letter
    noted_at    timestamptz not null default now(), -- when this row was written, or opened again
    settled_at  timestamptz,               -- when it was settled; null while it is open
    settled_as  text        check (settled_as in ('replayed', 'discarded', 'erased', 'taken')), -- what became of it; taken: others took it from its queue
    copies      smallint    not null default 1, -- how many messages with this id its queue should have
    gone        text[]      not null default '{}', -- the times of death (a header) of its earlier messages, which have to leave the queue
    missed_at   timestamptz                -- when its message was first not found in the queue; null when it was found
);
-- Lists, the newest or the oldest first.
create index dead_letters_open on dead_letters (died_at, id) where settled_at is null;
create index dead_letters_of_queue on dead_letters (kind, died_at, id) where settled_at is null;
-- Groups read one of these alone.
create index dead_letters_reason on dead_letters (reason, died_at) include (webhook) where settled_at is null;
create index dead_letters_webhook on dead_letters (webhook, died_at) where settled_at is null;
create index dead_letters_owner on dead_letters (owner_key, died_at) include (webhook) where settled_at is null;
create index dead_letters_host on dead_letters (host, died_at) include (webhook) where settled_at is null;
create index dead_letters_event_type on dead_letters (event_type, died_at) include (webhook) where settled_at is null;
create index dead_letters_status on dead_letters (status, died_at) include (webhook) where settled_at is null;
create index dead_letters_cause on dead_letters (cause, died_at) include (webhook) where settled_at is null;
-- A restart and a discard settle the letters of their delivery.
create index dead_letters_delivery on dead_letters (batch, webhook) where batch is not null;
-- What its queue should have, and what has to leave it.
create index dead_letters_in_queue on dead_letters (kind, copies) where copies > 0;
create index dead_letters_leaving on dead_letters (kind, died_at)
    where copies > 0 and source = 'ledger' and (settled_at is not null or gone <> '{}');
create index dead_letters_settled on dead_letters (settled_at) where settled_at is not null;

-- One row: the state of the index.
create table dead_letters_state (
    singleton    boolean primary key default true check (singleton), -- there is one row
    filled       boolean not null default false, -- whether `fanfare migrate` has added all letters of an earlier version
    walked_until timestamptz not null default 'epoch' -- until when one process compares queues with the index
);
insert into dead_letters_state (filled) values (false);

-- The text of an error without what differs from one occurrence to the next: numbers, ids and quoted
-- values. Errors with the same cause are in one group.
create function error_cause(error text) returns text language sql immutable as $$
    select left(regexp_replace(regexp_replace(regexp_replace(regexp_replace(error,
        '[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}', '…', 'g'),
        '\m(?=[a-zA-Z]*[0-9])[0-9a-zA-Z_-]{9,}\M', '…', 'g'),
        '"[^"]*"|''[^'']*''|`[^`]*`', '…', 'g'),
        '[0-9]+', 'N', 'g'), 200)
$$;

-- The id of the letter of a delivery that died by the row `entry`: the delivery's Id, as core::ids makes it.
create function dead_delivery_id(batch uuid, webhook uuid, entry integer) returns text
language sql immutable as $$
    select encode(substring(uuid_send(batch) for 8)
                  || substring(sha256('delivery'::bytea || int8send(16) || uuid_send(batch)
                                      || int8send(16) || uuid_send(webhook)) for 8), 'hex')
           || '-' || entry
$$;

-- Adds the letter of a delivery that died by this row, unless the delivery went on or was discarded.
create function add_dead_delivery(a_batch uuid, a_webhook uuid, a_entry integer, routed timestamptz,
                                  died timestamptz)
returns void language plpgsql security definer as $$
begin
    insert into dead_letters (id, kind, source, batch, webhook, entry, received_at, owner, owner_key,
                              host, event_type, event_id, reason, outcome, status, attempts, error,
                              cause, died_at)
    select dead_delivery_id(a.batch, a.webhook, a.entry), 'deliveries', 'ledger', a.batch, a.webhook,
           a.entry, a.received_at, w.owner, w.owner_key,
           lower(substring(w.uri from '^[^:]*://(?:[^/?#]*@)?(\[[^\]]*\]|[^/:?#]*)')),
           e.event_type, e.event_id, coalesce(a.reason, 'exhausted'), a.outcome, a.status, a.attempt,
           a.error,
           coalesce(error_cause(a.error), 'status ' || a.status, a.outcome, a.reason), died
    from attempts a
    left join webhooks w on w.id = a.webhook
    left join lateral (select e.event_type, e.event_id from events e
                       where e.batch = a.batch and e.received_at = a.received_at
                         and a.webhook = any(e.webhooks)
                       order by e.position limit 1) e on true
    where a.batch = a_batch and a.webhook = a_webhook and a.entry = a_entry
      and a.received_at = routed
      and not exists (select from attempts l
                      where l.batch = a_batch and l.webhook = a_webhook and l.received_at = routed
                        and l.entry > a_entry)
      and not exists (select from discards d
                      where d.batch = a_batch and d.webhook = a_webhook and d.entry = a_entry)
    on conflict (id) do nothing;
end $$;
revoke execute on function add_dead_delivery(uuid, uuid, integer, timestamptz, timestamptz) from public;

create function note_dead_delivery() returns trigger language plpgsql security definer as $$
begin
    perform add_dead_delivery(new.batch, new.webhook, new.entry, new.received_at, clock_timestamp());
    return null;
end $$;
-- A row that moves to another partition keeps its letter, and its time, and is not looked up under the lock.
create trigger attempts_died after insert on attempts
    for each row when (new.state = 'dead' and new.at > now() - interval '1 day')
    execute function note_dead_delivery();

-- A person had the delivery attempted again: only that writes a pending row.
create function settle_restarted_letter() returns trigger language plpgsql security definer as $$
begin
    update dead_letters set settled_at = now(), settled_as = 'replayed'
    where batch = new.batch and webhook = new.webhook and entry < new.entry and settled_at is null;
    return null;
end $$;
create trigger attempts_restarted after insert on attempts
    for each row when (new.state = 'pending') execute function settle_restarted_letter();

create function settle_discarded_letter() returns trigger language plpgsql security definer as $$
begin
    update dead_letters set settled_at = now(), settled_as = 'discarded'
    where batch = new.batch and webhook = new.webhook and entry = new.entry and settled_at is null;
    return null;
end $$;
create trigger discards_settle after insert on discards
    for each row execute function settle_discarded_letter();

-- Adds the letter of a dead event, or opens it again: a replayed event was refused once more.
create function add_dead_event(kept uuid) returns void language plpgsql security definer as $$
begin
    insert into dead_letters as d (id, kind, source, event_type, event_id, reason, detail, cause, bytes,
                                   died_at)
    select replace(k.id::text, '-', ''), 'events', 'ledger', nullif(k.routing_key, ''), k.event_id,
           coalesce(k.reason, 'poison'), k.detail, coalesce(error_cause(k.detail), k.reason),
           octet_length(k.body), k.recorded_at
    from kept_messages k where k.id = kept
    on conflict (id) do update
    set event_type = excluded.event_type, event_id = excluded.event_id, reason = excluded.reason,
        detail = excluded.detail, cause = excluded.cause, bytes = excluded.bytes,
        died_at = excluded.died_at, noted_at = now(), settled_at = null, settled_as = null,
        missed_at = null, source = 'ledger',
        copies = case when d.settled_at is null then d.copies else least(d.copies, 1000) + 1 end;
end $$;
revoke execute on function add_dead_event(uuid) from public;

create function note_dead_event() returns trigger language plpgsql security definer as $$
begin
    perform add_dead_event(new.id);
    return null;
end $$;
create trigger kept_messages_died after insert or update of kind, settled_at, return_at on kept_messages
    for each row when (new.kind = 'dead' and new.settled_at is null and new.return_at is null)
    execute function note_dead_event();

create function settle_dead_event() returns trigger language plpgsql security definer as $$
begin
    update dead_letters
    set settled_at = now(),
        settled_as = case when new.settled_as in ('discarded', 'erased') then new.settled_as
                          else 'replayed' end
    where id = replace(new.id::text, '-', '') and settled_at is null;
    return null;
end $$;
create trigger kept_messages_settled after update of kind, settled_at, return_at on kept_messages
    for each row
    when (old.kind = 'dead'
          and (new.kind <> 'dead' or new.settled_at is not null or new.return_at is not null))
    execute function settle_dead_event();

-- Adds at most `most` dead deliveries, and as many events, that died before there was an index. Returns
-- how many rows it looked at; 0 when all are there.
create function fill_dead_letters(most integer) returns bigint language plpgsql as $$
declare
    added bigint;
begin
    with found as (
        select a.batch, a.webhook, a.entry, a.received_at,
               a.at + coalesce(a.duration_ms, 0) * interval '1 millisecond' as died
        from attempts a
        where a.state = 'dead' and a.state in ('dead', 'dropped')
          and not exists (select from dead_letters d
                          where d.id = dead_delivery_id(a.batch, a.webhook, a.entry))
          and not exists (select from attempts l
                          where l.batch = a.batch and l.webhook = a.webhook
                            and l.received_at = a.received_at and l.entry > a.entry)
          and not exists (select from discards d
                          where d.batch = a.batch and d.webhook = a.webhook and d.entry = a.entry)
        limit most
    ), deliveries as (
        select add_dead_delivery(f.batch, f.webhook, f.entry, f.received_at, f.died) from found f
    ), kept as (
        select k.id from kept_messages k
        where k.settled_at is null and k.kind = 'dead' and k.return_at is null
          and not exists (select from dead_letters d where d.id = replace(k.id::text, '-', ''))
        limit most
    ), events as (
        select add_dead_event(k.id) from kept k
    )
    select (select count(*) from deliveries) + (select count(*) from events) into added;
    return added;
end $$;
revoke execute on function fill_dead_letters(integer) from public;

-- The functions that run with the rights of the owner find nothing but the tables of this schema.
do $$
declare
    one text;
begin
    foreach one in array array[
        'add_dead_delivery(uuid, uuid, integer, timestamptz, timestamptz)',
        'note_dead_delivery()',
        'settle_restarted_letter()',
        'settle_discarded_letter()',
        'add_dead_event(uuid)',
        'note_dead_event()',
        'settle_dead_event()'
    ] loop
        execute format('alter function %s set search_path = %I, pg_temp', one, current_schema());
    end loop;
end $$;
