-- bench_day
-- Fills the partitions of the day that begins at :day with :events events, each to ten webhooks. A table
-- gets its indexes when it is attached, which takes a third of the time of keeping them up to date.
create :persistence table events_:name (like events including defaults including constraints);
create :persistence table attempts_:name (like attempts including defaults including constraints);

insert into events_:name (key, batch, position, source, event_id, event_type, subject, decided_revision,
                          notification, webhooks, received_at, payload_removed)
select key, key, 0, '/stored', event_id,
       (array['tasks.execute', 'reports.upload', 'reports.edit', 'alerts.edit'])[n % 4 + 1],
       (array['tasks/t', 'categories/c/reports/r', 'categories/c/reports/s', 'alerts/a'])[n % 4 + 1]
       || n % 500, 1,
       case when :old then 'null'
            else '{"Action":"tasks","UserAction":"execute","Text":"' || repeat('x', 350) || '"}' end,
       hooks[n % (cardinality(hooks) / 10) * 10 + 1 : n % (cardinality(hooks) / 10) * 10 + 10],
       received_at, case when :old then 'age' end
from (select n, md5(':name-' || n)::uuid as key, ':name-' || n as event_id,
             ':day'::timestamptz + n::float8 * :seconds / :events * interval '1 second' as received_at
      from generate_series(0, :events - 1) n) made
cross join (select array_agg(id order by id) as hooks from webhooks) h
order by received_at;

-- Of a thousand deliveries, thirty fail at first: five of them die, the others arrive later.
insert into attempts_:name (batch, webhook, entry, attempt, tries, since, state, reason, at, duration_ms,
                            outcome, status, error, response_body, next_attempt_at, revision, trace,
                            received_at, payload_removed)
select batch, webhook, entry, entry, entry, received_at, state,
       case when state = 'dead' then 'exhausted' end, at, 5 + dice % 40,
       case when state = 'delivered' then 'delivered' else 'status' end,
       case when state = 'delivered' then 200 else 500 end,
       case when state <> 'delivered' then 'the receiver answered 500' end,
       case when :old then null when state = 'delivered' then 'ok'
            else '{"message":"an internal error occurred"}' end,
       case when state = 'retrying' then at + interval '5 seconds' end, 0, null, received_at,
       case when :old then 'age' end
from (select d.batch, d.webhook, d.received_at, d.dice, e.entry,
             case when d.dice >= 30 then 'delivered' when e.entry = 1 then 'retrying'
                  when d.dice < 5 then 'dead' else 'delivered' end as state,
             d.received_at + (e.entry - 1) * interval '5 seconds' as at
      from (select batch, webhook, received_at,
                   (hashtextextended(batch::text || webhook::text, 0) & 1048575) % 1000 as dice
            from events_:name cross join unnest(webhooks) as p(webhook)) d
      cross join lateral generate_series(1, case when d.dice < 30 then 2 else 1 end) e(entry)) made
order by at;

-- Of a hundred dead deliveries, a person has decided about 98.
insert into discards (batch, webhook, entry)
select batch, webhook, entry from attempts_:name
where state = 'dead' and hashtextextended(batch::text, 1) % 50 <> 0;

alter table events attach partition events_:name
    for values from (':day'::timestamptz) to (':day'::timestamptz + interval '24 hours');
alter table attempts attach partition attempts_:name
    for values from (':day'::timestamptz) to (':day'::timestamptz + interval '24 hours');
