-- operation_receivers
with recursive webhooks_waiting as (
    -- One look at the index for each webhook.
    (select l.webhook from operation_letters l
     where l.operation = $1 and l.state = 'waiting' and l.webhook is not null
     order by l.webhook limit 1)
    union all
    select (select l.webhook from operation_letters l
            where l.operation = $1 and l.state = 'waiting' and l.webhook > w.webhook
            order by l.webhook limit 1)
    from webhooks_waiting w where w.webhook is not null
)
select w.webhook, d.at is not null as has_delivered,
       (select count(*) from operation_letters l
        where l.operation = $1 and l.webhook = w.webhook and l.state = 'begun') as open,
       (select count(*) from operation_letters l
        where l.operation = $1 and l.webhook = w.webhook and l.state = 'failed'
          and l.attempted_at > coalesce(d.at, '-infinity')) as failed_since
from webhooks_waiting w
cross join lateral (select max(l.attempted_at) as at from operation_letters l
                    where l.operation = $1 and l.webhook = w.webhook
                      and l.state = 'delivered') d
where w.webhook is not null
