-- operation_recover
with asked as (
    select l.position as number, l.batch, l.webhook, l.entry, l.received_at, l.events,
           case when w.id is null or w.deleted_at is not null then 'webhook-deleted'
                when w.paused then 'webhook-paused' end as refused
    from operation_letters l left join webhooks w on w.id = l.webhook
    where l.operation = $1 and l.position = any($2)
), events_of as materialized (
    -- The lock makes a removal of payloads at this moment wait, or is waited for. Of two operations that
    -- recover a delivery, the second one sees here that it is planned, or meets the row of its beginning.
    select e.batch, e.position, e.received_at, e.webhooks, e.payload_removed from events e
    where (e.batch, e.received_at) in (select batch, received_at from asked where refused is null)
      and e.received_at between $3 and $4
    order by e.batch, e.position for update
), last as materialized (
    select a.number, t.entry, t.attempt, t.state from asked a
    cross join lateral (select t.entry, t.attempt, t.state from attempts t
                        where t.batch = a.batch and t.webhook = a.webhook
                          and t.received_at = a.received_at
                          and t.received_at between $3 and $4
                        order by t.entry desc limit 1) t
), missed as (
    select a.*, coalesce(l.attempt, 0) as attempt,
           exists (select from events_of e
                   where e.batch = a.batch and e.received_at = a.received_at
                     and (a.webhook = any(e.webhooks) or e.position = any(a.events))
                     and e.payload_removed is not null) as removed
    from asked a left join last l using (number)
    where a.refused is null
      and exists (select from events_of e
                  where e.batch = a.batch and e.received_at = a.received_at
                    and e.position = any(a.events))
      and case when a.entry = 0
               then l.entry is null
                    and not exists (select from events_of e
                                    where e.batch = a.batch and e.received_at = a.received_at
                                      and a.webhook = any(e.webhooks))
               else l.entry = a.entry and l.state = 'dropped' end
), free as (
    insert into claims as c (batch, webhook, entry, until)
    select batch, webhook, entry + 2, now() from missed where not removed order by batch, webhook
    on conflict (batch, webhook) do update
        set entry = excluded.entry, until = excluded.until, token = null,
            deferred_until = null, alone = false, unrecorded = 0, unrecorded_alone = 0
        where c.entry < excluded.entry - 1
           or (c.entry = excluded.entry - 1
               and ((c.token is null and c.until <= now())
                    or (c.until < now() and pg_postmaster_start_time()
                                            < now() - interval '10 seconds')))
    returning batch, webhook
), begun as (
    -- No revision: the plan's decision counts for the events, and any other is made again.
    insert into attempts (batch, webhook, entry, attempt, tries, since, state, at,
                          revision, received_at)
    select batch, webhook, entry + 1, attempt, $5, now(), 'pending', now(), 0, received_at
    from missed join free using (batch, webhook)
    on conflict do nothing
    returning batch, webhook, entry, received_at
), planned as materialized (
    select join_plan(n.batch, n.position, n.received_at, coalesce(n.webhooks, '{}'))
    from (select o.batch, o.position, o.received_at,
                 array_agg(m.webhook) filter (where o.position = any(m.events)) as webhooks
          from events_of o
          join missed m on m.batch = o.batch and m.received_at = o.received_at
          join begun b on b.batch = m.batch and b.webhook = m.webhook
          group by o.batch, o.position, o.received_at) n
), result as (
    select a.number, a.batch, a.webhook, a.received_at, b.entry + 1 as sequence,
           case when a.refused is not null then a.refused
                when b.batch is not null then null
                when m.number is null then 'settled'
                when m.removed then 'payload-removed'
                else 'attempt-under-way' end as refused
    from asked a
    left join missed m using (number)
    left join begun b on b.batch = a.batch and b.webhook = a.webhook
), noted as (
    update operation_letters l
    set state = case when r.refused is null then 'begun' else 'refused' end, refusal = r.refused
    from result r where l.operation = $1 and l.position = r.number
)
select batch, webhook, received_at, sequence, refused
from result cross join (select count(*) from planned) as joined
order by number
