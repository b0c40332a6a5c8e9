-- notices_owners_due
with waiting as (
    -- New ones first, so that those that were tried before do not delay them.
    select s.notice, s.channel, n.owner_key, s.tries, s.next_try_at
    from notice_sends s
    join notices n on n.id = s.notice
    left join notice_settings t on t.owner_key = n.owner_key
    where s.channel in ('owner-webhook', 'owner-mail') and s.next_try_at <= now()
      and (s.channel <> 'owner-mail' or t.mailed_at is null
           or t.mailed_at <= now() - $6::float8 * interval '1 second')
    order by s.tries, s.next_try_at, s.notice limit 1000
), placed as (
    select *, row_number() over (partition by owner_key, channel order by tries, next_try_at, notice) as place,
           min(tries) over (partition by owner_key, channel) as fewest
    from waiting
), ranked as (
    select *, dense_rank() over (order by fewest, owner_key, channel) as rank from placed
), due as (
    select notice, channel from notice_sends
    where (notice, channel) in (select notice, channel from ranked where rank <= $1 and place <= $2)
      and next_try_at <= now()
    for update skip locked
)
update notice_sends s
set tries = s.tries + 1,
    next_try_at = case when n.at > now() - $5::float8 * interval '1 second'
        then now() + least($3::float8 * 2::float8 ^ least(s.tries, 20), $4::float8) * interval '1 second' end
from notices n, due d
where s.notice = d.notice and s.channel = d.channel and n.id = s.notice
returning s.channel, n.owner_key, n.id, n.cause, n.type, n.webhook, n.owner, n.host, n.at, n.facts
