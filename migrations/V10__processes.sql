-- Processes, which report while they run. One that has ended without a word is shown for a while.
create table processes (
    id            uuid        primary key, -- made by the process when it starts
    role          text        not null,    -- what it runs: router, worker, console or all
    host          text        not null,    -- the name of its machine or container
    pid           integer     not null,    -- its number there
    version       text        not null,    -- the version of its program
    started_at    timestamptz not null default now(), -- when it reported first
    seen_at       timestamptz not null default now(), -- when it reported last
    problem       text,                    -- why it can't do its work; null: it can
    open_breakers text[]      not null default '{}'   -- the hosts with an open circuit breaker in it
);
