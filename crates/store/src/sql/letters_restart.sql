-- letters_restart
with asked as (
    select * from unnest($1::uuid[], $2::uuid[], $3::int[], $4::timestamptz[])
        as a(batch, webhook, died, received_at)
), last as materialized (
    select l.*, a.died from asked a
    cross join lateral (select * from attempts t
                        where t.batch = a.batch and t.webhook = a.webhook
                          and t.received_at = a.received_at
                          and t.received_at between $5 and $6
                        order by t.entry desc limit 1) l
), events_of as materialized (
    -- The lock makes a removal of payloads at this moment wait, or is waited for.
    select e.batch, e.webhooks, e.payload_removed from events e
    where (e.batch, e.received_at) in (select batch, received_at from last where state = 'dead')
      and e.received_at between $5 and $6
    order by e.batch, e.position for update
), wanted as (
    select l.* from last l
    where l.state = 'dead' and l.entry = l.died
      and not exists (select from events_of e where e.batch = l.batch
                      and l.webhook = any(e.webhooks) and e.payload_removed is not null)
), free as (
    insert into claims as c (batch, webhook, entry, until)
    select batch, webhook, entry + 2, now() from wanted order by batch, webhook
    on conflict (batch, webhook) do update
        set entry = excluded.entry, until = excluded.until, token = null,
            deferred_until = null, alone = false, unrecorded = 0, unrecorded_alone = 0
        where c.entry < excluded.entry - 1
           or (c.entry = excluded.entry - 1
               and ((c.token is null and c.until <= now())
                    or (c.until < now() and pg_postmaster_start_time()
                                            < now() - interval '10 seconds')))
    returning batch, webhook
), begun as (
    insert into attempts (batch, webhook, entry, attempt, tries, since, state, at,
                          revision, received_at)
    select batch, webhook, entry + 1, attempt, $7, now(), 'pending', now(), revision, received_at
    from wanted join free using (batch, webhook)
    on conflict do nothing
    returning batch, webhook, entry, received_at
), looked as (
    update events set look_at = now() + interval '20 seconds'
    where (batch, received_at) in (select batch, received_at from begun)
      and received_at between $5 and $6
)
select a.batch, a.webhook, a.died, b.entry + 1 as entry,
       exists (select from wanted w where w.batch = a.batch and w.webhook = a.webhook) as is_wanted,
       exists (select from events_of e where e.batch = a.batch and a.webhook = any(e.webhooks)
                                         and e.payload_removed is not null) as is_removed,
       l.batch is not null as is_known
from asked a
left join last l on l.batch = a.batch and l.webhook = a.webhook
left join begun b on b.batch = a.batch and b.webhook = a.webhook
