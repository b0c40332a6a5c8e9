//! The statements about what webhooks missed.

use crate::access::rule::{holds, is_administrator};

/// The condition that a version of a user may read the resource that `a` asks about, in its arrays
/// `scopes` and `targets`, by the user's own grants or those of a role, as of a revision.
macro_rules! may_read {
    ($user:literal, $revision:literal) => {
        concat!(
            "(",
            is_administrator!($user, "$10"),
            " or exists (
                select from (select ",
            $user,
            ".id
                      union all
                      select r.id from directory_members m
                      join directory_versions r on r.kind = 'role' and r.name_key = m.role_key
                          and ",
            holds!("r", $revision),
            "
                      where m.version_id = ",
            $user,
            ".id) holder
                cross join unnest(a.scopes, a.targets) as q(scope, target)
                join directory_grants g on g.version_id = holder.id
                    and g.scope = q.scope and g.target = q.target))"
        )
    };
}

/// The deliveries of a slice of time, each with its verdict. Parameters: $1 and $2 the slice, $3 the
/// webhook, $4 the owner's key, $5 the source of test events, $6 the beginning of the whole time, $7 to $9
/// subjects with their scopes and targets, $10 the administrators' role.
macro_rules! judged {
    () => {
        concat!(
            "with hook as materialized (
    select w.id, w.owner_key, w.filters, w.paused and not w.hold as drops
    from webhooks w
    where w.deleted_at is null and ($3::uuid is null or w.id = $3)
      and ($4::text is null or w.owner_key = $4)
), received as materialized (
    select e.batch, e.position, e.received_at, e.event_type, e.subject, e.decided_revision,
           e.webhooks, e.payload_removed is not null as removed
    from events e
    where e.received_at >= $1 and e.received_at < $2 and e.source <> $5
), dropped as materialized (
    -- Their events were received before, and their webhook was paused meanwhile, or the owner disabled.
    select distinct a.batch, a.webhook, a.received_at
    from attempts a join hook h on h.id = a.webhook
    where a.state = 'dropped' and a.state in ('dead', 'dropped')
      and a.at >= $1 and a.at < $2 and a.received_at < $6
), matched as materialized (
    select c.*, c.webhook = any(c.webhooks) as planned,
           substr(lower(c.event_type), strpos(c.event_type, '.') + 1) = 'delete' as deletes
    from (
        select r.*, h.id as webhook, h.owner_key, h.filters, h.drops
        from received r cross join hook h
        union all
        select e.batch, e.position, e.received_at, e.event_type, e.subject, e.decided_revision,
               e.webhooks, e.payload_removed is not null, h.id, h.owner_key, h.filters, h.drops
        from dropped d
        join hook h on h.id = d.webhook
        join events e on e.batch = d.batch and e.received_at = d.received_at
        where e.source <> $5 and d.webhook = any(e.webhooks)
    ) c
    where c.filters = '{}'
       or c.filters && array['*', split_part(lower(c.event_type collate \"C\"), '.', 1),
                             lower(c.event_type collate \"C\")]
), scopes_of as materialized (
    select subject, array_agg(scope) as scopes, array_agg(target) as targets
    from unnest($7::text[], $8::text[], $9::text[]) as q(subject, scope, target)
    group by subject
), asked as materialized (
    select m.*, s.scopes, s.targets
    from (select distinct owner_key, subject, decided_revision from matched) m
    join scopes_of s using (subject)
), may as materialized (
    select a.owner_key, a.subject, a.decided_revision, a.decided_revision >= s.oldest as kept,
           -- What a former user of the name could read says nothing about the present one.
           exists (select from directory_departures x
                   where x.name_key = a.owner_key and x.returned_revision > a.decided_revision)
               as was_another,
           exists (select from directory_versions u
                   where u.kind = 'user' and u.name_key = a.owner_key and u.enabled
                     and ",
            holds!("u", "s.revision"),
            ") as enabled,
           exists (select from directory_versions u
                   where u.kind = 'user' and u.name_key = a.owner_key and ",
            holds!("u", "a.decided_revision"),
            "
                     and ",
            may_read!("u", "a.decided_revision"),
            ") as could_read,
           exists (select from directory_versions u
                   where u.kind = 'user' and u.name_key = a.owner_key and u.enabled and ",
            holds!("u", "s.revision"),
            "
                     and ",
            may_read!("u", "s.revision"),
            ") as may_read
    from asked a cross join directory_state s
), event_judged as (
    select m.*, m.planned or (y.kept and y.could_read) as was_allowed, y.was_another,
           not m.planned and not y.kept as is_unknown,
           case when m.deletes then y.enabled else y.may_read end as is_allowed
    from matched m join may y using (owner_key, subject, decided_revision)
), delivery as (
    select batch, webhook, received_at, bool_or(drops) as drops, bool_or(planned) as planned,
           bool_or(removed) as removed, bool_or(was_allowed and not was_another) as was_allowed,
           bool_or(is_unknown and not was_another) as is_unknown,
           array_agg(position order by position)
               filter (where was_allowed and not was_another and is_allowed) as events
    from event_judged group by batch, webhook, received_at
), judged as (
    select d.batch, d.webhook, d.received_at, d.events, coalesce(l.entry, 0) as entry, l.reason,
           case when l.state = 'delivered' then 'already-delivered'
                when l.state in ('pending', 'retrying') or (l.state is null and d.planned)
                then 'pending'
                when l.state = 'dead' then 'dead'
                when l.state = 'dropped' and l.reason = 'shadow' then 'shadow'
                when d.removed then 'payload-removed'
                when not d.was_allowed and d.is_unknown then 'access-unknown'
                when not d.was_allowed then 'owner-could-not-read'
                when d.events is null then 'owner-may-not-read'
                when d.drops then 'webhook-paused'
                else 'send' end as verdict
    from delivery d
    left join lateral (select a.entry, a.state, a.reason from attempts a
                       where a.batch = d.batch and a.webhook = d.webhook
                         and a.received_at = d.received_at
                       order by a.entry desc limit 1) l on true
)
",
        )
    };
}

/// Counts them by verdict. What the filters don't match is counted and not read.
pub(super) const PLAN: &str = concat!(
    "-- recover_plan
    ",
    judged!(),
    "
    select verdict, count(*) as deliveries from judged group by verdict
    union all
    select 'filter', (select count(distinct batch) from received) * (select count(*) from hook)
                     - (select count(*) from judged where received_at >= $1)"
);

/// Chooses them for an operation. Further parameters: $11 the operation, $12 the last position so far.
/// What is not chosen is counted by verdict.
pub(super) const CHOOSE: &str = concat!(
    "-- recover_choose
    ",
    judged!(),
    ", chosen as (
        insert into operation_letters (operation, position, letter, batch, webhook, entry,
                                       received_at, reason, events)
        select $11::uuid, $12::bigint + row_number() over (order by received_at, batch, webhook),
               replace(concat(batch, webhook), '-', ''), batch, webhook, entry, received_at,
               coalesce(reason, 'not-planned'), events
        from judged where verdict = 'send'
    )
    select verdict, count(*) as deliveries from judged group by verdict"
);

/// The resources of a slice. Parameters: $1 to $6 as above.
pub(super) const SUBJECTS: &str = "-- recover_subjects
    select e.subject from events e
    where e.received_at >= $1 and e.received_at < $2 and e.source <> $5
    union
    select e.subject
    from webhooks w
    join attempts a on a.webhook = w.id and a.state = 'dropped' and a.state in ('dead', 'dropped')
        and a.at >= $1 and a.at < $2 and a.received_at < $6
    join events e on e.batch = a.batch and e.received_at = a.received_at
    where w.deleted_at is null and ($3::uuid is null or w.id = $3)
      and ($4::text is null or w.owner_key = $4)";

/// The end of the next slice: fewer events when many webhooks are asked for. Parameters: $1 and $2 the
/// time that is left, $3 the webhook, $4 the owner's key, $5 the most deliveries to judge.
pub(super) const SLICE: &str = "-- recover_slice
    select coalesce((
        select e.received_at from events e
        where e.received_at > $1 and e.received_at < $2
        order by e.received_at
        offset (select greatest(20, $5::bigint / greatest(count(*), 1)) from webhooks w
                where w.deleted_at is null and ($3::uuid is null or w.id = $3)
                  and ($4::text is null or w.owner_key = $4))
        limit 1), $2) as until";
