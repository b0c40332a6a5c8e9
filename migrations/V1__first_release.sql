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
-- from before the return; clocks may differ by five seconds. The entries of the audit trail say which
-- webhooks were paused and which account was disabled.
create function pause_former_owner() returns trigger
language plpgsql security definer set search_path from current as $$
begin
    with former as (
        select id, owner, owner_key, paused, paused_reason from webhooks
        where owner_key = new.name_key and deleted_at is null
          and created_at <= new.returned_at + interval '5 seconds'
          and paused_reason is distinct from 'owner-recreated'
        for update
    ), changed as (
        update webhooks w
        set paused = true, paused_reason = 'owner-recreated', failing_since = null,
            updated_at = now()
        from former f where w.id = f.id
    )
    insert into audit (door, action, object_kind, object_id, webhook, owner, owner_key, before,
                       after)
    select 'system', 'webhook.paused', 'webhook', replace(id::text, '-', ''), id, owner, owner_key,
           jsonb_build_object('paused', paused, 'pausedReason', paused_reason),
           jsonb_build_object('paused', true, 'pausedReason', 'owner-recreated')
    from former;
    get diagnostics new.paused = row_count;
    delete from sessions
    where coalesce(account_key, user_key) = new.name_key
      and created_at <= new.returned_at + interval '5 seconds';
    with former as (
        select name_key, disabled_at is null as enabled from accounts
        where name_key = new.name_key and created_at <= new.returned_at + interval '5 seconds'
        for update
    ), changed as (
        update accounts a
        set disabled_reason = case when disabled_at is null then 'owner-recreated'
                                   else disabled_reason end,
            disabled_at = coalesce(disabled_at, now()), generation = generation + 1
        from former f where a.name_key = f.name_key
    )
    insert into audit (door, action, object_kind, object_id, before, after)
    select 'system', 'account.disabled', 'account', name_key,
           jsonb_build_object('disabled', false),
           jsonb_build_object('disabled', true, 'disabledReason', 'owner-recreated')
    from former where enabled;
    return new;
end $$;
create trigger directory_departures_end before update on directory_departures
    for each row
    when (old.returned_revision is null and new.returned_revision is not null)
    execute function pause_former_owner();

-- ---------------------------------------------------------------- The ledger

-- The ledger is in partitions by time: the events that were received on one day (UTC) and their attempts
-- are in two partitions, which are dropped together when their facts are no longer kept.

-- Published events and their plans. A row is written once. Only look_at, queued_at and first_pending
-- change, by which the reconciler finds lost jobs. All events of a batch have one received_at.
create table events (
    key              uuid        not null,    -- digest of source and id
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
    received_at      timestamptz not null default now(), -- the time at which it was routed, to which its partition belongs
    look_at          timestamptz,             -- the time at which the reconciler checks it next; null when settled
    queued_at        timestamptz not null default now(),
    first_pending    boolean     not null default true,
    routed_by        bigint,
    payload_removed  text,
    primary key (batch, position, received_at)
) partition by range (received_at);
comment on column events.queued_at is
    'the time at which the job that the reconciler expects next enters its queue';
comment on column events.first_pending is
    'whether the reconciler expects first attempts of it in the delivery queues; '
    'false when all owed deliveries wait in fanfare.retries, or none is owed';
comment on column events.routed_by is
    'the random number of the routing that wrote it, by which a router recognises its own rows '
    'after a lost answer; null for a test event';
comment on column events.payload_removed is
    'why the notification is null in JSON: age (it was too old) or erased (a person asked for it); null while it is there';
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
-- Takes the events for whose day no partition was made, and those that are kept when theirs is dropped.
create table events_default partition of events default;

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
    received_at     timestamptz not null, -- the time at which the delivery's events were routed, to which its partition belongs
    payload_removed text,
    primary key (batch, webhook, entry, received_at)
) partition by range (received_at);
comment on column attempts.payload_removed is
    'why the response''s body is gone: age, or erased, which takes the error and the headers too; null while it is there';
