-- erasure_candidates
select e.received_at, e.batch, e.position,
       case when $5::text is null then e.notification end as notification,
       case when e.look_at is null then 0
            else (select count(*) from unnest(e.webhooks) as p(webhook)
                  where coalesce((select a.state from attempts a
                                  where a.batch = e.batch and a.webhook = p.webhook
                                    and a.received_at = e.received_at
                                  order by a.entry desc limit 1), 'pending')
                        in ('pending', 'retrying')) end as owed
from events e
where e.received_at >= $1 and e.received_at < $4
  and (e.received_at, e.batch, e.position) > ($1, $2, $3)
  and e.payload_removed is distinct from 'erased'
  and case when $5 is not null then e.subject = $5 or starts_with(e.subject, $5 || '/')
           -- Text with escapes can only be compared when it is parsed.
           else e.payload_removed is null
                and ($6::text is null or strpos(upper(e.notification collate "C"), $6) > 0
                     or strpos(e.notification, '\') > 0) end
order by e.received_at, e.batch, e.position
limit $7
