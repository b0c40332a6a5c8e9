-- Bulk operations of administrators on dead letters. Routers, and the command that asked, make their steps.
-- A step settles letters, counts them and writes their states in one transaction, so that any process may
-- end at any point.
create table operations (
    id          uuid        primary key,   -- version 7: sorted by time
    kind        text        not null check (kind in ('replay', 'discard')), -- what it does with its letters
    filter      jsonb       not null,      -- which letters were asked for
    note        text,                      -- a remark of the person; null: none
    rate        integer     check (rate > 0), -- letters a second; null: as fast as possible
    canary      boolean     not null,      -- whether each webhook gets one letter first, and a webhook that fails gets no more
    asked_by    text,                      -- the name of the person; null when it is not known
    door        text        not null,      -- the door by which the request came in
    address     text,                      -- the client's address, or user@host of a command; null when it is not known
    correlation text,                      -- the id that a proxy gave the request; null: none
    asked_at    timestamptz not null default now(), -- the time of the request; letters that died later are not its own
    state       text        not null default 'running'
                            check (state in ('running', 'paused', 'done', 'cancelled', 'stopped')),
    total       bigint      not null,      -- the number of its letters
    settled     bigint      not null default 0, -- letters that were replayed or discarded so far
    delivered   bigint      not null default 0, -- replayed letters that were delivered, or routed
    failed      bigint      not null default 0, -- replayed letters that are dead again
    dropped     bigint      not null default 0, -- replayed letters that were dropped
    refused     jsonb       not null default '{}', -- the numbers of letters that it kept, by reason
    used_to     timestamptz,               -- the time up to which its rate was used; null before the first step
    observed_to bigint      not null default 0, -- the position of the letter whose outcome was looked for last
    ended_at    timestamptz                -- the time at which it ended; null before
);
create index operations_open on operations (id) where state = 'running';

-- The letters of operations, in the order in which they are taken.
create table operation_letters (
    operation    uuid        not null references operations on delete cascade,
    position     bigint      not null,     -- from 1: the oldest letter first
    letter       text        not null,     -- the letter's id in dead_letters
    batch        uuid,                     -- batch and webhook together are the delivery; null for an event
    webhook      uuid,
    entry        integer,                  -- the sequence number of the row by which the delivery died; null for an event
    received_at  timestamptz,              -- the time at which the delivery's events were routed; null for an event
    reason       text        not null,     -- why it was dead
    state        text        not null default 'waiting'
                             check (state in ('waiting', 'begun', 'delivered', 'failed', 'dropped', 'discarded', 'refused', 'restored')),
    refusal      text,                     -- why the operation kept it, or why its delivery was dropped; null: neither
    attempted_at timestamptz,              -- when the attempt began that delivered it, or ended that failed; null before
    primary key (operation, position)
);
create index operation_letters_state on operation_letters (operation, state, webhook, position);
create index operation_letters_waiting on operation_letters (operation, position)
    where state = 'waiting';
-- A canary asks for the failures since a webhook's last success.
create index operation_letters_ended on operation_letters (operation, webhook, state, attempted_at)
    where state in ('delivered', 'failed');
