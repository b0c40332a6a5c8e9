-- operation_route
with chosen as (
    select l.position, l.letter, l.reason from operation_letters l
    where l.operation = $1 and l.position = any($2) and l.batch is null
), begun as (
    update kept_messages k
    set return_at = now() + $3::float8 * interval '1 second', returns = 0
    from chosen c
    where k.id = c.letter::uuid and k.kind = 'dead' and k.settled_at is null
      and k.return_at is null
    returning c.position, k.id, k.kind, k.event_id, k.properties, k.body
), noted as (
    update operation_letters l
    set state = case when b.id is null then 'refused' else 'begun' end,
        refusal = case when b.id is null then 'settled' end
    from chosen c left join begun b using (position)
    where l.operation = $1 and l.position = c.position
)
select c.letter, 'events' as queue, c.reason, null::uuid as batch, null::uuid as webhook,
       null::integer as entry, null::timestamptz as received_at,
       case when b.id is null then 'settled' end as refused, b.event_id, b.id, b.kind, b.properties,
       b.body
from chosen c left join begun b using (position)
order by c.position