-- A webhook's deliveries by time: in the first row of a delivery, `since` is the time of its events.
-- Statistics read the included columns from the index alone. Workers pay for this index with each
-- row; a router would pay for an index on events.webhooks with all webhooks of an event at once.
create index attempts_webhook on attempts (webhook, since, batch, entry)
    include (at, outcome, status);
-- Deliveries of all webhooks that ended without success; there are few.
create index attempts_ended on attempts (state, since, batch, webhook)
    where state in ('dead', 'dropped');
-- Attempts by time, to find the newest: those of the last days may be in several partitions. They are
-- written nearly in this order, so that an index of block ranges suffices: it has a few pages, and costs
-- little to maintain.
create index attempts_at on attempts using brin (at) with (autosummarize = on);
-- Takes the attempts for whose day no partition was made, and those that are kept when theirs is
-- dropped.
create table attempts_default partition of attempts default;

-- Dead letters that a person discarded. The ledger's last row of the delivery stays as it is.
create table discards (
    batch        uuid        not null, -- batch and webhook together are the delivery
    webhook      uuid        not null,
    entry        integer     not null, -- the sequence number of the row by which it died
    discarded_at timestamptz not null default now(), -- the time at which it was discarded
    primary key (batch, webhook, entry)
);

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
    seen_at        timestamptz      not null,
    holder         integer,
    server         text,
    clear_before   timestamptz,
    dead_from      timestamptz,
    found_on       text
);
comment on column workers.worker is 'a random number of the process';
comment on column workers.settles_within is
    'the seconds within which a job that it received is recorded, claimed or deferred';
comment on column workers.seen_at is
    'the time of its last report, which it makes every second; its row is removed an hour later';
comment on column workers.holder is
    'the number of its lock, which its leases name; null if it has taken no lock yet, or never does, as behind a pooler';
comment on column workers.server is
    'the run of the server (see server_run) in which it took its lock; null without a lock';
comment on column workers.clear_before is
    'it has recorded, leased or requeued every first attempt whose job it received before this time; null if it reports none';
comment on column workers.dead_from is
    'the time from which on it counts as dead if its lock is still free, noted when that was found free; null when it was not';
comment on column workers.found_on is
    'the run of the server in which its lock was found free; in a later run, dead_from says nothing';

-- A run of the server: it ends with a restart, a failover, and a crash of any of its processes, which
-- all end every session. A crash clears the statistics, and leaves the start time of the server as it is.
create function server_run() returns text language sql stable as $$
    select concat(extract(epoch from pg_postmaster_start_time()), ' ', extract(epoch from stats_reset))
    from pg_stat_bgwriter
$$;
comment on function server_run is
    'identifies the time since all sessions of the server were last ended at once';

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

-- ---------------------------------------------------------------- Publishers

-- The accounts of report servers that publish over HTTP. Each has one access token, which only the
-- publisher knows.
create table publishers (
    token_digest bytea       primary key,            -- SHA-256 of the access token
    name_key     text        not null,               -- folded
    name         text        not null,               -- as written
    created_at   timestamptz not null default now(), -- the time at which it was added
    last_used_at timestamptz, -- the time at which the token was last accepted, to the minute; null before the first time
    revoked_at   timestamptz  -- the time at which the token was revoked; null while it is accepted
);
-- A revoked account keeps its row, and its name is free for another account.
create unique index publishers_name on publishers (name_key) where revoked_at is null;

-- ---------------------------------------------------------------- The audit trail

-- The audit trail: who did what, when, by which door and from where. A change and its entry are
-- written in one transaction, so that none is without the other.

