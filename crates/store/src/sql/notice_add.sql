-- notice_add
with added as (
    insert into notices (id, cause, type, webhook, owner, owner_key, host, facts)
    select $2::uuid, id, $3::text, webhook, owner, owner_key, host, $4::jsonb
    from notice_causes where id = $1
    returning id, owner_key, type
)
insert into notice_sends (notice, channel)
select a.id, c.channel from added a, unnest($5::text[]) as c (channel)
union all
select a.id, c.channel
from added a
join notice_settings t on t.owner_key = a.owner_key and a.type = any(t.types)
cross join lateral (values ('owner-webhook', t.uri), ('owner-mail', t.mail)) as c (channel, address)
where c.address is not null
