-- reconcile
with looked as (
    (select batch, position, received_at, webhooks, queued_at, first_pending from events
     where look_at is not null and first_pending and look_at <= now()
       and queued_at < $2::timestamptz - interval '2 seconds'
     order by queued_at limit $1)
    union all
    (select batch, position, received_at, webhooks, queued_at, first_pending from events
     where look_at is not null and not first_pending and look_at <= now()
       and queued_at < $3::timestamptz - interval '2 seconds'
     order by queued_at limit $1)
), owed as (
    select l.batch, l.received_at, p.webhook, max(l.queued_at) as queued_at,
           bool_or(l.first_pending) as first_pending
    from looked l cross join unnest(l.webhooks) as p(webhook)
    group by l.batch, l.received_at, p.webhook
), delivery as (
    select o.batch, o.received_at, o.webhook, o.queued_at, o.first_pending, a.entry,
           a.entry is null or a.state in ('pending', 'retrying') as open,
           greatest(case when a.entry is not null
                         then coalesce(a.next_attempt_at, a.at) end,
                    c.deferred_until,
                    case when c.entry > coalesce(a.entry, 0) then c.until end) as due
    from owed o
    left join lateral (select * from attempts a
                       where a.batch = o.batch and a.webhook = o.webhook
                         and a.received_at = o.received_at
                       order by a.entry desc limit 1) a on true
    left join claims c on c.batch = o.batch and c.webhook = o.webhook
), judged as (
    select d.*,
           open and due is null and first_pending as unattempted,
           open and (due is not null or not first_pending)
               and greatest(due, queued_at) < $3::timestamptz - interval '2 seconds'
               as overdue
    from delivery d
), verdict as (
    select batch, received_at, bool_or(open) as owing, bool_or(unattempted) as unattempted,
           coalesce(bool_or(unattempted or overdue), false) as lost,
           min(greatest(due, queued_at)) filter (where open) as due
    from judged group by batch, received_at
), marked as (
    update events e
    set first_pending = v.unattempted,
        queued_at = case when v.owing and not v.lost then v.due else e.queued_at end,
        look_at = case when not v.owing then null
                       when v.lost then now() + interval '10 seconds'
                       else greatest(v.due, now()) + interval '20 seconds' end
    from looked l join verdict v using (batch, received_at)
    where e.batch = l.batch and e.position = l.position and e.received_at = l.received_at
    returning e.look_at
)
select s.batch, s.received_at, s.webhook, s.entry, s.unattempted, now() as now,
       (select count(*) from looked) as checked,
       (select count(*) from marked where look_at is null) as settled
from (select 1) one
left join judged s on s.unattempted or s.overdue
