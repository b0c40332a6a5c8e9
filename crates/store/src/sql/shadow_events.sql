-- shadow_events
-- Parameters: $1 webhooks; $2 to $4 the position after which the page begins; $5 the time at which all
-- ends; $6 the number of events.
with page as materialized (
    select e.key, e.event_id, e.received_at, e.batch, e.position, e.notification, e.webhooks
    from events e
    where e.received_at >= $2 and e.received_at < $5
      and (e.received_at, e.batch, e.position) > ($2, $3, $4)
    order by e.received_at, e.batch, e.position
    limit $6
)
select e.key, e.event_id, e.received_at, e.batch, e.position, e.notification, p.webhook,
       coalesce(a.state, 'pending') as state, a.reason, a.detail
from page e
left join lateral (select w.webhook from unnest(e.webhooks) as w(webhook)
                   where w.webhook = any($1)) p on true
left join lateral (select a.state, a.reason, a.detail from attempts a
                   where a.batch = e.batch and a.webhook = p.webhook
                     and a.received_at = e.received_at
                   order by a.entry desc limit 1) a on true
order by e.received_at, e.batch, e.position, p.webhook