-- Rows are added and never changed: no role of deploy/postgres may update or delete them. Old
-- partitions are dropped as a whole.
create table audit (
    id          bigint      generated always as identity,
    at          timestamptz not null default clock_timestamp(),
    actor       text,
    actor_key   text,
    door        text        not null check (door in ('console', 'api', 'cli', 'system')),
    address     text,
    correlation text,
    action      text        not null,
    object_kind text        not null,
    object_id   text        not null,
    webhook     uuid,
    owner       text,
    owner_key   text,
    before      jsonb,
    after       jsonb,
    note        text,
    primary key (at, id)
) partition by range (at);
comment on table audit is 'who did what, when, by which door and from where';
comment on column audit.id is 'orders the entries of one moment';
comment on column audit.at is 'the time at which the entry was written, in the transaction of the change';
comment on column audit.actor is
    'the name of the user, or of the user of the operating system, as written; null for the service';
comment on column audit.actor_key is 'the same name, folded; null for the service';
comment on column audit.door is 'the way by which the request came in; system for the service itself';
comment on column audit.address is
    'the address of the client, or user@host of a command; null when it is not known';
comment on column audit.correlation is 'the id that a proxy gave the request; null without one';
comment on column audit.action is 'the stable code of the action';
comment on column audit.object_kind is
    'the kind of the object: webhook, webhooks, account, delivery, dead-letter, resend or directory';
comment on column audit.object_id is 'the id of the object; the folded name of an account';
comment on column audit.webhook is 'the webhook that it concerns; null for none';
comment on column audit.owner is 'the owner of the webhook, as written; null for none';
comment on column audit.owner_key is 'the owner''s name, folded: this user may read the entry; null for none';
comment on column audit.before is
    'what changed, as it was before; confidential values are fingerprints; null: nothing was there';
comment on column audit.after is
    'what changed, as it was after; confidential values are fingerprints; null: nothing is left';
comment on column audit.note is 'a remark for a person; null: none';

-- Lists are read in pages, the newest first: all entries, and those that each filter selects.
create index audit_webhook on audit (webhook, at, id) where webhook is not null;
create index audit_owner on audit (owner_key, at, id) where owner_key is not null;
create index audit_actor on audit (actor_key, at, id) where actor_key is not null;
create index audit_object on audit (object_kind, object_id, at, id);
create index audit_action on audit (action, at, id);

-- It takes the rows for which there is no partition, so that a missing one stops nothing.
create table audit_rest partition of audit default;

-- Makes the partitions of this month and of the following ones, up to a number. Returns how many it
-- made. It has the rights of the table's owner, since no process may create tables. While other
-- statements use the table, it waits a second at most, and then fails; it is called again later.
create function make_audit_partitions(months integer) returns integer
language plpgsql security definer set search_path from current set lock_timeout = '1s' as $$
declare
    first timestamptz;
    next  timestamptz;
    name  text;
    made  integer := 0;
begin
    if not pg_try_advisory_xact_lock(hashtextextended('fanfare partitions of audit', 0)) then
        return 0;
    end if;
    for ahead in 0 .. least(months, 120) - 1 loop
        first := (date_trunc('month', now() at time zone 'UTC') + make_interval(months => ahead))
                 at time zone 'UTC';
        next := (date_trunc('month', now() at time zone 'UTC') + make_interval(months => ahead + 1))
                at time zone 'UTC';
        name := 'audit_' || to_char(first at time zone 'UTC', 'YYYY_MM');
        -- Rows that came before their partition stay where they are.
        if to_regclass(name) is null
           and not exists (select from audit_rest r where r.at >= first and r.at < next) then
            execute format('create table %I partition of audit for values from (%L) to (%L)',
                           name, first, next);
            made := made + 1;
        end if;
    end loop;
    return made;
end $$;
revoke all on function make_audit_partitions(integer) from public;
select make_audit_partitions(3);

