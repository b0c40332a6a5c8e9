-- kept_mend
with original as (
    select id, queue, reason, detail from kept_messages
    where id = $1 and settled_at is null and kind = 'dead' and return_at is null
    for update
), mended as (
    insert into kept_messages (id, kind, queue, routing_key, properties, body, reason, detail, digest,
                               source, event_id, event_keys, subjects, users, return_at)
    select $2, 'dead', o.queue, $6::jsonb->>'routing_key', $3, $4, o.reason, o.detail, $5,
           $6->>'source', $6->>'event_id',
           array(select jsonb_array_elements_text($6->'keys')::uuid),
           array(select jsonb_array_elements_text($6->'subjects')),
           array(select jsonb_array_elements_text($6->'users')),
           now() + $7::float8 * interval '1 second'
    from original o
)
update kept_messages k
set settled_at = now(), settled_as = 'replayed', mended_as = $2
from original o where k.id = o.id
