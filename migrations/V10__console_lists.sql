-- What the console's grid shows of each webhook and sorts by: how it did in the last 24 hours.
-- Counting that anew for a page of ten thousand webhooks would read the attempts of a whole day, so
-- consoles keep count: every few seconds one of them adds what was attempted since the last time.
-- What is newer than that is counted for each page.

-- Attempts by time, to find the newest of them. They come nearly in its order, so that an index of
-- block ranges is enough: it has a few pages and costs who writes attempts next to nothing.
create index attempts_at on attempts using brin (at) with (autosummarize = on);

-- How far attempts are counted.
create table health_state (
    singleton  boolean     primary key default true check (singleton),
    counted_to timestamptz not null -- what began before is counted, and nothing later
);
insert into health_state (counted_to)
select case when exists (select from attempts)
            then date_trunc('hour', now(), 'UTC') - interval '23 hours' else now() end;

-- The attempts of a webhook by the hour in which they began; for the last 24 hours.
create table webhook_hours (
    webhook   uuid        not null,
    hour      timestamptz not null, -- its beginning
    succeeded bigint      not null,
    failed    bigint      not null,
    primary key (webhook, hour)
);
create index webhook_hours_old on webhook_hours (hour);

-- All hours of a webhook together, and its last attempt of all.
create table webhook_health (
    webhook   uuid        primary key,
    succeeded bigint      not null,
    failed    bigint      not null,
    at        timestamptz not null, -- when the last attempt began
    outcome   text        not null,
    status    integer               -- null when there was no answer
);
insert into webhook_health
select w.id, 0, 0, l.at, l.outcome, l.status
from webhooks w
cross join lateral (select a.at, a.outcome, a.status from attempts a
                    where a.webhook = w.id and a.outcome is not null
                    order by a.since desc, a.batch desc, a.entry desc limit 1) l;

-- Requests to attempt again what is dead of a webhook. A console takes them step by step; what is
-- done of one is in the ledger, and here, so that another console can go on with it.
create table resends (
    id        uuid        primary key,
    webhook   uuid        not null references webhooks on delete cascade,
    since     timestamptz not null, -- chains of attempts that began at this time or later …
    asked_at  timestamptz not null, -- … and before this: what fails again is not sent once more
    asked_by  text        not null, -- the user's name
    total     bigint      not null, -- deliveries that were dead when it was asked for
    begun     bigint      not null default 0, -- deliveries that are attempted again so far
    step_at   timestamptz,          -- when the last step was made; null before the first
    ended_at  timestamptz,          -- null while it goes on
    ended     text        check (ended in ('done', 'cancelled', 'webhook-paused', 'webhook-deleted'))
);
-- One at a time for each webhook, so that asking twice is asking once.
create unique index resends_open on resends (webhook) where ended_at is null;
create index resends_webhook on resends (webhook, asked_at);
