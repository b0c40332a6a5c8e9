-- address_pause_failing
with webhook as (
    select id, failing_since from webhooks
    where id = $1 and uri = $2 and deleted_at is null and not paused
      and failing_since is not null
), attempt as (
    select a.at, lag(a.at) over (order by a.at) as before
    from webhook w join attempts a
      on a.webhook = w.id and a.since > w.failing_since - interval '31 days'
     and a.at >= w.failing_since - $4::float8 * interval '1 second'
    where a.outcome is not null
), streak as (
    select greatest(w.failing_since,
                    max(a.at) filter (where a.at - a.before
                                            > $4::float8 * interval '1 second'))
               as since
    from webhook w left join attempt a on true
    group by w.failing_since
)
update webhooks w
set failing_since = s.since,
    paused = s.since <= now() - $3::float8 * interval '1 second',
    paused_reason = case when s.since <= now() - $3::float8 * interval '1 second'
                         then $5 else w.paused_reason end,
    updated_at = now()
from streak s
where w.id = $1 and w.uri = $2 and w.deleted_at is null and not w.paused
returning w.paused, w.owner
