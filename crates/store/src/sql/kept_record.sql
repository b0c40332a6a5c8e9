-- kept_record
insert into kept_messages (id, kind, queue, routing_key, properties, body, reason, detail,
                           digest, source, event_id, event_keys, subjects, users,
                           held_until, return_at)
select m.id, m.kind, m.queue, m.facts->>'routing_key', m.properties, m.body,
       m.facts->>'reason', m.facts->>'detail', m.digest, m.facts->>'source',
       m.facts->>'event_id',
       array(select jsonb_array_elements_text(m.facts->'keys')::uuid),
       array(select jsonb_array_elements_text(m.facts->'subjects')),
       array(select jsonb_array_elements_text(m.facts->'users')),
       now() + m.hold * interval '1 second',
       now() + (m.hold + $9::float8) * interval '1 second'
from unnest($1::uuid[], $2::text[], $3::text[], $4::bytea[], $5::bytea[], $6::uuid[],
            $7::float8[], $8::jsonb[])
     as m(id, kind, queue, properties, body, digest, hold, facts)
-- The order in which all statements lock these rows and their letters.
order by m.id
on conflict (id) do update
set kind = excluded.kind, queue = excluded.queue, routing_key = excluded.routing_key,
    properties = excluded.properties, body = excluded.body, reason = excluded.reason,
    detail = excluded.detail, digest = excluded.digest, source = excluded.source,
    event_id = excluded.event_id, event_keys = excluded.event_keys,
    subjects = excluded.subjects, users = excluded.users, recorded_at = now(),
    held_until = excluded.held_until, return_at = excluded.return_at, returns = 0,
    settled_at = null, settled_as = null
