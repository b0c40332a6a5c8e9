-- erase_drop
-- The next row of each delivery that has not ended. An attempt that is under way may write that row
-- first; then a worker finds at the next one that there is nothing to send.
insert into attempts (batch, webhook, entry, attempt, tries, since, state, reason, at, revision,
                      detail, trace, received_at)
select t.batch, t.webhook, coalesce(l.entry, 0) + 1, coalesce(l.attempt, 0), coalesce(l.tries, 0),
       coalesce(l.since, t.received_at), 'dropped', 'payload-removed', now(),
       coalesce(l.revision, 0), 'its payload was removed', null, t.received_at
from (select distinct e.batch, e.received_at, p.webhook
      from unnest($1::uuid[], $2::int[], $3::timestamptz[]) k(batch, position, received_at)
      join events e using (batch, position, received_at)
      cross join unnest(e.webhooks) as p(webhook)
      where e.look_at is not null and e.received_at between $4 and $5) t
left join lateral (select * from attempts a
                   where a.batch = t.batch and a.webhook = t.webhook
                     and a.received_at = t.received_at and a.received_at between $4 and $5
                   order by a.entry desc limit 1) l on true
where l.state is null or l.state in ('pending', 'retrying')
on conflict do nothing