-- The partitions of the audit trail with their ranges. The default partition has none.
create view audit_partitions as
select p.relname::text as parent,
       c.relname::text as name,
       substring(pg_get_expr(c.relpartbound, c.oid) from 'FROM \(''([^'']+)''\)')::timestamptz as since,
       substring(pg_get_expr(c.relpartbound, c.oid) from 'TO \(''([^'']+)''\)')::timestamptz as until,
       pg_get_expr(c.relpartbound, c.oid) = 'DEFAULT' as is_default
from pg_inherits i
join pg_class c on c.oid = i.inhrelid
join pg_class p on p.oid = i.inhparent
where p.relname = 'audit'
  and p.relnamespace = to_regnamespace(current_schema()) and c.relispartition;
comment on column audit_partitions.parent is 'the partitioned table';
comment on column audit_partitions.name is 'the partition''s name';
comment on column audit_partitions.since is 'the beginning of its month; null for the default partition';
comment on column audit_partitions.until is 'the end of its month; null for the default partition';
comment on column audit_partitions.is_default is 'whether it takes the rows that no other partition takes';

-- Drops the oldest month of the audit trail that ended before `older`, and returns its partition; null:
-- there is none, or another process is at it. Then it removes what is too old from the default
-- partition, where rows are only if partitions were missing. It waits at most 100 ms for the lock.
create function drop_audit_month(older timestamptz) returns text
language plpgsql security definer set lock_timeout = '100ms' as $$
declare
    month text;
begin
    if older > now() - interval '1 day' then
        raise exception 'a month that has not ended a day ago is not dropped';
    end if;
    if not pg_try_advisory_xact_lock(hashtextextended('fanfare partitions of audit', 0)) then
        return null;
    end if;
    select name into month from audit_partitions where until <= older order by until limit 1;
    if month is not null then
        execute format('drop table %I', month);
        return month;
    end if;
    delete from audit_rest where at < older;
    return null;
end $$;
revoke execute on function drop_audit_month(timestamptz) from public;

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

-- ---------------------------------------------------------------- Retention

-- The functions run with the rights of the tables' owner, because a role may not change tables.

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

-- One row: how far payloads are removed. All events before this position are done, except those of
-- payloads_kept.
create table payload_progress (
    singleton   boolean     primary key default true check (singleton), -- there is one row
    received_at timestamptz not null, -- the time at which the last batch that is done was routed
    batch       uuid        not null  -- that batch
);
insert into payload_progress (received_at, batch)
values ('epoch', '00000000-0000-0000-0000-000000000000');

-- Batches that are too old and keep their payloads: they are unsettled, or have an undecided dead
-- letter. There are few.
create table payloads_kept (
    batch       uuid        not null, -- the batch
    received_at timestamptz not null, -- the time at which it was routed
    checked_at  timestamptz not null default now(), -- the last time at which it was found to be needed
    primary key (batch, received_at)
);
create index payloads_kept_checked on payloads_kept (checked_at);

-- Removes the payloads of at most `most` batches that were routed before `older`: events' data and
-- answers' bodies. Batches are taken in the order of their rows in the table. Batches that were kept
-- are looked at again every ten minutes. Returns the numbers of events and answers, and whether there
-- may be more. No row: another process is at it.
create function remove_payloads(older timestamptz, most integer)
returns table (events_removed bigint, answers_removed bigint, more boolean)
language plpgsql security definer set lock_timeout = '1s' set plan_cache_mode = force_custom_plan
set enable_seqscan = off set enable_hashjoin = off set enable_mergejoin = off as $$
declare
    passed payload_progress;
    next_keys uuid[];
    next_times timestamptz[];
    keys uuid[];
    times timestamptz[];
