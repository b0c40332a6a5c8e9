-- Fanfare's schema. First the directory, which decides about access; then accounts and sessions;
-- then webhooks; then the ledger of events and attempts; at last what workers and consoles share.
--
-- The program folds names (columns *_key), as core::name does; the database only compares them.

-- ---------------------------------------------------------------- The directory

-- One row: how far the directory is known.
create table directory_state (
    singleton         boolean primary key default true check (singleton), -- there is one row
    revision          bigint  not null, -- the newest revision seen; 0 before the first document
    oldest            bigint  not null default 0, -- history is kept from this revision on
    late_at           timestamptz, -- when a document last came after a newer one; null: never
    -- Whether the beginning is known too: by a snapshot, an import, or every document from revision 1.
    complete          boolean not null default false,
    -- Why every event is held; null when none is.
    hold              text default 'incomplete' check (hold in ('incomplete', 'snapshot-refused')),
    -- An administrator accepted revisions up to this one, however far ahead they are.
    accepted_revision bigint  not null default 0,
    -- How names in *_key columns are folded. 1: by full case mappings; 2: by simple ones.
    -- `fanfare migrate` folds them again when the program has a later way.
    names_version     integer not null default 1
);
insert into directory_state (revision) values (0);

-- Every version of every user and role. It holds for the revisions [begin_revision, end_revision).
-- "Now" is the newest revision seen, not an open end: versions may be written ahead of it.
create table directory_versions (
    id             bigint  generated always as identity primary key, -- what grants and members refer to
    kind           text    not null check (kind in ('user', 'role')), -- whose version it is
    name           text    not null, -- as published
    name_key       text    not null, -- as compared
    begin_revision bigint  not null, -- the first revision at which it holds
    end_revision   bigint,           -- the first revision at which it ends; null: it has no end
    enabled        boolean not null, -- users: whether the user may do anything at all
    deleted        boolean not null, -- whether the document deletes the user or role
    document       text    not null, -- as published, compact
    ended_at       timestamptz,      -- when its end became known; null: it has no end
    void           boolean not null default false, -- the document can't be taken in: it grants nothing
    applied_at     timestamptz,      -- when the version came; null: not known
    unique (kind, name_key, begin_revision)
);
create index directory_versions_ended on directory_versions (ended_at) where ended_at is not null;
create index directory_versions_void on directory_versions (begin_revision) where void;

-- Who may read what: one row for each permission that grants `read`. It holds for the revisions of
-- its version, so that ending a version changes one row, however many permissions it has.
-- There is no foreign key: what removes a version removes its grants, and a check of each of a
-- million rows would double the time that a snapshot takes.
create table directory_grants (
    version_id bigint not null, -- the version of the user or role
    scope      text   not null, -- any-report, report, reports-in-category, …
    target     text   not null  -- the resource or category; '' for the any-… scopes
);
create index directory_grants_asked on directory_grants (scope, target);
create index directory_grants_version on directory_grants (version_id, scope, target);

-- The roles of each version of a user, whether or not the role exists. No foreign key, as above.
create table directory_members (
    version_id bigint not null, -- the version of the user
    role_key   text   not null  -- the role's name, as compared
);
create index directory_members_role on directory_members (role_key);
create index directory_members_version on directory_members (version_id);

-- Snapshots end everything that they do not name, also documents that arrive after them.
create table directory_snapshots (
    revision   bigint      primary key,            -- the snapshot's
    applied_at timestamptz not null default now()  -- when it was taken in
);

-- Revisions that are missing. A gap ends when its documents come, or with a snapshot.
create table directory_gaps (
    first_revision bigint      primary key,           -- the first that is missing
    last_revision  bigint      not null,              -- the last that is missing
    noticed_at     timestamptz not null default now() -- when the gap was found
);

-- Snapshots that can't be taken in. What they would take from anybody is not known, so each holds
-- every event until a snapshot of its revision or a later one is taken in.
create table directory_refusals (
    revision    bigint      primary key, -- the snapshot's; the newest seen then, if that can't be read
    why         text        not null,    -- for a person
    refused_at  timestamptz not null,    -- when it was refused
    accepted_at timestamptz              -- when an administrator decided to go on without it; null: not yet
);

