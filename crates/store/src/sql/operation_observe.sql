-- operation_observe
with open as (
    select l.position, l.letter, l.batch, l.webhook, l.entry, l.received_at
    from operation_letters l join operations o on o.id = l.operation
    where l.operation = $1 and l.state = 'begun' and l.position > o.observed_to
    order by l.position limit $2
), ended as (
    -- A success says nothing about attempts that were under way when it began. So the end of a failure is
    -- compared with the beginning of a success.
    select o.position, a.reason,
           case a.state when 'dead' then 'failed' else a.state end as state,
           case a.state when 'dead' then a.at + coalesce(a.duration_ms, 0) * interval '1 millisecond'
                        else a.at end as at
    from open o
    cross join lateral (select a.state, a.at, a.duration_ms, a.reason from attempts a
                        where a.batch = o.batch and a.webhook = o.webhook
                          and a.received_at = o.received_at and a.entry > o.entry
                        order by a.entry desc limit 1) a
    where o.batch is not null and a.state in ('delivered', 'dropped', 'dead')
    union all
    -- An event that was routed is settled. One that was refused again waits for a person.
    select o.position, k.reason,
           case when k.id is null or k.settled_at is not null then 'delivered' else 'failed' end, now()
    from open o left join kept_messages k on k.id = o.letter::uuid
    where o.batch is null
      and (k.id is null or k.settled_at is not null or (k.kind = 'dead' and k.return_at is null))
), noted as (
    update operation_letters l
    set state = e.state, attempted_at = e.at,
        refusal = case e.state when 'dropped' then e.reason end
    from ended e where l.operation = $1 and l.position = e.position
    returning l.state
), counted as (
    select count(*) filter (where state = 'delivered') as delivered,
           count(*) filter (where state = 'failed') as failed,
           count(*) filter (where state = 'dropped') as dropped
    from noted
), written as (
    update operations o
    set delivered = o.delivered + c.delivered, failed = o.failed + c.failed,
        dropped = o.dropped + c.dropped,
        -- From the beginning again, once the last one was looked at.
        observed_to = case when (select count(*) from open) < $2 then 0
                           else (select max(position) from open) end
    from counted c where o.id = $1
), newest as (
    select l.batch, l.webhook, l.entry, l.received_at from operation_letters l
    where l.operation = $1 and l.state = 'begun'
      and l.webhook = (select webhook from operations where id = $1)
    order by l.position desc limit $3
), untried as (
    -- An endpoint may defer an attempt for long, which nobody waits for.
    select count(*) as untried from newest n
    cross join lateral (select a.entry, a.since from attempts a
                        where a.batch = n.batch and a.webhook = n.webhook
                          and a.received_at = n.received_at
                        order by a.entry desc limit 1) a
    where a.entry = n.entry + 1 and a.since > now() - interval '30 seconds'
)
select delivered, failed, dropped, untried from counted, untried