begin
    if older > now() - interval '1 day' then
        raise exception 'a payload that is not a day old is not removed';
    end if;
    if not pg_try_advisory_xact_lock(hashtext('fanfare.payloads')) then
        return;
    end if;
    select * into passed from payload_progress;
    select coalesce(array_agg(n.batch order by n.received_at, n.batch), '{}'),
           coalesce(array_agg(n.received_at order by n.received_at, n.batch), '{}')
    into next_keys, next_times
    from (select e.received_at, e.batch from events e
          where e.received_at >= passed.received_at and e.received_at < older
            and (e.received_at, e.batch) > (passed.received_at, passed.batch)
          group by e.received_at, e.batch order by e.received_at, e.batch limit most) n;
    select next_keys || coalesce(array_agg(k.batch), '{}'),
           next_times || coalesce(array_agg(k.received_at), '{}')
    into keys, times
    from (select batch, received_at from payloads_kept
          where checked_at < now() - interval '10 minutes' and received_at < older
          order by checked_at limit most) k;

    -- What is needed stays, and is looked at again later.
    with asked as (
        select * from unnest(keys, times) n(batch, received_at)
    ), needed as (
        insert into payloads_kept as k (batch, received_at)
        select n.batch, n.received_at from asked n
        where exists (select from events e
                      where e.batch = n.batch and e.received_at = n.received_at
                        and e.look_at is not null)
           or exists (select from attempts a
                      where a.batch = n.batch and a.received_at = n.received_at
                        and a.state = 'dead'
                        and not exists (select from attempts l
                                        where l.batch = a.batch and l.webhook = a.webhook
                                          and l.entry > a.entry and l.received_at = a.received_at)
                        and not exists (select from discards d
                                        where d.batch = a.batch and d.webhook = a.webhook
                                          and d.entry = a.entry))
        on conflict (batch, received_at) do update set checked_at = now()
        returning k.batch, k.received_at
    ), free as (
        delete from payloads_kept k using asked n
        where k.batch = n.batch and k.received_at = n.received_at
          and not exists (select from needed d
                          where d.batch = n.batch and d.received_at = n.received_at)
    )
    select coalesce(array_agg(n.batch), '{}'), coalesce(array_agg(n.received_at), '{}')
    into keys, times
    from asked n
    where not exists (select from needed d
                      where d.batch = n.batch and d.received_at = n.received_at);

    -- A person may begin a delivery again at this moment. The restart locks the event, and is refused
    -- when it comes second; when it comes first, the event is unsettled.
    update events e set notification = 'null', payload_removed = 'age'
    from unnest(keys, times) n(batch, received_at)
    where e.batch = n.batch and e.received_at = n.received_at
      and e.received_at between (select min(t) from unnest(times) t) and (select max(t) from unnest(times) t)
      and e.look_at is null and e.payload_removed is null;
    get diagnostics events_removed = row_count;
    update attempts a set response_body = null, payload_removed = 'age'
    from unnest(keys, times) n(batch, received_at)
    where a.batch = n.batch and a.received_at = n.received_at
      and a.received_at between (select min(t) from unnest(times) t) and (select max(t) from unnest(times) t)
      and a.response_body is not null
      and not exists (select from events e
                      where e.batch = n.batch and e.received_at = n.received_at
                        and e.look_at is not null);
    get diagnostics answers_removed = row_count;

    more := cardinality(next_keys) = most;
    if more then
        update payload_progress
        set received_at = next_times[most], batch = next_keys[most];
    elsif older > passed.received_at then
        update payload_progress
        set received_at = older, batch = '00000000-0000-0000-0000-000000000000';
    end if;
    return next;
end $$;
revoke execute on function remove_payloads(timestamptz, integer) from public;

-- The functions that run with the rights of the owner find nothing but the tables of this schema.
do $$
declare
    one text;
begin
    foreach one in array array[
        'make_partitions(integer)',
        'drop_day(timestamptz)',
        'drop_week(timestamptz)',
        'sweep_kept(timestamptz, integer)',
        'remove_payloads(timestamptz, integer)',
        'drop_audit_month(timestamptz)'
    ] loop
        execute format('alter function %s set search_path = %I, pg_temp', one, current_schema());
    end loop;
end $$;

select make_partitions(7);