-- Users who were deleted, or left out of a snapshot, by the last time. One who comes again later is
-- another person with the same name, who must not get what the former one had.
create table directory_departures (
    name_key          text   primary key, -- as compared
    revision          bigint not null,    -- from this revision on the user does not exist
    returned_revision bigint,             -- from this one on a user of that name exists again; null: none
    returned_at       timestamptz,        -- when that user came; null: none has
    paused            bigint not null default 0 -- webhooks of the former user that were paused then
);
create index directory_departures_open on directory_departures (name_key)
    where returned_revision is null;

-- ---------------------------------------------------------------- Accounts and sessions

-- Local accounts.
create table accounts (
    name_key        text        primary key,            -- as compared
    name            text        not null,               -- as written
    password_hash   text        not null,               -- argon2id, PHC string
    administrator   boolean     not null,               -- whether the account is a System Administrator's
    created_at      timestamptz not null default now(), -- when it was added
    disabled_at     timestamptz,
    disabled_reason text,
    generation      integer     not null default 1
);
comment on column accounts.disabled_at is 'since when nobody may sign in with the account; null while it is enabled';
comment on column accounts.disabled_reason is 'why it is disabled, as an operator or the service says; null while it is enabled';
comment on column accounts.generation is 'grows with each new password, each disabling and each enabling';

-- Who is signed in, with a local account or by an identity provider. Only their holders know the
-- tokens. A session holds the generation of the account with which it began: what disables an
-- account, or changes its password, ends all of its sessions by the next generation, also those
-- that begin at the same moment.
create table sessions (
    token_digest       bytea       primary key, -- SHA-256 of the access token
    account_key        text        references accounts (name_key) on delete cascade, -- null: a provider's
    created_at         timestamptz not null, -- when it began
    expires_at         timestamptz not null, -- it ends then; its row is removed soon after
    -- What the identity provider said; null in all four for a session of an account.
    issuer             text,    -- the provider; the session ends when another one is configured
    user_key           text,    -- the user's name, as compared
    user_name          text,    -- the user's name, as the provider wrote it
    administrator      boolean, -- whether the provider said so; the directory may say so too
    account_generation integer,
    constraint sessions_are_of_somebody check (
        (account_key is null) = (issuer is not null)
        and (issuer is null) = (user_key is null)
        and (issuer is null) = (user_name is null)
        and (issuer is null) = (administrator is null))
);
comment on column sessions.account_generation is 'the generation of the account when the session began; null for a session of an identity provider';
create index sessions_account on sessions (account_key);
create index sessions_expired on sessions (expires_at);

-- ---------------------------------------------------------------- Webhooks

-- A deleted webhook keeps its row, without its secrets, for the history of its deliveries.
create table webhooks (
    id            uuid        primary key,
    owner         text        not null,               -- as written
    owner_key     text        not null,               -- as compared
    uri           text        not null,               -- where notifications go, as registered
    description   text,                               -- the owner's; null: none
    paused        boolean     not null default false, -- whether it gets nothing
    paused_reason text,                               -- why the service paused it; null when its owner did
    filters       text[]      not null, -- 'reports' or 'reports.delete' forms; empty: everything
    properties    text        not null, -- a JSON object, as text to keep its order
    sealed        bytea       not null, -- secrets and headers, encrypted
    created_at    timestamptz not null default now(), -- when it was registered
    updated_at    timestamptz not null default now(), -- when it last changed
    deleted_at    timestamptz,          -- when it was deleted; null: it is not
    -- Since when every retry has failed; null when its last attempt succeeded or nothing failed
    -- twice. A webhook that fails for days is paused.
    failing_since timestamptz,
    rate_limit    integer     check (rate_limit > 0)
);
comment on column webhooks.rate_limit is
    'The most attempts a minute, of all workers together; null for no limit.';
