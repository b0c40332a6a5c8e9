-- What the reconciler goes by when it decides that a job is lost.

-- A lost job is recognised by age: its queue is in order, so it is lost when a job that was put into
-- the queue after it has come out.
create table queue_progress (
    queue     text        primary key, -- the queue's name in the broker
    passed_at timestamptz not null,    -- workers were handed a job that was put into the queue at this time
    noted_at  timestamptz not null     -- when a worker last said so
);
comment on column queue_progress.queue is 'the queue''s name in the broker';
comment on column queue_progress.passed_at is
    'workers were handed a job that was put into the queue at this time';
comment on column queue_progress.noted_at is 'when a worker last said so';

-- Workers that run: what a worker was handed is recorded or put off within a time that depends on its
-- settings, and only then is a job without a trace lost.
create table workers (
    worker         uuid             primary key, -- a random number of the process
    settles_within double precision not null,    -- seconds
    seen_at        timestamptz      not null
);
comment on column workers.worker is 'a random number of the process';
comment on column workers.settles_within is
    'after so many seconds a first attempt that it was handed is recorded, claimed, put off or lost with it';
comment on column workers.seen_at is 'when it last said that it runs; it is forgotten an hour later';

alter table events
    add column queued_at     timestamptz not null default now(),
    add column first_pending boolean not null default true,
    add column routed_by     bigint;
comment on column events.queued_at is
    'when the job that the reconciler expects to be carried out next came, or comes, into its queue';
comment on column events.first_pending is
    'whether the reconciler still expects first attempts of it in the delivery queues; '
    'false once all that is owed waits in fanfare.retries, or nothing is owed';
comment on column events.routed_by is
    'the random number of the routing that wrote it, by which a router recognises its own work after '
    'a lost answer; null when it was not routed';

-- What to look at: one index for what waits in the delivery queues, one for what waits in
-- fanfare.retries, so that a backlog in one does not hide the other.
drop index events_unsettled;
create index events_check_first on events (queued_at) where look_at is not null and first_pending;
create index events_check_later on events (queued_at) where look_at is not null and not first_pending;
