//! The statement that gathers the facts about webhooks as of an event's decision.

use crate::access::rule::{asked_of_resource, deciding_first, grants_of_readers, holds};

/// Parameters: $1 webhook, $2 owner's key, $3 limit, $4 event's key, $5 the time of its receipt, $6
/// the revision by which it was decided, $7 scopes, $8 targets, $9 the administrators' role,
/// $10 the event's batch.
///
/// Memberships are looked up from the owners, since a page has few of them.
pub(super) const FACTS: &str = concat!(
    "-- explain
    with page as (
        select w.id, w.owner, w.owner_key, w.created_at
        from webhooks w
        where ($1::uuid is null or w.id = $1) and ($2::text is null or w.owner_key = $2)
        order by w.created_at, w.id
        limit $3
    ), considered as (
        select p.*, coalesce(v.owner_key, p.owner_key) as owner_then,
               v.deleted, v.paused, v.filters
        from page p
        left join lateral (
            select * from webhook_versions v
            where v.webhook = p.id and v.begin_at <= $5
              and (v.end_at is null or v.end_at > $5)
            order by v.begin_at desc limit 1
        ) v on true
    ), owner as (
        select u.id, u.name_key, u.enabled, u.deleted, u.begin_revision
        from (select distinct owner_then from considered) o
        join directory_versions u on u.kind = 'user' and u.name_key = o.owner_then
            and ",
    holds!("u", "$6"),
    "
    ), member as (
        select m.version_id, m.role_key
        from owner o join directory_members m on m.version_id = o.id
    ), ",
    asked_of_resource!("$7", "$8", "$6"),
    ", ",
    grants_of_readers!("member", "$9"),
    ", decides as (
        select distinct on (o.id) o.id as user_id, w.precedence, w.scope, w.target, w.role,
               greatest(w.since, o.begin_revision) as since
        from way w join owner o on o.id = w.user_id
        order by o.id, ",
    deciding_first!(),
    "
    ), plan as (
        select p.webhook, e.batch
        from events e cross join unnest(e.webhooks) as p(webhook)
        where e.key = $4 and e.batch = $10 and e.received_at = $5
    )
    select d.precedence, d.scope, d.target, d.role, d.since,
           c.id as webhook,
           case when c.owner_then = c.owner_key then c.owner else c.owner_then end as owner,
           c.deleted as webhook_deleted, c.paused, c.filters, o.enabled, o.deleted,
           p.webhook is not null as planned, coalesce(a.state, 'pending') as state, a.reason,
           case when a.state = 'dropped' then a.detail end as dropped,
           case when p.webhook is not null and h.hold_until > now()
                 and coalesce(a.state, 'pending') in ('pending', 'retrying')
                then h.hold_until end as held_until
    from considered c
    left join webhook_paces h on h.webhook = c.id
    left join owner o on o.name_key = c.owner_then
    left join decides d on d.user_id = o.id
    left join plan p on p.webhook = c.id
    left join lateral (select a.state, a.reason, a.detail from attempts a
                       where a.batch = p.batch and a.webhook = p.webhook and a.received_at = $5
                       order by a.entry desc limit 1) a on true
    order by c.created_at, c.id"
);
