-- Since when every retry to a webhook failed; null when its last attempt succeeded or nothing
-- failed twice. A webhook that fails for days is paused.
alter table webhooks add column failing_since timestamptz;
-- The most attempts a minute that each worker makes; null for no limit.
alter table webhooks add column rate_limit integer check (rate_limit > 0);
