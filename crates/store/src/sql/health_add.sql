-- health_add
with made as materialized (
    select webhook, at, outcome, status, (outcome = 'delivered')::int as succeeded
    from attempts where at >= $1 and at < $2 and outcome is not null
), hours as (
    insert into webhook_hours as h (webhook, hour, succeeded, failed)
    select webhook, date_trunc('hour', at, 'UTC'), sum(succeeded), sum(1 - succeeded)
    from made group by 1, 2 order by 1, 2
    on conflict (webhook, hour) do update
        set succeeded = h.succeeded + excluded.succeeded,
            failed = h.failed + excluded.failed
), sums as (
    select webhook, sum(succeeded) as succeeded, sum(1 - succeeded) as failed
    from made group by webhook
), lasts as (
    select distinct on (webhook) webhook, at, outcome, status
    from made order by webhook, at desc
)
insert into webhook_health as h (webhook, succeeded, failed, at, outcome, status)
select webhook, s.succeeded, s.failed, l.at, l.outcome, l.status
from sums s join lasts l using (webhook) order by webhook
on conflict (webhook) do update
    set succeeded = h.succeeded + excluded.succeeded, failed = h.failed + excluded.failed,
        at = excluded.at, outcome = excluded.outcome, status = excluded.status
