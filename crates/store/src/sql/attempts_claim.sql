-- attempts_claim
with quick as (
    select set_config('synchronous_commit', 'off', true)
), due as (
    select d.idx, d.batch, d.webhook, d.entry,
           exists (select from attempts a where a.batch = d.batch
                   and a.webhook = d.webhook and a.entry >= d.entry
                   and a.received_at = d.received_at
                   and a.received_at between $10 and $11) as past
    from unnest($1::uuid[], $2::uuid[], $3::int[], $9::timestamptz[])
        with ordinality as d(batch, webhook, entry, received_at, idx)
), held as materialized (
    -- Leases that are in the way, whether the lock of their holder is free, and whether it was found
    -- free so long ago that the holder counts as dead.
    select c.batch, c.webhook, c.entry, c.token,
           pg_try_advisory_xact_lock_shared($8, c.holder) as gone,
           exists (select from workers w where w.holder = c.holder
                   and w.dead_from <= now() and w.found_on = server_run()) as dead
    from claims c
    where c.until > now() and c.holder is not null and c.token <> $5::uuid
      and (c.batch, c.webhook, c.entry) in (select batch, webhook, entry from due where not past)
), claimed as (
    insert into claims as c (batch, webhook, entry, until, token, holder)
    select distinct on (batch, webhook) batch, webhook, entry,
           now() + $4::float8 * interval '1 second', $5::uuid, $7::int
    from due, quick where not past
    order by batch, webhook, entry
    on conflict (batch, webhook) do update
        set entry = excluded.entry, until = excluded.until, token = excluded.token,
            holder = excluded.holder, deferred_until = null,
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
                        and pg_postmaster_start_time() < now() - interval '10 seconds')
                    or exists (select from held h
                               where h.batch = c.batch and h.webhook = c.webhook
                                 and h.token = c.token and h.gone and h.dead)))
    returning batch, webhook, entry, unrecorded, unrecorded_alone
)
select d.past,
       c.batch is not null
           and row_number() over (partition by d.batch, d.webhook, d.entry
                                  order by d.idx) = 1 as ours,
       coalesce(c.unrecorded, 0) as unrecorded,
       coalesce(c.unrecorded_alone, 0) as unrecorded_alone,
       c.batch is null and coalesce(h.gone, false) as holder_gone
from due d left join claimed c using (batch, webhook, entry)
     left join held h using (batch, webhook, entry)
order by d.idx
