-- notices_webhooks
select id, owner, coalesce(host, '') as host, paused, paused_reason, failing_since, secret_ends_at,
       deleted_at is not null as deleted
from webhook_conditions
where deleted_at is null
      and (paused and paused_reason is not null
           or not paused and failing_since is not null
           or secret_ends_at > now())
   or id in (select webhook from notice_causes where resolved_at is null)
order by id
