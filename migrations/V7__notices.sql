-- Notices: somebody is told of a cause once while it lasts, and once when it is over.

alter table webhooks add column secret_ends_at timestamptz;
comment on column webhooks.secret_ends_at is
    'the time at which the next of its former secrets ends; null: it has none, or its secret was replaced before this column';

-- What notices say of webhooks: of an address only the host, and nothing that is sealed. Routers read
-- this, and not the addresses.
create view webhook_conditions as
    select id, owner, owner_key,
           lower(substring(uri from '^[^:]*://(?:[^/?#]*@)?(\[[^\]]*\]|[^/:?#]*)')) as host,
           paused, paused_reason, failing_since, secret_ends_at, deleted_at
    from webhooks;

-- One row: when the conditions are looked at next. The router that locks it looks.
create table notices_state (
    singleton    boolean     primary key default true check (singleton), -- there is one row
    next_look_at timestamptz not null default 'epoch'                    -- when a router looks next
);
insert into notices_state default values;

-- Causes of notices, one row each. At most one of a kind and a webhook is open.
create table notice_causes (
    id           uuid        primary key,
    about        text        not null, -- what it is: webhook, secret, dead-letters, deliveries or directory
    webhook      uuid,                 -- the webhook that it concerns; null: the whole installation
    owner        text,                 -- that webhook's owner, as written; null as above
    owner_key    text,                 -- the same, folded
    host         text,                 -- the host of its address; null as above
    stage        text        not null, -- the worst stage that was told
    opened_at    timestamptz not null default now(), -- when it was first seen
    told_at      timestamptz not null default now(), -- when it was told last
    absent_since timestamptz,          -- since when it is not seen any more; null: it is seen
    closed_at    timestamptz           -- when it was over; null: it is open
);
create unique index notice_causes_open
    on notice_causes (about, coalesce(webhook, '00000000-0000-0000-0000-000000000000'))
    where closed_at is null;
create index notice_causes_closed on notice_causes (closed_at) where closed_at is not null;

-- Notices, which are told in several ways. A way that has told a notice leaves `waiting`.
create table notices (
    id          uuid        primary key, -- what receivers recognise repetitions by
    cause       uuid        not null,    -- its cause
    says        text        not null,    -- its type, such as webhook.paused
    webhook     uuid,                    -- the webhook that it concerns; null: the whole installation
    owner       text,                    -- that webhook's owner, as written; null as above
    owner_key   text,                    -- the same, folded
    host        text,                    -- the host of its address; null as above
    at          timestamptz not null default now(), -- when it was decided
    facts       jsonb       not null,    -- further facts, by name; no secrets and no payloads
    waiting     text[]      not null,    -- the ways in which it is still to be told: exchange, webhook, mail
    tries       integer     not null default 0, -- how often telling it was begun
    next_try_at timestamptz default now(),      -- when it is tried next; null: it is told, or was given up
    failures    jsonb       not null default '{}', -- the last failure of each way that has failed
    told_at     timestamptz              -- when the last way had told it; null before
);
create index notices_due on notices (next_try_at) where next_try_at is not null;
create index notices_at on notices (at, id);
create index notices_owner on notices (owner_key, at) where owner_key is not null;

-- Webhooks that are paused already are no news.
insert into notice_causes (id, about, webhook, owner, owner_key, host, stage)
select gen_random_uuid(), 'webhook', id, owner, owner_key, host, 'webhook.paused'
from webhook_conditions
where paused and paused_reason is not null and deleted_at is null;
