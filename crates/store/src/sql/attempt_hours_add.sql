-- attempt_hours_add
with made as (
    select webhook, date_trunc('hour', at, 'UTC') as hour, outcome, count(*) as attempts
    from attempts where at >= $1 and at < $2 and outcome is not null
    group by 1, 2, 3
), counted as (
    select webhook, hour, outcome, attempts from made
    union all
    select '00000000-0000-0000-0000-000000000000', hour, outcome, sum(attempts)
    from made group by hour, outcome
)
insert into attempt_hours as h (webhook, hour, outcome, attempts)
select webhook, hour, outcome, attempts from counted order by webhook, hour, outcome
on conflict (webhook, hour, outcome) do update set attempts = h.attempts + excluded.attempts
