-- notices_due
with due as (
    select notice from notice_sends
    where channel = $1 and next_try_at <= now()
    order by next_try_at, notice limit $2 for update skip locked
)
update notice_sends s
set tries = s.tries + 1,
    -- A notice that is too old is tried once more.
    next_try_at = case when n.at > now() - $5::float8 * interval '1 second'
        then now() + least($3::float8 * 2::float8 ^ least(s.tries, 20), $4::float8) * interval '1 second' end
from notices n
where s.channel = $1 and s.notice in (select notice from due) and n.id = s.notice
returning n.id, n.cause, n.type, n.webhook, n.owner, n.host, n.at, n.facts
