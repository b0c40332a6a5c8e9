-- operation_discard
with chosen as (
    select l.position, l.letter, l.reason, l.batch, l.webhook, l.entry, l.received_at, d.event_id,
           case when d.id is null then 'settled' end as refused
    from operation_letters l
    left join dead_letters d on d.id = l.letter and d.settled_at is null
    where l.operation = $1 and l.position = any($2)
), deliveries as (
    insert into discards (batch, webhook, entry)
    select batch, webhook, entry from chosen where refused is null and batch is not null
    on conflict do nothing
), events as (
    update kept_messages k
    set settled_at = now(), settled_as = 'discarded', properties = '', body = ''
    from chosen c
    where c.refused is null and c.batch is null and k.id = c.letter::uuid
      and k.settled_at is null
), noted as (
    update operation_letters l
    set state = case when c.refused is null then 'discarded' else 'refused' end,
        refusal = c.refused
    from chosen c where l.operation = $1 and l.position = c.position
)
select c.letter, case when c.batch is null then 'events' else 'deliveries' end as queue, c.reason,
       c.batch, c.webhook, c.entry, c.received_at, c.refused, c.event_id
from chosen c
order by c.position
