-- erase_discard
insert into discards (batch, webhook, entry)
select a.batch, a.webhook, a.entry
from (select distinct * from unnest($1::uuid[], $2::timestamptz[]) t(batch, received_at)) t
join attempts a on a.batch = t.batch and a.received_at = t.received_at
where a.state = 'dead' and a.received_at between $3 and $4
  and not exists (select from attempts l
                  where l.batch = a.batch and l.webhook = a.webhook and l.entry > a.entry
                    and l.received_at = a.received_at)
on conflict do nothing