create index webhooks_owner on webhooks (owner_key) where deleted_at is null;
-- Whose deliveries a user may see, those of deleted webhooks too.
create index webhooks_owner_ever on webhooks (owner_key);

-- Workers keep webhooks in memory and learn of changes by this.
create function notify_webhook() returns trigger language plpgsql as $$
begin
    perform pg_notify('fanfare_webhooks', coalesce(new.id, old.id)::text);
    return null;
end $$;
create trigger webhooks_changed after insert or update or delete on webhooks
    for each row execute function notify_webhook();

-- What a webhook was when an event was decided, so that the decision can be explained after the
-- webhook has changed. A version holds for the times [begin_at, end_at) of the database's clock,
-- which also stamps events.received_at.
create table webhook_versions (
    webhook   uuid        not null references webhooks on delete cascade,
    begin_at  timestamptz not null, -- from when it was so
    end_at    timestamptz,          -- until when it was so; null: it still is
    owner_key text        not null, -- whose it was, as compared
    filters   text[]      not null, -- its filters; empty: everything
    paused    boolean     not null, -- whether it got nothing
    deleted   boolean     not null, -- whether it was deleted
    primary key (webhook, begin_at)
);

-- The clock is read here and not when the transaction began: the nearer to the commit, the fewer
-- events in between get the wrong version.
create function note_webhook_version() returns trigger language plpgsql as $$
declare
    noted timestamptz := clock_timestamp();
begin
    update webhook_versions set end_at = noted where webhook = new.id and end_at is null;
    insert into webhook_versions (webhook, begin_at, owner_key, filters, paused, deleted)
    values (new.id, noted, new.owner_key, new.filters, new.paused, new.deleted_at is not null)
    on conflict (webhook, begin_at) do update
        set end_at = null, owner_key = excluded.owner_key, filters = excluded.filters,
            paused = excluded.paused, deleted = excluded.deleted;
    return null;
end $$;
create trigger webhooks_begun after insert on webhooks
    for each row execute function note_webhook_version();
create trigger webhooks_altered after update on webhooks
    for each row
    when ((old.owner_key, old.filters, old.paused, old.deleted_at is null)
          is distinct from (new.owner_key, new.filters, new.paused, new.deleted_at is null))
    execute function note_webhook_version();

-- Which webhooks routing looks at: by owner and filter, so that an event costs what it matches, and
-- not all webhooks of an owner, who may be a program with many. Paused and deleted ones are not in it.
create table webhook_wants (
    owner_key text not null, -- whose it is, as compared
    wants     text not null, -- a filter in its stored form; '*' for everything
    webhook   uuid not null references webhooks on delete cascade,
    primary key (owner_key, wants, webhook)
);
create function note_webhook_wants() returns trigger language plpgsql as $$
begin
    if tg_op = 'UPDATE' then
        delete from webhook_wants
        where owner_key = old.owner_key and webhook = old.id
          and wants = any(case when old.filters = '{}' then '{*}' else old.filters end);
    end if;
    if new.deleted_at is null and not new.paused then
        insert into webhook_wants (owner_key, wants, webhook)
        select new.owner_key, wants, new.id
        from unnest(case when new.filters = '{}' then '{*}' else new.filters end) as wants
        on conflict do nothing;
    end if;
    return null;
end $$;
create trigger webhooks_want after insert on webhooks
    for each row execute function note_webhook_wants();
create trigger webhooks_want_otherwise after update on webhooks
    for each row
    when ((old.owner_key, old.filters, old.paused, old.deleted_at is null)
          is distinct from (new.owner_key, new.filters, new.paused, new.deleted_at is null))
    execute function note_webhook_wants();

