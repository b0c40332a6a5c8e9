-- The directory: every version of every user and role, with the revisions between which it holds.
-- Names are folded by the program (*_key); the database only compares them.

create table directory_state (
    singleton boolean primary key default true check (singleton),
    revision  bigint  not null -- the newest revision seen; 0 before the first document
);
insert into directory_state (revision) values (0);

create table directory_versions (
    id             bigint  generated always as identity primary key,
    kind           text    not null check (kind in ('user', 'role')),
    name           text    not null, -- as published
    name_key       text    not null, -- as compared
    begin_revision bigint  not null, -- the first revision at which it holds
    end_revision   bigint,           -- the first at which it holds no more; null while it holds
    enabled        boolean not null, -- users: may do anything at all
    deleted        boolean not null, -- the document says that it is gone
    document       text    not null, -- as published, compact
    unique (kind, name_key, begin_revision)
);
create index directory_versions_current on directory_versions (kind, name_key) where end_revision is null;

-- Who may read what: one row for each permission that grants `read`.
create table directory_grants (
    version_id     bigint not null references directory_versions on delete cascade,
    scope          text   not null, -- contract: any-report, report, reports-in-category, …
    target         text   not null, -- '' for the any-… scopes
    principal_kind text   not null check (principal_kind in ('user', 'role')),
    principal_key  text   not null,
    begin_revision bigint not null, -- as the version's, kept here so that one index answers
    end_revision   bigint
);
create index directory_grants_asked on directory_grants (scope, target, begin_revision);
create index directory_grants_version on directory_grants (version_id);
create index directory_grants_principal on directory_grants (principal_kind, principal_key) where end_revision is null;

-- Which roles a user is a member of, whether or not the role exists.
create table directory_members (
    version_id     bigint not null references directory_versions on delete cascade,
    user_key       text   not null,
    role_key       text   not null,
    begin_revision bigint not null,
    end_revision   bigint
);
create index directory_members_role on directory_members (role_key, begin_revision);
create index directory_members_user on directory_members (user_key) where end_revision is null;
create index directory_members_version on directory_members (version_id);

-- Snapshots end everything that they do not name, also documents that arrive after them.
create table directory_snapshots (
    revision   bigint      primary key,
    applied_at timestamptz not null default now()
);

-- Webhooks. A deleted one keeps its row, without its secrets, for the history of its deliveries.
create table webhooks (
    id            uuid        primary key,
    owner         text        not null, -- as written
    owner_key     text        not null, -- as compared
    uri           text        not null,
    description   text,
    paused        boolean     not null default false,
    paused_reason text,                 -- why the service paused it; null when its owner did
    filters       text[]      not null, -- 'reports' or 'reports.delete' forms; empty: everything
    properties    text        not null, -- a JSON object, as text to keep its order
    sealed        bytea       not null, -- secrets and headers, encrypted
    created_at    timestamptz not null default now(),
    updated_at    timestamptz not null default now(),
    deleted_at    timestamptz
);
create index webhooks_owner on webhooks (owner_key) where deleted_at is null;

-- Workers keep webhooks in memory and hear of changes through this.
create function notify_webhook() returns trigger language plpgsql as $$
begin
    perform pg_notify('fanfare_webhooks', coalesce(new.id, old.id)::text);
    return null;
end $$;
create trigger webhooks_changed after insert or update or delete on webhooks
    for each row execute function notify_webhook();

-- The ledger: what was published and to whom it is owed. Nothing here is updated but look_at.
create table events (
    key              uuid        primary key, -- digest of source and id
    batch            uuid        not null,    -- what it was published with; its own key when alone
    position         integer     not null,    -- its place in the batch
    source           text        not null,
    event_id         text        not null,
    event_type       text        not null,
    subject          text        not null,
    occurred_at      timestamptz,
    access_revision  bigint,                  -- the revision it asked to be judged by
    decided_revision bigint      not null,    -- the revision it was judged by
    traceparent      text,
    notification     text        not null,    -- what receivers get: flat, compact JSON
    webhooks         uuid[]      not null,    -- the plan
    received_at      timestamptz not null default now(),
    look_at          timestamptz              -- when the reconciler looks next; null when settled
);
create index events_batch on events (batch, position);
create index events_received on events (received_at);
create index events_unsettled on events (look_at) where look_at is not null;

-- The ledger: what was done. One row an attempt, or a decision without one; the last row of a
-- delivery is its state.
create table attempts (
    batch           uuid        not null,
    webhook         uuid        not null,
    entry           integer     not null, -- 1, 2, … for each delivery
    delivery        uuid        not null, -- the Id that receivers see
    attempt         integer     not null, -- POSTs made so far, this one included
    tries           integer     not null, -- POSTs in this chain: a replay begins a new one
    since           timestamptz not null, -- when this chain began
    state           text        not null check (state in ('pending', 'retrying', 'delivered', 'dropped', 'dead')),
    reason          text,                 -- why dropped or dead
    at              timestamptz not null, -- when the attempt began
    duration_ms     integer,              -- null when nothing was sent
    outcome         text,                 -- null when nothing was sent
    status          integer,              -- HTTP status
    error           text,
    response_body   text,
    next_attempt_at timestamptz,
    revision        bigint      not null, -- the directory revision it was decided by
    primary key (batch, webhook, entry)
);
create index attempts_delivery on attempts (delivery);

-- Who is about to make an attempt: keeps two workers with copies of one job apart.
create table claims (
    batch   uuid        not null,
    webhook uuid        not null,
    entry   integer     not null,
    until   timestamptz not null,
    primary key (batch, webhook)
);

-- Local accounts.
create table accounts (
    name_key      text        primary key,
    name          text        not null,
    password_hash text        not null, -- argon2id, PHC string
    administrator boolean     not null,
    created_at    timestamptz not null default now()
);
