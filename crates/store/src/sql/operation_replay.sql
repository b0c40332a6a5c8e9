-- operation_replay
-- The order is that in which all transactions lock deliveries.
select l.position, l.letter, 'deliveries' as queue, l.reason, l.batch, l.webhook, l.entry, l.received_at,
       d.event_id,
       -- A resend concerns what is dead in the ledger, though its letter may be discarded.
       case when d.id is null and o.kind = 'replay' then 'settled'
            when w.id is null or w.deleted_at is not null then 'webhook-deleted'
            when w.paused then 'webhook-paused' end as refused
from operation_letters l join operations o on o.id = l.operation
left join dead_letters d on d.id = l.letter and d.settled_at is null
left join webhooks w on w.id = l.webhook
where l.operation = $1 and l.position = any($2) and l.batch is not null
order by l.batch, l.webhook
