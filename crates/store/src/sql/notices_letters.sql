-- notices_letters
with cause as (
    -- Those of the last notice do not count again.
    select coalesce(max(noticed_at) filter (where resolved_at is null),
                    greatest(max(resolved_at), now() - $1::float8 * interval '1 second')) as since
    from notice_causes where about = 'dead-letters'
), counted as (
    select d.reason from dead_letters d, cause c
    where d.settled_at is null and d.died_at > c.since
    order by d.died_at limit $2
)
select (select max(died_at) from dead_letters where settled_at is null) as newest,
       (select since from cause) as since, c.reason, count(c.reason) as count
from (select) one left join counted c on true
group by c.reason
