-- What routers keep in the broker and in no other table: dead events, and events that wait for their
-- directory revision. A broker that has lost its data gets them back from here.
create table kept_messages (
    id          uuid        primary key,   -- of the dead letter too; a header of the message has it
    kind        text        not null check (kind in ('dead', 'held')), -- a dead event, or one that waits for its revision
    queue       text        not null,      -- the queue to which it is published when it is put back
    routing_key text        not null,      -- the routing key that it was published with
    properties  bytea       not null,      -- its properties and headers, as AMQP 0-9-1 encodes them; empty when settled
    body        bytea       not null,      -- masked; empty when settled
    reason      text,                      -- why it is dead, a stable code; null for one that waits
    detail      text,                      -- the reason in more words; null for one that waits
    digest      uuid        not null,      -- of what was published; recognises it when the broker delivers it again
    source      text,                      -- the source of its first event; null if it can't be read
    event_id    text,                      -- the id of its first event; null if it can't be read
    event_keys  uuid[]      not null,      -- the keys of its events, as far as they can be read
    subjects    text[]      not null,      -- the subjects of its events, as far as they can be read
    users       text[]      not null,      -- folded names of the users whose directory documents it holds
    first_seen  timestamptz not null default now(), -- when a router first kept it
    recorded_at timestamptz not null default now(), -- when a router last kept it: waiting, or dead
    held_until  timestamptz,               -- until when it may wait for its revision; null for one that does not wait
    return_at   timestamptz,               -- when it is published to the events again unless it was settled; null for a dead letter that was not replayed
    returns     smallint    not null default 0, -- how often that was done
    settled_at  timestamptz,               -- when it was routed or discarded; null before
    settled_as  text        check (settled_as in ('routed', 'replayed', 'discarded', 'erased')) -- what became of it; null before
);
create index kept_messages_open on kept_messages (id) where settled_at is null;
create index kept_messages_digest on kept_messages (digest) where settled_at is null;
create index kept_messages_return on kept_messages (return_at)
    where settled_at is null and return_at is not null;
create index kept_messages_settled on kept_messages (settled_at) where settled_at is not null;

-- Dead letter queues that the broker has lost, until a router has put their letters back.
create table lost_queues (
    queue         text        primary key,   -- the queue's name
    missing_since timestamptz not null,      -- when a router found that it did not exist
    leased_until  timestamptz not null default now() -- until when one router puts its letters back
);
