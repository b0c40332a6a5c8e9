-- audit_add
insert into audit (actor, actor_key, door, address, correlation, action, object_kind, object_id,
                   webhook, owner, owner_key, before, after, note)
select $1, $2, $3, $4, $5, e.action, e.object_kind, e.object_id, e.webhook,
       coalesce(e.owner, w.owner), coalesce(e.owner_key, w.owner_key), e.before, e.after, e.note
from unnest($6::text[], $7::text[], $8::text[], $9::uuid[], $10::text[], $11::text[],
            $12::jsonb[], $13::jsonb[], $14::text[])
     with ordinality as e(action, object_kind, object_id, webhook, owner, owner_key, before, after,
                          note, position)
left join webhooks w on w.id = e.webhook
order by e.position
