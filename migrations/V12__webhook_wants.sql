-- Who wants what: the question that routing asks. By owner and filter, so that an event costs what
-- it matches, and not all webhooks of an owner, of whom a program may have a hundred thousand.

create table webhook_wants (
    owner_key text not null, -- whose it is, as compared
    wants     text not null, -- a filter in its stored form; '*' for everything
    webhook   uuid not null references webhooks on delete cascade,
    primary key (owner_key, wants, webhook)
);

-- Only what may get something is in it: neither paused nor deleted webhooks are.
create function note_webhook_wants() returns trigger language plpgsql as $$
begin
    if tg_op = 'UPDATE' then
        delete from webhook_wants
        where owner_key = old.owner_key and webhook = old.id
          and wants = any(case when old.filters = '{}' then '{*}' else old.filters end);
    end if;
    if new.deleted_at is null and not new.paused then
        insert into webhook_wants (owner_key, wants, webhook)
        select new.owner_key, wants, new.id
        from unnest(case when new.filters = '{}' then '{*}' else new.filters end) as wants
        on conflict do nothing;
    end if;
    return null;
end $$;
create trigger webhooks_want after insert on webhooks
    for each row execute function note_webhook_wants();
create trigger webhooks_want_otherwise after update on webhooks
    for each row
    when ((old.owner_key, old.filters, old.paused, old.deleted_at is null)
          is distinct from (new.owner_key, new.filters, new.paused, new.deleted_at is null))
    execute function note_webhook_wants();

insert into webhook_wants (owner_key, wants, webhook)
select owner_key, wants, id
from webhooks
cross join lateral unnest(case when filters = '{}' then '{*}' else filters end) as wants
where deleted_at is null and not paused
on conflict do nothing;