-- When a user of a former user's name comes, the former one's webhooks are paused, sessions end and
-- the account is disabled. It is done with the rights of the tables' owner, so that a router, which
-- keeps the directory, needs none on webhooks. Only what existed before the new user came is
-- concerned; clocks may differ by five seconds.
create function pause_former_owner() returns trigger
language plpgsql security definer set search_path from current as $$
begin
    update webhooks
    set paused = true, paused_reason = 'owner-recreated', failing_since = null, updated_at = now()
    where owner_key = new.name_key and deleted_at is null
      and created_at <= new.returned_at + interval '5 seconds'
      and paused_reason is distinct from 'owner-recreated';
    get diagnostics new.paused = row_count;
    delete from sessions
    where coalesce(account_key, user_key) = new.name_key
      and created_at <= new.returned_at + interval '5 seconds';
    update accounts
    set disabled_reason = case when disabled_at is null then 'owner-recreated'
                               else disabled_reason end,
        disabled_at = coalesce(disabled_at, now()), generation = generation + 1
    where name_key = new.name_key and created_at <= new.returned_at + interval '5 seconds';
    return new;
end $$;
create trigger directory_departures_end before update on directory_departures
    for each row
    when (old.returned_revision is null and new.returned_revision is not null)
    execute function pause_former_owner();

-- ---------------------------------------------------------------- The ledger

-- What was published and to whom it is owed. Written once; only what the reconciler goes by changes:
-- look_at, queued_at and first_pending.
create table events (
    key              uuid        primary key, -- digest of source and id
    batch            uuid        not null,    -- the batch it was published in; its own key when alone
    position         integer     not null,    -- its place in the batch
    source           text        not null,    -- the CloudEvents attribute, as the four below
    event_id         text        not null,
    event_type       text        not null,
    subject          text        not null,
    occurred_at      timestamptz,             -- the attribute time; null: none
    access_revision  bigint,                  -- the revision it asks to be judged by; null: none
    decided_revision bigint      not null,    -- the revision it was judged by
    traceparent      text,                    -- the publisher's trace; null: none
    notification     text        not null,    -- what receivers get: flat, compact JSON
    webhooks         uuid[]      not null,    -- the plan
    received_at      timestamptz not null default now(), -- when it was routed
    look_at          timestamptz,             -- when the reconciler looks next; null when settled
    queued_at        timestamptz not null default now(),
    first_pending    boolean     not null default true,
    routed_by        bigint
);
comment on column events.queued_at is
    'when the job that the reconciler expects to be carried out next came, or comes, into its queue';
comment on column events.first_pending is
    'whether the reconciler still expects first attempts of it in the delivery queues; '
    'false once all that is owed waits in fanfare.retries, or nothing is owed';
comment on column events.routed_by is
    'the random number of the routing that wrote it, by which a router recognises its own work after '
    'a lost answer; null when it was not routed';
create index events_batch on events (batch, position);
-- Lists go page by page, the newest first. Each of these indexes, and of attempts', has the order of
-- such a list, so that a page costs what it shows and not what there is. A batch's events share a time.
create index events_received on events (received_at, batch);
-- What may be owed: what is pending or retrying is among these.
create index events_open on events (received_at, batch) where look_at is not null;
-- People look for an event by its publisher's id.
create index events_event_id on events (event_id);
-- What the reconciler looks at: one index for what waits in the delivery queues, one for what waits in
-- fanfare.retries, so that a backlog in one does not hide the other.
create index events_check_first on events (queued_at) where look_at is not null and first_pending;
create index events_check_later on events (queued_at) where look_at is not null and not first_pending;

