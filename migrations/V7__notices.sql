-- Notices: one is sent for each stage of a cause while it is open, and one when it is resolved.

alter table webhooks add column secret_ends_at timestamptz;
comment on column webhooks.secret_ends_at is
    'the time at which the next of its former secrets ends; null: it has none, or its secret was replaced before this column';

-- The webhooks as notices show them: of an address only the host, and nothing that is sealed. Routers
-- read this, and not the addresses.
create view webhook_conditions as
    select id, owner, owner_key,
           lower(substring(uri from '^[^:]*://(?:[^/?#]*@)?(\[[^\]]*\]|[^/:?#]*)')) as host,
           paused, paused_reason, failing_since, secret_ends_at, deleted_at
    from webhooks;

-- One row: when the conditions are checked next. The router that locks it checks them.
create table notices_state (
    singleton     boolean     primary key default true check (singleton), -- there is one row
    next_check_at timestamptz not null default 'epoch'                    -- when a router checks next
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
    stage        text        not null, -- the worst stage that it has reached
    opened_at    timestamptz not null default now(), -- when it was first seen
    noticed_at   timestamptz not null default now(), -- when its last notice was made
    absent_since timestamptz,          -- since when it is not seen any more; null: it is seen
    resolved_at  timestamptz           -- when it was resolved; null: it is open
);
create unique index notice_causes_open
    on notice_causes (about, coalesce(webhook, '00000000-0000-0000-0000-000000000000'))
    where resolved_at is null;
create index notice_causes_resolved on notice_causes (resolved_at) where resolved_at is not null;

-- Notices.
create table notices (
    id        uuid        primary key, -- what receivers recognise repetitions by
    cause     uuid        not null,    -- its cause
    type      text        not null,    -- its type, such as webhook.paused
    webhook   uuid,                    -- the webhook that it concerns; null: the whole installation
    owner     text,                    -- that webhook's owner, as written; null as above
    owner_key text,                    -- the same, folded
    host      text,                    -- the host of its address; null as above
    at        timestamptz not null default now(), -- when it was made
    facts     jsonb       not null     -- further facts, by name; no secrets and no payloads
);
create index notices_at on notices (at, id);
create index notices_owner on notices (owner_key, at) where owner_key is not null;

-- Each notice is sent by several channels, one row for each. One that fails does not delay the others.
create table notice_sends (
    notice      uuid        not null references notices on delete cascade,
    channel     text        not null, -- exchange, webhook, mail, owner-webhook or owner-mail
    tries       integer     not null default 0, -- how often sending was begun
    next_try_at timestamptz default now(),      -- when it is tried next; null: it is sent, or was given up
    failure     text,                           -- why the last try failed; null: none has failed
    sent_at     timestamptz,                    -- when it was sent; null: it is not
    primary key (notice, channel)
);
create index notice_sends_due on notice_sends (channel, next_try_at) where next_try_at is not null;

-- The channels that owners chose for notices about their own webhooks, one row for each owner.
create table notice_settings (
    owner_key  text        primary key,               -- the owner's name, folded
    owner      text        not null,                  -- as written
    id         uuid        not null,                  -- what `sealed` is bound to
    types      text[]      not null,                  -- the types of notices
    uri        text,                                  -- the address to which they are posted; null: none
    sealed     bytea       not null default '',       -- the secret that signs; empty: there is no address
    mail       text,                                  -- the address to which they are mailed; null: none
    mailed_at  timestamptz,                           -- when the last mail was sent; null: none was
    changed_at timestamptz not null default now(),    -- when the owner chose them
    check ((uri is null) = (sealed = ''))
);

-- A user who leaves the directory takes the settings along: a later user of that name is another person.
-- Clocks may differ by five seconds. The function has the rights of the tables' owner, so that a router,
-- which writes the directory, needs none to delete settings.
create function forget_notice_settings() returns trigger
language plpgsql security definer set search_path from current as $$
begin
    with forgotten as (
        delete from notice_settings
        where owner_key = new.name_key
          and (new.returned_revision is null or changed_at <= new.returned_at + interval '5 seconds')
        returning owner, owner_key, types
    )
    insert into audit (door, action, object_kind, object_id, owner, owner_key, before, after)
    select 'system', 'notice-settings.changed', 'notice-settings', owner_key, owner, owner_key,
           jsonb_build_object('types', types),
           '{"types": [], "url": null, "secret": null, "mail": null}'::jsonb
    from forgotten;
    return null;
end $$;
create trigger directory_departures_forget after insert or update on directory_departures
    for each row execute function forget_notice_settings();

-- Webhooks that are paused already have no notice.
insert into notice_causes (id, about, webhook, owner, owner_key, host, stage)
select gen_random_uuid(), 'webhook', id, owner, owner_key, host, 'webhook.paused'
from webhook_conditions
where paused and paused_reason is not null and deleted_at is null;
