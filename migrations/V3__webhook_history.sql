-- What a webhook was when an event was decided, so that the decision can be told after the webhook
-- has changed. A version holds for the times [begin_at, end_at) of the database's clock, which also
-- stamps events.received_at.

create table webhook_versions (
    webhook   uuid        not null references webhooks on delete cascade,
    begin_at  timestamptz not null, -- from when it was so
    end_at    timestamptz,          -- from when it was not so any more; null for what it is now
    owner_key text        not null, -- whose it was, as compared
    filters   text[]      not null, -- what it asked for; empty: everything
    paused    boolean     not null, -- whether it got nothing
    deleted   boolean     not null, -- whether it was gone
    primary key (webhook, begin_at)
);

-- The clock is read here and not when the transaction began: the nearer to the commit, the fewer
-- events in between are told the wrong version.
create function note_webhook_version() returns trigger language plpgsql as $$
declare
    noted timestamptz := clock_timestamp();
begin
    update webhook_versions set end_at = noted where webhook = new.id and end_at is null;
    insert into webhook_versions (webhook, begin_at, owner_key, filters, paused, deleted)
    values (new.id, noted, new.owner_key, new.filters, new.paused, new.deleted_at is not null)
    on conflict (webhook, begin_at) do update
        set end_at = null, owner_key = excluded.owner_key, filters = excluded.filters,
            paused = excluded.paused, deleted = excluded.deleted;
    return null;
end $$;
create trigger webhooks_begun after insert on webhooks
    for each row execute function note_webhook_version();
create trigger webhooks_altered after update on webhooks
    for each row
    when ((old.owner_key, old.filters, old.paused, old.deleted_at is null)
          is distinct from (new.owner_key, new.filters, new.paused, new.deleted_at is null))
    execute function note_webhook_version();

-- What they were before is not known: taken for what they are, but for the time of their deletion.
insert into webhook_versions (webhook, begin_at, end_at, owner_key, filters, paused, deleted)
select id, created_at, case when deleted_at is not null then greatest(deleted_at, created_at) end,
       owner_key, filters, paused, false
from webhooks;
insert into webhook_versions (webhook, begin_at, owner_key, filters, paused, deleted)
select id, greatest(deleted_at, created_at), owner_key, filters, paused, true
from webhooks where deleted_at is not null
on conflict (webhook, begin_at) do update set end_at = null, deleted = true;

-- People ask for an event by its publisher's id.
create index events_event_id on events (event_id);
