//! The content of an installation's database before a measurement. The database generates it
//! itself, because Fanfare has no statement that creates a million webhooks.

use std::ops::Range;

use anyhow::Result;

use crate::stage::Stage;

/// Webhooks that match no event of the benchmark.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Webhooks<'a> {
    /// SQL for the owner's name, from the webhook's number `n`.
    pub(crate) owner: &'a str,
    /// SQL for the filters, from the webhook's number `n`.
    pub(crate) filters: &'a str,
}

/// Adds webhooks with these numbers. Their secrets are empty, since they are never used.
pub(crate) fn webhooks(
    stage: &Stage,
    database: &str,
    kind: Webhooks<'_>,
    numbers: Range<u64>,
) -> Result<()> {
    let Webhooks { owner, filters } = kind;
    let Range { start, end } = numbers;
    // Without triggers, which would notify a million times. The rows that they would write are
    // inserted here.
    let statement = format!(
        "-- bench_webhooks
        begin;
        set local session_replication_role = replica;
        with made as (
            insert into webhooks (id, owner, owner_key, uri, filters, properties, sealed)
            select gen_random_uuid(), {owner}, {owner}, 'https://receiver.example/' || n,
                   {filters}, '{{}}', ''
            from generate_series({start}, {end} - 1) n
            returning id, created_at, owner_key, filters
        ), wanted as (
            insert into webhook_wants (owner_key, wants, webhook)
            select owner_key,
                   unnest(case when filters = '{{}}' then '{{*}}' else filters end), id
            from made
        )
        insert into webhook_versions (webhook, begin_at, owner_key, filters, paused, deleted)
        select id, created_at, owner_key, filters, false, false from made;
        commit"
    );
    stage.sql(database, &statement)?;
    analyze(stage, database)
}

/// Adds settled events with these numbers, each delivered to all existing webhooks.
pub(crate) fn attempts(stage: &Stage, database: &str, numbers: Range<u64>) -> Result<()> {
    let Range { start, end } = numbers;
    let statement = format!(
        "-- bench_attempts
        select make_partition('events', 'received_at', day, day + interval '24 hours'),
               make_partition('attempts', 'received_at', day, day + interval '24 hours')
        from generate_series(date_trunc('day', now() - {end} * interval '1 second', 'UTC'), now(),
                             interval '24 hours') day;
        with made as (
            insert into events (key, batch, position, source, event_id, event_type, subject,
                                decided_revision, notification, webhooks, received_at)
            select md5('event' || n)::uuid, md5('event' || n)::uuid, 0, '/stored', n::text,
                   'tasks.execute', 'tasks/t1', 1,
                   '{{\"Action\":\"tasks\",\"UserAction\":\"execute\",\"Text\":\"'
                   || repeat('x', 350) || '\"}}',
                   (select array_agg(id order by id) from webhooks),
                   now() - n * interval '1 second'
            from generate_series({start}, {end} - 1) n
            returning key, webhooks, received_at
        )
        insert into attempts (batch, webhook, entry, attempt, tries, since, state, at,
                              duration_ms, outcome, status, revision, received_at)
        select m.key, p.webhook, 1, 1, 1, m.received_at, 'delivered', m.received_at, 5,
               'delivered', 200, 0, m.received_at
        from made m cross join unnest(m.webhooks) as p(webhook)"
    );
    stage.sql(database, &statement).map(drop)
}

/// Updates the database's statistics, as it would do by itself after a while.
pub(crate) fn analyze(stage: &Stage, database: &str) -> Result<()> {
    stage.sql(database, "vacuum analyze").map(drop)
}
