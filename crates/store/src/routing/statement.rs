//! The statement that routes events.

use crate::access::rule::{granting, having_role};

/// Routes events. Its parameters are those of [`Columns::parameters`](super::Columns::parameters), $18
/// the administrators' role, $19 and $21 the settings in seconds, $20 the mark of the routing.
pub(super) const ROUTE: &str = concat!(
    "-- route
    with arrival as (
        select a.*, coalesce(a.access_revision, s.revision) as revision,
               bool_or(s.hold is not null or a.access_revision > s.revision
                       or exists (select from directory_gaps g
                                  where g.first_revision <= a.access_revision
                                    and ($19::float8 is null or g.noticed_at > now()
                                         - $19 * interval '1 second')))
                   over batch as held,
               bool_or(a.access_revision < s.oldest) over batch as forgotten
        from unnest($1::int[], $2::uuid[], $3::uuid[], $4::int[], $5::text[], $6::text[],
                    $7::text[], $8::text[], $9::timestamptz[], $10::bigint[], $11::text[],
                    $12::text[], $13::text[], $14::text[])
            as a(idx, key, batch, position, source, event_id, event_type, subject,
                 occurred_at, access_revision, traceparent, notification, filter, typed)
        cross join directory_state s
        window batch as (partition by a.batch)
    ), open as (
        select * from arrival where held is not true and forgotten is not true
    ), asked as (
        select a.idx, a.revision, q.scope, q.target
        from unnest($15::int[], $16::text[], $17::text[]) as q(idx, scope, target)
        join open a using (idx)
    ), granted as (
        select distinct a.idx, a.revision, v.kind, v.name_key, v.enabled
        from ",
    granting!(),
    "
    ), holder as (
        select idx, revision, name_key as role_key from granted where kind = 'role'
        union all
        select idx, revision, $18 from open
    ), role as (
        select distinct revision, role_key from holder
    ), member as materialized (
        -- Once for all events of the batch, and not inlined into each: a role may have every user as
        -- a member.
        select r.revision, r.role_key, u.name_key as user_key
        from ",
    having_role!("role"),
    "
        -- The offset keeps the planner from reading all of a table that it thinks small: it
        -- looks each owner up. So below.
        where exists (select from webhook_wants w where w.owner_key = u.name_key offset 0)
    ), reader as (
        select idx, name_key as user_key from granted where kind = 'user' and enabled
        union
        select h.idx, m.user_key from holder h join member m using (revision, role_key)
    ), plan as materialized (
        -- Once for all events of the batch: the planner expects one, and would do it for each.
        -- A webhook may want an event for two reasons, by its filter and by its type. Each
        -- is asked for alone: of any of three the planner may read all that the owner has.
        select a.idx, array_agg(distinct w.webhook order by w.webhook) as webhooks
        from reader r
        join open a on a.idx = r.idx
        cross join lateral unnest(array['*', a.filter, a.typed]) as reason(wants)
        cross join lateral (
            select webhook from webhook_wants
            where owner_key = r.user_key and wants = reason.wants
            offset 0
        ) w
        group by a.idx
    ), unknown as (
        select * from open a
        where not exists (select from event_keys k
                          where k.key = a.key
                            and k.week >= date_trunc('week', now() - $21 * interval '1 second',
                                                     'UTC')
                            and k.week <= date_trunc('week', now() + interval '1 hour', 'UTC')
                            and k.received_at > now() - $21 * interval '1 second'
                          offset 0)
    ), period as (
        -- Both weeks for an hour before and after a week's end: two routers with the same event may
        -- see different weeks.
        select distinct date_trunc('week', now() + near * interval '1 hour', 'UTC') as week
        from unnest(array[-1, 0, 1]) as near
    ), noted as (
        insert into event_keys as k (week, key, batch, received_at)
        select p.week, u.key, u.batch, now()
        from (select key, batch from unknown union select batch, batch from unknown) u
        cross join period p
        -- The same order everywhere: routers that have some of the same events wait for
        -- each other instead of ending in a deadlock.
        order by u.key, p.week
        on conflict (key, week) do update
            set batch = excluded.batch, received_at = excluded.received_at
            where k.received_at <= now() - $21 * interval '1 second'
        returning key
    ), fresh as materialized (
        select key from noted group by key having count(*) = (select count(*) from period)
    ), taken as (
        insert into events (key, batch, position, source, event_id, event_type, subject,
                            occurred_at, access_revision, decided_revision, traceparent,
                            notification, webhooks, received_at, look_at, first_pending,
                            routed_by)
        select a.key, a.batch, a.position, a.source, a.event_id, a.event_type, a.subject,
               a.occurred_at, a.access_revision, a.revision, a.traceparent,
               a.notification, coalesce(p.webhooks, '{}'), now(),
               case when p.webhooks is not null then now() + interval '20 seconds' end,
               p.webhooks is not null, $20
        from unknown a join fresh using (key) left join plan p using (idx)
        returning key, webhooks, received_at
    )
    select a.held, a.forgotten, t.webhooks, t.received_at
    from arrival a left join taken t using (key)
    order by a.idx"
);