-- What was done: one row for each attempt, or for a decision without one. The last row of a delivery
-- is its state; a delivery without a row is pending. A delivery's Id is made from batch and webhook,
-- and begins with the first half of the batch's key: there is no column, and no index, for it.
create table attempts (
    batch           uuid        not null, -- with the webhook: the delivery
    webhook         uuid        not null,
    entry           integer     not null, -- 1, 2, … for each delivery
    attempt         integer     not null, -- POSTs made so far, this one included
    tries           integer     not null, -- POSTs in this chain: a replay begins a new one
    since           timestamptz not null, -- when this chain began
    state           text        not null check (state in ('pending', 'retrying', 'delivered', 'dropped', 'dead')),
    reason          text,                 -- why dropped or dead; null otherwise
    at              timestamptz not null, -- when the attempt began
    duration_ms     integer,              -- null when nothing was sent
    outcome         text,                 -- null when nothing was sent
    status          integer,              -- HTTP status; null when there was no answer
    error           text,                 -- what went wrong, for a person; null: nothing
    response_body   text,                 -- the beginning of the answer's body; null: none
    next_attempt_at timestamptz,          -- when the next attempt is due; null: none is
    revision        bigint      not null, -- the directory revision it was decided by
    -- Why a delivery was dropped, in words: who, what, and at which directory revision; or which
    -- events of a batch were left out of an attempt. Null when there is nothing to say.
    detail          text,
    -- The steps of a POST: {"dns_ms": 1, "connect_ms": 2, "tls_ms": 8, "first_byte_ms": 40,
    -- "headers": [["name", "value"], …], "more_headers": true}. A key is missing where there is
    -- nothing to say. The rest of the duration went into reading the body; "headers" are the answer's.
    -- Null for a plain success over a connection that was open already, and for a row without a POST.
    -- '{}' when nothing is known.
    trace           jsonb       default '{}',
    primary key (batch, webhook, entry)
);
-- A webhook's deliveries by time: `since` is the delivery's own time in the first entry. Statistics
-- read the included columns without the rows. A worker pays for it row by row; an index over
-- events.webhooks would cost the router at once for all webhooks of a wide event.
create index attempts_webhook on attempts (webhook, since, batch, entry)
    include (at, outcome, status);
-- What did not arrive, of all webhooks; few.
create index attempts_ended on attempts (state, since, batch, webhook)
    where state in ('dead', 'dropped');
-- Attempts by time, to find the newest of them. They come nearly in its order, so that an index of
-- block ranges is enough: it has a few pages and costs next to nothing to keep.
create index attempts_at on attempts using brin (at) with (autosummarize = on);

-- A worker's exclusive right to the next attempt of a delivery. It keeps two workers with copies of
-- one job apart, and counts attempts that began and never got their row: so a delivery that ends its
-- workers is found.
create table claims (
    batch            uuid        not null, -- with the webhook: the delivery
    webhook          uuid        not null,
    entry            integer     not null, -- the entry that the attempt will get
    until            timestamptz not null, -- when the claim runs out
    -- Until when the delivery was deferred by its endpoint's limits: the reconciler does not take
    -- its job for lost before. Null when it was not.
    deferred_until   timestamptz,
    -- The call that claimed. A call that is repeated because its answer was lost finds its own claim
    -- by it. Null when no attempt is under way: the claim was released, or made for another purpose.
    token            uuid,
    -- Attempts of this entry that began and were not recorded before their claim ran out.
    unrecorded       integer     not null default 0,
    alone            boolean     not null default false, -- whether its worker does nothing else meanwhile
    unrecorded_alone integer     not null default 0, -- how many of the unrecorded attempts were made so
    -- The number of the worker's lock, on a session of the worker. Null when it did not have the lock:
    -- then only time ends the claim.
    holder           integer,
    -- When another worker first found that lock free, since which it was not seen to be taken. Null
    -- when it was not found free.
    holder_gone_at   timestamptz,
    primary key (batch, webhook)
);

-- ---------------------------------------------------------------- What workers share

-- A lost job is recognised by age: its queue is in order, so it is lost when a job that was put into
-- the queue after it has come out.
create table queue_progress (
    queue     text        primary key,
    passed_at timestamptz not null,
    noted_at  timestamptz not null
);
comment on column queue_progress.queue is 'the queue''s name in the broker';
comment on column queue_progress.passed_at is
    'workers were handed a job that was put into the queue at this time';
comment on column queue_progress.noted_at is 'when a worker last said so';

-- Workers that run: what a worker received is recorded or deferred within a time that depends on its
-- settings, and only then is a job without a trace lost.
create table workers (
    worker         uuid             primary key,
    settles_within double precision not null,
    seen_at        timestamptz      not null
);
comment on column workers.worker is 'a random number of the process';
comment on column workers.settles_within is
    'after so many seconds a first attempt that it was handed is recorded, claimed, put off or lost with it';
