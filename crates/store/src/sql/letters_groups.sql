-- letters_groups
with ends as materialized (
    select coalesce(min(died_at), now()) as first,
           greatest(coalesce(extract(epoch from max(died_at) - min(died_at)), 0)::float8 / {PARTS}, 1)
               as part
    from dead_letters where {conditions}
), counted as materialized (
    select {column} as value, webhook,
           least(floor(extract(epoch from died_at - ends.first)::float8 / ends.part), {PARTS} - 1)::int
               as part,
           count(*) as count, min(died_at) as first, max(died_at) as last
    from dead_letters, ends where {conditions} group by 1, 2, 3
), receiving as materialized (
    select w.id, w.owner, w.deleted_at is not null as is_deleted, w.paused,
           exists (select from directory_versions v, directory_state s
                   where v.kind = 'user' and v.name_key = w.owner_key and v.enabled
                     and v.begin_revision <= s.revision
                     and (v.end_revision is null or v.end_revision > s.revision)) as is_enabled
    from webhooks w where w.id in (select webhook from counted)
)
select c.value::text as value, case when {is_webhook} then max(r.owner) end as owner,
       ends.first as since, ends.part as length, sum(c.count)::bigint as count,
       coalesce(sum(c.count) filter (where c.webhook is not null and coalesce(r.is_deleted, true)), 0)::bigint
           as webhook_deleted,
       coalesce(sum(c.count) filter (where not r.is_deleted and r.paused), 0)::bigint as webhook_paused,
       coalesce(sum(c.count) filter (where not r.is_deleted and not r.paused and not r.is_enabled), 0)::bigint
           as owner_disabled,
       min(c.first) as first, max(c.last) as last,
       array_agg(c.part) as parts, array_agg(c.count) as counts
from counted c cross join ends left join receiving r on r.id = c.webhook
group by c.value, ends.first, ends.part
order by count desc, value
