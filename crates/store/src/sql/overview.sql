-- overview
select (select received_at from events where look_at is not null
        order by received_at, batch limit 1) as oldest,
       (select count(*) from webhook_paces where hold_until > now()) as held,
       w.failing, w.paused, d.dead_events, d.dead_deliveries, d.died_lately,
       (select count(*) from workers
        where seen_at > now() - $1::float8 * interval '1 second') as workers
from (select count(*) filter (where failing_since is not null and not paused) as failing,
             count(*) filter (where paused and paused_reason is not null) as paused
      from webhooks where deleted_at is null) w,
     (select count(*) filter (where kind = 'events') as dead_events,
             count(*) filter (where kind = 'deliveries') as dead_deliveries,
             count(*) filter (where died_at > now() - interval '1 hour') as died_lately
      from dead_letters where settled_at is null) d
