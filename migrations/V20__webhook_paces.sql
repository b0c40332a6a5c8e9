-- How fast a webhook's receiver and its owner want its notifications, shared by all workers. Only
-- webhooks have a row that were asked to wait, or that have a limit: without one nothing is asked
-- before an attempt.
create table webhook_paces (
    -- The webhook. No foreign key: its row outlives it, and workers may not lock that.
    webhook          uuid        primary key,
    -- No attempt begins before: the receiver asked for that. Null when it never did.
    hold_until       timestamptz,
    -- The seconds between attempts that were learned from refusals. Null without such a pace.
    interval_seconds float8,
    -- When the next slots are, and what the interval was learned from: `core::pace` reads and
    -- writes it.
    learned          jsonb       not null default '{}',
    -- When a slot was last reserved or an answer counted. What is old is removed.
    updated_at       timestamptz not null default now()
) with (fillfactor = 50); -- a row changes with each attempt, and no index with it

-- Workers keep webhooks in memory, with whether they have a pace, and hear of changes through this.
create function notify_webhook_pace() returns trigger language plpgsql as $$
begin
    perform pg_notify('fanfare_webhooks', old.webhook::text);
    return null;
end $$;
create trigger webhook_paces_changed after update on webhook_paces
    for each row
    when (old.hold_until is distinct from new.hold_until
          or (old.interval_seconds is null) <> (new.interval_seconds is null))
    execute function notify_webhook_pace();
create trigger webhook_paces_removed after delete on webhook_paces
    for each row
    when (old.hold_until is not null or old.interval_seconds is not null)
    execute function notify_webhook_pace();

-- The owner's limit counts for the webhook as a whole, however many workers there are.
comment on column webhooks.rate_limit is
    'The most attempts a minute, of all workers together; null for no limit.';
