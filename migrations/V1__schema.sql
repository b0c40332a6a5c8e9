-- Fanfare's schema: the directory, which decides about access; accounts and sessions; webhooks; the
-- ledger of events and attempts; and the state that workers and consoles share.
--
-- The program folds names (columns *_key), as core::name does; the database only compares them.

-- ---------------------------------------------------------------- The directory

-- One row: the state of the directory.
create table directory_state (
    singleton         boolean primary key default true check (singleton), -- there is one row
    revision          bigint  not null, -- the newest revision seen; 0 before the first document
    oldest            bigint  not null default 0, -- history is kept from this revision on
    late_at           timestamptz, -- the last time at which a document came after a newer one; null: never
    -- Whether no earlier document is missing: there was a snapshot, an import, or every document
    -- from revision 1 on.
    complete          boolean not null default false,
    -- The reason for which every event is held; null while none is held.
    hold              text default 'incomplete' check (hold in ('incomplete', 'snapshot-refused')),
    -- An administrator accepted every revision up to this one, however far ahead it is.
    accepted_revision bigint  not null default 0,
    -- The method by which the names in *_key columns are folded. 1: full case mappings; 2: simple
    -- ones. `fanfare migrate` folds them again when the program has a later method.
    names_version     integer not null default 1
);
insert into directory_state (revision) values (0);

-- Every version of every user and role. A version is valid for the revisions
-- [begin_revision, end_revision). "Now" is the newest revision seen, and not an open end, because
-- versions may be written ahead of it.
create table directory_versions (
    id             bigint  generated always as identity primary key, -- grants and members refer to it
    kind           text    not null check (kind in ('user', 'role')), -- the kind of its document
    name           text    not null, -- as published
    name_key       text    not null, -- folded
    begin_revision bigint  not null, -- the first revision at which it is valid
    end_revision   bigint,           -- the first revision at which it is not valid; null: it has no end
    enabled        boolean not null, -- whether the user is enabled, or the role exists
    deleted        boolean not null, -- whether the document deletes the user or role
    document       text    not null, -- as published, compact
    ended_at       timestamptz,      -- the time at which its end became known; null: it has no end
    void           boolean not null default false, -- whether the document was refused, so that it grants nothing
    applied_at     timestamptz,      -- the time at which it was applied; null: not known
    unique (kind, name_key, begin_revision)
);
create index directory_versions_ended on directory_versions (ended_at) where ended_at is not null;
create index directory_versions_void on directory_versions (begin_revision) where void;

-- One row for each permission that grants `read`. It is valid for the revisions of its version, so
-- that the end of a version changes one row, however many permissions the version has. There is no
-- foreign key: the statements that remove versions remove their grants as well, and a check of each
-- of a million rows would double the time that a snapshot takes.
create table directory_grants (
    version_id bigint not null, -- the version of the user or role
    scope      text   not null, -- any-report, report, reports-in-category, …
    target     text   not null  -- the resource or category; '' for the any-… scopes
);
create index directory_grants_asked on directory_grants (scope, target);
create index directory_grants_version on directory_grants (version_id, scope, target);

-- The roles of each version of a user, whether or not the role exists. There is no foreign key, for
-- the same reason.
create table directory_members (
    version_id bigint not null, -- the version of the user
    role_key   text   not null  -- the role's name, folded
);
create index directory_members_role on directory_members (role_key);
create index directory_members_version on directory_members (version_id);

-- Snapshots. Each ends all users and roles that it does not name, including those whose documents
-- arrive after it.
create table directory_snapshots (
    revision   bigint      primary key,            -- the snapshot's revision
    applied_at timestamptz not null default now()  -- the time at which it was applied
);

-- Missing revisions. A gap ends when its documents arrive, or with a snapshot.
create table directory_gaps (
    first_revision bigint      primary key,           -- the first missing revision
    last_revision  bigint      not null,              -- the last missing revision
    noticed_at     timestamptz not null default now() -- the time at which the gap was noticed
);

-- Refused snapshots. The access that such a snapshot would have ended is not known. So it holds every
-- event until a snapshot of its revision or of a later one is applied.
create table directory_refusals (
    revision    bigint      primary key, -- the snapshot's, or the one after the newest, if it can't be read
    why         text        not null,    -- the fault of the document
    refused_at  timestamptz not null,    -- the time at which it was refused
    -- The time at which an administrator accepted that it is missing; null: not yet.
    accepted_at timestamptz
);

