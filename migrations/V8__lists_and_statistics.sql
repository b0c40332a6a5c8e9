-- People read the ledger page by page, the newest first, each page from where the last one ended.
-- Each of these indexes has the order of such a list, so that a page costs what it shows and not
-- what there is. (Nothing older than this was ever released; a large table would get them one at
-- a time, concurrently.)

-- Events by time; a batch's share theirs.
drop index events_received;
create index events_received on events (received_at, batch);
-- Of which something may be owed: what is pending or retrying is among these.
create index events_open on events (received_at, batch) where look_at is not null;

-- A webhook's deliveries by time: since is the delivery's own time in the first entry. Statistics
-- read the rest of it without the rows. It is the plan by webhook that an index over
-- events.webhooks would be, paid for by the worker, row by row, and not by the router at once for
-- all webhooks of a wide event.
create index attempts_webhook on attempts (webhook, since, batch, entry)
    include (at, outcome, status);
-- What did not arrive, of all webhooks; few.
create index attempts_ended on attempts (state, since, batch, webhook)
    where state in ('dead', 'dropped');

-- Whose deliveries somebody may see, those of deleted webhooks too.
create index webhooks_owner_ever on webhooks (owner_key);
