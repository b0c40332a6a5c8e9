-- operation_replay
with chosen as (
    select l.* from operation_letters l
    where l.operation = $1 and l.position = any($2) and l.batch is not null
), known as (
    select c.position, c.letter, c.reason, c.batch, c.webhook, c.entry, c.received_at, a.attempt,
           a.revision,
           case
               when a.batch is null then 'unknown-delivery'
               when exists (select from attempts n
                            where n.batch = c.batch and n.webhook = c.webhook
                              and n.received_at = c.received_at and n.entry > c.entry)
                    or exists (select from discards d
                               where d.batch = c.batch and d.webhook = c.webhook
                                 and d.entry = c.entry) then 'settled'
               when w.id is null or w.deleted_at is not null then 'webhook-deleted'
               when w.paused then 'webhook-paused'
               when exists (select from events e
                            where e.batch = c.batch and e.received_at = c.received_at
                              and c.webhook = any(e.webhooks)
                              and e.payload_removed is not null) then 'payload-removed'
           end as refusal
    from chosen c
    left join attempts a on a.batch = c.batch and a.webhook = c.webhook and a.entry = c.entry
                            and a.received_at = c.received_at
    left join webhooks w on w.id = c.webhook
), begun as (
    insert into attempts (batch, webhook, entry, attempt, tries, since, state, at, revision,
                          received_at)
    select batch, webhook, entry + 1, attempt, $3, now(), 'pending', now(), revision, received_at
    from known where refusal is null
    on conflict do nothing
    returning batch, webhook, received_at
), looked as (
    update events set look_at = now() + interval '20 seconds'
    where (batch, received_at) in (select batch, received_at from begun)
), decided as (
    select k.*, case when k.refusal is null and b.batch is null then 'settled' else k.refusal end
                    as refused
    from known k left join begun b on b.batch = k.batch and b.webhook = k.webhook
), noted as (
    update operation_letters l
    set state = case when d.refused is null then 'begun' else 'refused' end, refusal = d.refused
    from decided d where l.operation = $1 and l.position = d.position
)
select d.letter, 'deliveries' as queue, d.reason, d.batch, d.webhook, d.entry, d.received_at,
       d.refused,
       (select e.event_id from events e
        where e.batch = d.batch and e.received_at = d.received_at and d.webhook = any(e.webhooks)
        order by e.position limit 1) as event_id
from decided d
order by d.position
