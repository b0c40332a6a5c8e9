-- delivery_restart
with last as (
    select * from attempts where batch = $1 and webhook = $2 and received_at = $4
    order by entry desc limit 1
), wanted_at_all as (
    select * from last where state <> 'pending' and (not $3 or state = 'dead')
), events_of as materialized (
    -- The lock makes a removal of payloads at this moment wait, or is waited for.
    select e.payload_removed from events e
    where e.batch = $1 and $2 = any(e.webhooks) and e.received_at = $4
      and exists (select from wanted_at_all)
    for update
), wanted as (
    select * from wanted_at_all
    where not exists (select from events_of where payload_removed is not null)
), free as (
    insert into claims as c (batch, webhook, entry, until)
    select batch, webhook, entry + 2, now() from wanted
    on conflict (batch, webhook) do update
        set entry = excluded.entry, until = excluded.until, token = null,
            deferred_until = null, alone = false, unrecorded = 0, unrecorded_alone = 0
        where c.entry < excluded.entry - 1
           or (c.entry = excluded.entry - 1
               and ((c.token is null and c.until <= now())
                    or (c.until < now() and pg_postmaster_start_time()
                                            < now() - interval '10 seconds')))
    returning batch
), begun as (
    insert into attempts (batch, webhook, entry, attempt, tries, since, state, at,
                          revision, received_at)
    select batch, webhook, entry + 1, attempt, 0, now(), 'pending', now(), revision, received_at
    from wanted join free using (batch)
    on conflict do nothing
    returning batch, entry
), looked as (
    update events set look_at = now() + interval '20 seconds'
    where batch = (select batch from begun) and received_at = $4
)
select (select entry + 1 from begun) as entry, exists (select from wanted) as is_wanted,
       exists (select from events_of where payload_removed is not null) as is_removed,
       exists (select from last) as is_known, (select state from last) as state_before