-- Users who were deleted or left out of a snapshot: the last time for each name. A later user with
-- that name is another person, who must not get the webhooks and sessions of the former one.
create table directory_departures (
    name_key          text   primary key, -- folded
    revision          bigint not null,    -- the first revision at which the user does not exist
    returned_revision bigint,             -- the revision at which the name returned; null: it did not
    returned_at       timestamptz,        -- the time at which the name returned; null: it did not
    paused            bigint not null default 0 -- the number of the former user's webhooks that were paused then
);
create index directory_departures_open on directory_departures (name_key)
    where returned_revision is null;

-- ---------------------------------------------------------------- Accounts and sessions

-- Local accounts.
create table accounts (
    name_key        text        primary key,            -- folded
    name            text        not null,               -- as written
    password_hash   text        not null,               -- argon2id, PHC string
    administrator   boolean     not null,               -- whether the account is a System Administrator's
    created_at      timestamptz not null default now(), -- the time at which it was added
    disabled_at     timestamptz,
    disabled_reason text,
    generation      integer     not null default 1
);
comment on column accounts.disabled_at is 'the time at which it was disabled; null while it is enabled';
comment on column accounts.disabled_reason is
    'the reason that an operator or the service gave; null while it is enabled';
comment on column accounts.generation is
    'increases when the password changes, and when the account is disabled or enabled';

-- Sessions of local accounts and of users whom an identity provider signed in. Only the holders know
-- their tokens. A session has the generation of its account. A change of the password, and disabling
-- the account, begin the next generation, which ends all sessions of the account, including those
-- that begin at the same moment.
create table sessions (
    token_digest       bytea       primary key, -- SHA-256 of the access token
    account_key        text        references accounts (name_key) on delete cascade, -- null for a provider's session
    created_at         timestamptz not null, -- the time at which it began
    expires_at         timestamptz not null, -- the time at which it ends; its row is removed soon after
    -- The identity provider's answer. All four are null for a session of an account.
    issuer             text,    -- the provider; the session ends when another one is configured
    user_key           text,    -- the user's name, as compared
    user_name          text,    -- the user's name, as the provider wrote it
    administrator      boolean, -- whether the provider says that the user is an administrator
    account_generation integer,
    constraint sessions_are_of_somebody check (
        (account_key is null) = (issuer is not null)
        and (issuer is null) = (user_key is null)
        and (issuer is null) = (user_name is null)
        and (issuer is null) = (administrator is null))
);
comment on column sessions.account_generation is
    'the generation of the account when the session began; null for a session of an identity provider';
create index sessions_account on sessions (account_key);
create index sessions_expired on sessions (expires_at);

-- ---------------------------------------------------------------- Webhooks

-- A deleted webhook keeps its row, without its secrets, for the history of its deliveries.
create table webhooks (
    id            uuid        primary key,
    owner         text        not null,               -- as written
    owner_key     text        not null,               -- folded
    uri           text        not null,               -- the receiver's address, as registered
    description   text,                               -- the owner's description; null: none
    paused        boolean     not null default false, -- whether it gets no notifications
    paused_reason text,                               -- the service's reason to pause it; null when its owner paused it
    filters       text[]      not null, -- 'reports' or 'reports.delete' forms; empty: everything
    properties    text        not null, -- a JSON object, as text to keep its order
    sealed        bytea       not null, -- secrets and headers, encrypted
    created_at    timestamptz not null default now(), -- the time at which it was registered
    updated_at    timestamptz not null default now(), -- the time of its last change
    deleted_at    timestamptz,          -- the time at which it was deleted; null: it is not deleted
    -- The time since which every retry failed. Null when the last attempt succeeded, or no delivery
    -- failed twice. A webhook that fails for days is paused.
    failing_since timestamptz,
    rate_limit    integer     check (rate_limit > 0)
);
comment on column webhooks.rate_limit is
    'the most attempts a minute, of all workers together; null for no limit';
create index webhooks_owner on webhooks (owner_key) where deleted_at is null;
-- A user may see the deliveries of the user's own webhooks, including deleted ones.
create index webhooks_owner_ever on webhooks (owner_key);

