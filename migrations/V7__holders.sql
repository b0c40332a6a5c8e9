-- Whether a worker lives is known once for each worker, instead of once for each lease: a worker that
-- has just started, or that sees a dead worker's lease or job, need not find it out again.

alter table workers
    add column holder       integer,
    add column server       text,
    add column clear_before timestamptz,
    add column dead_from    timestamptz,
    add column found_on     text;
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

comment on column claims.holder_gone_at is 'written by earlier versions only; workers.dead_from takes its place';

-- A run of the server: it ends with a restart, a failover, and a crash of any of its processes, which
-- all end every session. A crash clears the statistics, and leaves the start time of the server as it is.
create function server_run() returns text language sql stable as $$
    select concat(extract(epoch from pg_postmaster_start_time()), ' ', extract(epoch from stats_reset))
    from pg_stat_bgwriter
$$;
comment on function server_run is
    'identifies the time since all sessions of the server were last ended at once';