comment on column workers.seen_at is 'when it last said that it runs; it is forgotten an hour later';

-- How fast a webhook's receiver and its owner want its notifications. Only webhooks have a row whose
-- receiver asked to wait, or that have a limit: without a row nothing is read before an attempt.
create table webhook_paces (
    -- The webhook. No foreign key: its row outlives it, and workers may not lock that.
    webhook          uuid        primary key,
    -- No attempt begins before: the receiver asked for that. Null when it never did.
    hold_until       timestamptz,
    -- The seconds between attempts that were learned from refusals. Null without such a pace.
    interval_seconds float8,
    -- When the next slots are, and what the interval was learned from: `core::pace` reads and
    -- writes it.
    learned          jsonb       not null default '{}',
    -- When a slot was last reserved or an answer counted. What is old is removed.
    updated_at       timestamptz not null default now()
) with (fillfactor = 50); -- a row changes with each attempt, and no index with it

-- Workers keep webhooks in memory, with whether they have a pace, and learn of changes by this.
create function notify_webhook_pace() returns trigger language plpgsql as $$
begin
    perform pg_notify('fanfare_webhooks', old.webhook::text);
    return null;
end $$;
create trigger webhook_paces_changed after update on webhook_paces
    for each row
    when (old.hold_until is distinct from new.hold_until
          or (old.interval_seconds is null) <> (new.interval_seconds is null))
    execute function notify_webhook_pace();
create trigger webhook_paces_removed after delete on webhook_paces
    for each row
    when (old.hold_until is not null or old.interval_seconds is not null)
    execute function notify_webhook_pace();

-- ---------------------------------------------------------------- What consoles share

-- The console's grid shows how each webhook did in the last 24 hours. Counting that for a page of ten
-- thousand webhooks would read the attempts of a whole day, so consoles keep count: every few seconds
-- one of them adds what was attempted since the last time. What is newer is counted for each page.

-- One row: how far attempts are counted.
create table health_state (
    singleton  boolean     primary key default true check (singleton), -- there is one row
    counted_to timestamptz not null -- what began before is counted, and nothing later
);
insert into health_state (counted_to) values (now());

-- The attempts of a webhook by the hour in which they began, for the last 24 hours.
create table webhook_hours (
    webhook   uuid        not null,
    hour      timestamptz not null, -- its beginning
    succeeded bigint      not null, -- attempts that delivered
    failed    bigint      not null, -- attempts that did not
    primary key (webhook, hour)
);
create index webhook_hours_old on webhook_hours (hour);

-- All hours of a webhook together, and its last attempt of all.
create table webhook_health (
    webhook   uuid        primary key,
    succeeded bigint      not null, -- attempts that delivered
    failed    bigint      not null, -- attempts that did not
    at        timestamptz not null, -- when the last attempt began
    outcome   text        not null, -- the last attempt's
    status    integer               -- the last attempt's; null when there was no answer
);

-- Requests to attempt again what is dead of a webhook. A console takes them step by step; how far one
-- is, is in the ledger and here, so that another console can go on with it.
create table resends (
    id        uuid        primary key,
    webhook   uuid        not null references webhooks on delete cascade,
    since     timestamptz not null, -- chains of attempts that began at this time or later …
    asked_at  timestamptz not null, -- … and before this: what fails again is not sent once more
    asked_by  text        not null, -- the user's name
    total     bigint      not null, -- deliveries that were dead at the request
    begun     bigint      not null default 0, -- deliveries that are attempted again so far
    step_at   timestamptz,          -- when the last step was made; null before the first
    ended_at  timestamptz,          -- null while it goes on
    ended     text        check (ended in ('done', 'cancelled', 'webhook-paused', 'webhook-deleted')) -- how; null: not yet
);
-- One at a time for each webhook, so that a second request is the first one.
create unique index resends_open on resends (webhook) where ended_at is null;
create index resends_webhook on resends (webhook, asked_at);