-- Workers keep webhooks in memory. These notifications say which ones changed.
create function notify_webhook() returns trigger language plpgsql as $$
begin
    perform pg_notify('fanfare_webhooks', coalesce(new.id, old.id)::text);
    return null;
end $$;
create trigger webhooks_changed after insert or update or delete on webhooks
    for each row execute function notify_webhook();

-- The former versions of webhooks, by which a decision about an event can be explained after the
-- webhook has changed. A version is valid for the times [begin_at, end_at) of the database's clock,
-- which events.received_at has as well.
create table webhook_versions (
    webhook   uuid        not null references webhooks on delete cascade,
    begin_at  timestamptz not null, -- the time at which the version began
    end_at    timestamptz,          -- the time at which it ended; null: it has not ended
    owner_key text        not null, -- the owner's name, folded
    filters   text[]      not null, -- the filters; empty: everything
    paused    boolean     not null, -- whether it was paused
    deleted   boolean     not null, -- whether it was deleted
    primary key (webhook, begin_at)
);

-- The clock is read here, and not at the beginning of the transaction: the nearer it is to the
-- commit, the fewer events in between get the wrong version.
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

-- The webhooks that routing reads, by owner and filter. So the cost of an event depends on the
-- webhooks that it matches, and not on all webhooks of an owner, who may be a program with many.
-- Paused and deleted webhooks have no rows here.
create table webhook_wants (
    owner_key text not null, -- the owner's name, folded
    wants     text not null, -- a filter in its stored form; '*' selects everything
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

-- When the name of a former user returns, the former user's webhooks are paused, the sessions end and
-- the account is disabled. The function has the rights of the tables' owner, so that a router, which
-- writes the directory, needs no rights on webhooks. It concerns only webhooks, sessions and accounts
-- from before the return; clocks may differ by five seconds.
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

-- Published events and their plans. A row is written once. Only look_at, queued_at and first_pending
-- change, by which the reconciler finds lost jobs.
create table events (
    key              uuid        primary key, -- digest of source and id
    batch            uuid        not null,    -- the batch in which it was published; its own key for a single event
    position         integer     not null,    -- its index in the batch
    source           text        not null,    -- the CloudEvents attribute, like the next three
    event_id         text        not null,
    event_type       text        not null,
    subject          text        not null,
    occurred_at      timestamptz,             -- the attribute `time`; null: none
    access_revision  bigint,                  -- the directory revision that the publisher asked for; null: none
    decided_revision bigint      not null,    -- the directory revision by which the plan was decided
    traceparent      text,                    -- the publisher's trace context; null: none
    notification     text        not null,    -- the notification that receivers get: flat, compact JSON
    webhooks         uuid[]      not null,    -- the plan: the webhooks that get it
    received_at      timestamptz not null default now(), -- the time at which it was routed
    look_at          timestamptz,             -- the time at which the reconciler checks it next; null when settled
    queued_at        timestamptz not null default now(),
    first_pending    boolean     not null default true,
    routed_by        bigint
);
comment on column events.queued_at is
    'the time at which the job that the reconciler expects next enters its queue';
comment on column events.first_pending is
    'whether the reconciler expects first attempts of it in the delivery queues; '
    'false when all owed deliveries wait in fanfare.retries, or none is owed';
comment on column events.routed_by is
    'the random number of the routing that wrote it, by which a router recognises its own rows '
    'after a lost answer; null for a test event';
create index events_batch on events (batch, position);
-- Lists are read in pages, the newest first. Each of these indexes, and of those on attempts, has the
-- order of such a list, so that the cost of a page does not depend on the size of the table. All
-- events of a batch have the same time.
create index events_received on events (received_at, batch);
-- Events that are not settled. Every pending or retrying delivery is one of theirs.
create index events_open on events (received_at, batch) where look_at is not null;
-- For searches by the publisher's id.
create index events_event_id on events (event_id);
-- The events that the reconciler checks: one index for those whose jobs wait in the delivery queues,
-- and one for fanfare.retries, so that a backlog in one queue does not hide the events of the other.
create index events_check_first on events (queued_at) where look_at is not null and first_pending;
create index events_check_later on events (queued_at) where look_at is not null and not first_pending;

-- One row for each attempt, and for each decision to make none. The last row of a delivery is its
-- state; a delivery without a row is pending. A delivery's Id is computed from batch and webhook, and
-- begins with the first half of the batch's key, so it needs no column and no index.
create table attempts (
    batch           uuid        not null, -- batch and webhook together are the delivery
    webhook         uuid        not null,
    entry           integer     not null, -- the sequence number of the row in its delivery, from 1
    attempt         integer     not null, -- the number of POSTs so far, this one included
    tries           integer     not null, -- the number of POSTs in this series; a restart begins a new series
    since           timestamptz not null, -- the time at which the series began
    state           text        not null check (state in ('pending', 'retrying', 'delivered', 'dropped', 'dead')),
    reason          text,                 -- the code of the reason; null unless dropped or dead
    at              timestamptz not null, -- the time at which the attempt began
    duration_ms     integer,              -- the duration of the POST; null without a POST
    outcome         text,                 -- the code of the outcome; null without a POST
    status          integer,              -- the HTTP status; null without an answer
    error           text,                 -- the error, for a person; null: none
    response_body   text,                 -- the beginning of the response's body; null: none
    next_attempt_at timestamptz,          -- the time of the next attempt; null: there is none
    revision        bigint      not null, -- the directory revision of the decision; 0 for that of the plan
    -- The reason in words for which the delivery was dropped, or the events of the batch that the
    -- POST left out. Null when neither applies.
    detail          text,
    -- The steps of a POST: {"dns_ms": 1, "connect_ms": 2, "tls_ms": 8, "first_byte_ms": 40,
    -- "headers": [["name", "value"], …], "more_headers": true}. A step that did not
    -- happen has no key. The rest of the duration is the reading of the body. The headers are those
    -- of the response. Null for a plain success over an open connection, and without a POST. '{}'
    -- when nothing is known.
    trace           jsonb       default '{}',
    primary key (batch, webhook, entry)
);
-- A webhook's deliveries by time: in the first row of a delivery, `since` is the time of its events.
-- Statistics read the included columns from the index alone. Workers pay for this index with each
-- row; a router would pay for an index on events.webhooks with all webhooks of an event at once.
create index attempts_webhook on attempts (webhook, since, batch, entry)
    include (at, outcome, status);
-- Deliveries of all webhooks that ended without success; there are few.
create index attempts_ended on attempts (state, since, batch, webhook)
    where state in ('dead', 'dropped');
-- Attempts by time, to find the newest. They are written nearly in this order, so that an index of
-- block ranges suffices: it has a few pages, and costs little to maintain.
create index attempts_at on attempts using brin (at) with (autosummarize = on);

-- Leases: a worker's temporary exclusive right to the next attempt of a delivery. Of two workers with
-- copies of a job, only one gets it. A lease also counts attempts that began and were never recorded,
-- by which a delivery that crashes its workers is found.
create table claims (
    batch            uuid        not null, -- batch and webhook together are the delivery
    webhook          uuid        not null,
    entry            integer     not null, -- the sequence number that the attempt's row will have
    until            timestamptz not null, -- the time at which it expires
    -- The time until which the endpoint's limits deferred the delivery. The reconciler does not treat
    -- its job as lost before then. Null when it was not deferred.
    deferred_until   timestamptz,
    -- Identifies the call that made the claim. A call that is repeated because its answer was lost
    -- gets its own claim again. Null when no attempt is under way: the claim was released, or made
    -- for another purpose.
    token            uuid,
    -- The attempts with this sequence number that began and were not recorded before their claim expired.
    unrecorded       integer     not null default 0,
    alone            boolean     not null default false, -- whether the worker makes no other attempt meanwhile
    unrecorded_alone integer     not null default 0, -- the number of unrecorded attempts that were made so
    -- The number of the worker's lock, which a session of the worker has. Null when the worker did not
    -- have the lock; then the claim ends only by its time.
    holder           integer,
    -- The time at which another worker first found that lock free, if it was not seen to be taken
    -- since. Null when it was not found free.
    holder_gone_at   timestamptz,
    primary key (batch, webhook)
);

-- ---------------------------------------------------------------- The state that workers share

-- The progress of the queues, by which lost jobs are found. A queue is in order, so a job is lost when
-- a job that was enqueued after it was delivered to a worker.
create table queue_progress (
    queue     text        primary key,
    passed_at timestamptz not null,
    noted_at  timestamptz not null
);
comment on column queue_progress.queue is 'the queue''s name in the broker';
comment on column queue_progress.passed_at is
    'the time at which the newest job was enqueued that workers received';
comment on column queue_progress.noted_at is 'the time of the last report';

-- Running workers. A worker records, claims or defers a job that it received within a time that
-- depends on its settings. Only after that time is a job without a trace lost.
create table workers (
    worker         uuid             primary key,
    settles_within double precision not null,
    seen_at        timestamptz      not null
);
comment on column workers.worker is 'a random number of the process';
comment on column workers.settles_within is
    'the seconds within which a job that it received is recorded, claimed or deferred';
comment on column workers.seen_at is 'the time of its last report; its row is removed an hour later';

-- The paces of webhooks, by the wishes of receivers and owners. Only webhooks whose receiver asked to
-- wait, or that have a rate limit, have a row. For the others nothing is read before an attempt.
create table webhook_paces (
    -- The webhook. There is no foreign key, since workers may not lock rows of webhooks.
    webhook          uuid        primary key,
    -- The time before which no attempt begins, at the receiver's request. Null without a request.
    hold_until       timestamptz,
    -- The seconds between attempts, learned from refusals. Null without such a pace.
    interval_seconds float8,
    -- The times of the next slots, and the facts from which the interval was learned. `core::pace`
    -- reads and writes it.
    learned          jsonb       not null default '{}',
    -- The last time at which a slot was reserved or an answer was counted. Old rows are removed.
    updated_at       timestamptz not null default now()
) with (fillfactor = 50); -- a row changes with each attempt, but none of its indexed columns

-- Workers remember which webhooks have a pace. These notifications say when that changes.
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

-- ---------------------------------------------------------------- The state that consoles share

-- The console's grid shows the attempts of each webhook in the last 24 hours. Counting them for a page
-- would read the attempts of a whole day. So every few seconds one console adds the new attempts to
-- these tables. Attempts that are newer than that are counted for each page.

-- One row: the progress of the counting.
create table health_state (
    singleton  boolean     primary key default true check (singleton), -- there is one row
    counted_to timestamptz not null -- attempts that began before this time are counted
);
insert into health_state (counted_to) values (now());

-- The attempts of a webhook by the hour in which they began, for the last 24 hours.
create table webhook_hours (
    webhook   uuid        not null,
    hour      timestamptz not null, -- the beginning of the hour
    succeeded bigint      not null, -- the number of attempts that succeeded
    failed    bigint      not null, -- the number of attempts that failed
    primary key (webhook, hour)
);
create index webhook_hours_old on webhook_hours (hour);

-- The sums over all hours of a webhook, and its last attempt.
create table webhook_health (
    webhook   uuid        primary key,
    succeeded bigint      not null, -- the number of attempts that succeeded
    failed    bigint      not null, -- the number of attempts that failed
    at        timestamptz not null, -- the time at which the last attempt began
    outcome   text        not null, -- the outcome of the last attempt
    status    integer               -- the HTTP status of the last attempt; null without an answer
);

-- Requests to resend the dead deliveries of a webhook. A console works on them step by step. The
-- progress is in the ledger and here, so that another console can continue.
create table resends (
    id        uuid        primary key,
    webhook   uuid        not null references webhooks on delete cascade,
    since     timestamptz not null, -- it concerns series of attempts that began at this time or later …
    asked_at  timestamptz not null, -- … and before this time, so that nothing is sent twice
    asked_by  text        not null, -- the name of the user
    total     bigint      not null, -- the number of dead deliveries at the time of the request
    begun     bigint      not null default 0, -- the number of deliveries that were restarted so far
    step_at   timestamptz,          -- the time of the last step; null before the first
    ended_at  timestamptz,          -- the time at which it ended; null while it is open
    -- The reason of its end; null while it is open.
    ended     text        check (ended in ('done', 'cancelled', 'webhook-paused', 'webhook-deleted'))
);
-- A webhook has one open request at a time, so a second request returns the first.
create unique index resends_open on resends (webhook) where ended_at is null;
create index resends_webhook on resends (webhook, asked_at);
