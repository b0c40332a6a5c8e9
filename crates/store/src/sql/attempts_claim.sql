-- attempts_claim
with quick as (
    select set_config('synchronous_commit', 'off', true)
), due as (
    select d.idx, d.batch, d.webhook, d.entry,
           exists (select from attempts a where a.batch = d.batch
                   and a.webhook = d.webhook and a.entry >= d.entry) as past
    from unnest($1::uuid[], $2::uuid[], $3::int[])
        with ordinality as d(batch, webhook, entry, idx)
), claimed as (
    insert into claims as c (batch, webhook, entry, until, token)
    select distinct on (batch, webhook) batch, webhook, entry,
           now() + $4::float8 * interval '1 second', $5::uuid
    from due, quick where not past
    order by batch, webhook, entry
    on conflict (batch, webhook) do update
        set entry = excluded.entry, until = excluded.until, token = excluded.token,
            deferred_until = null,
            unrecorded = case
                when c.entry < excluded.entry then 0
                when c.token <> excluded.token then c.unrecorded + 1
                else c.unrecorded end,
            unrecorded_alone = case
                when c.entry < excluded.entry then 0
                when c.token <> excluded.token and c.alone then c.unrecorded_alone + 1
                else c.unrecorded_alone end,
            alone = false
        where c.entry < excluded.entry
           or (c.entry = excluded.entry
               and (c.token = excluded.token
                    or (c.token is null and c.until <= now())
                    or ($6 and c.until < now()
                        and pg_postmaster_start_time() < now() - interval '10 seconds')))
    returning batch, webhook, entry, unrecorded, unrecorded_alone
)
select d.past,
       c.batch is not null
           and row_number() over (partition by d.batch, d.webhook, d.entry
                                  order by d.idx) = 1 as ours,
       coalesce(c.unrecorded, 0) as unrecorded,
       coalesce(c.unrecorded_alone, 0) as unrecorded_alone
from due d left join claimed c using (batch, webhook, entry)
order by d.idx
