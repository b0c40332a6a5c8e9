-- The audit trail: who did what, when, by which door and from where. A change and its entry are
-- written in one transaction, so that none is without the other.

-- Rows are added and never changed: no role of deploy/postgres may update or delete them. Old
-- partitions are dropped as a whole.
create table audit (
    id          bigint      generated always as identity,
    at          timestamptz not null default clock_timestamp(),
    actor       text,
    actor_key   text,
    door        text        not null check (door in ('console', 'api', 'cli', 'system')),
    address     text,
    correlation text,
    action      text        not null,
    object_kind text        not null,
    object_id   text        not null,
    webhook     uuid,
    owner       text,
    owner_key   text,
    before      jsonb,
    after       jsonb,
    note        text,
    primary key (at, id)
) partition by range (at);
comment on table audit is 'who did what, when, by which door and from where';
comment on column audit.id is 'orders the entries of one moment';
comment on column audit.at is 'the time at which the entry was written, in the transaction of the change';
comment on column audit.actor is
    'the name of the user, or of the user of the operating system, as written; null for the service';
comment on column audit.actor_key is 'the same name, folded; null for the service';
comment on column audit.door is 'the way by which the request came in; system for the service itself';
comment on column audit.address is
    'the address of the client, or user@host of a command; null when it is not known';
comment on column audit.correlation is 'the id that a proxy gave the request; null without one';
comment on column audit.action is 'the stable code of the action';
comment on column audit.object_kind is
    'the kind of the object: webhook, webhooks, account, delivery, dead-letter, resend or directory';
comment on column audit.object_id is 'the id of the object; the folded name of an account';
comment on column audit.webhook is 'the webhook that it concerns; null for none';
comment on column audit.owner is 'the owner of the webhook, as written; null for none';
comment on column audit.owner_key is 'the owner''s name, folded: this user may read the entry; null for none';
comment on column audit.before is
    'what changed, as it was before; confidential values are fingerprints; null: nothing was there';
comment on column audit.after is
    'what changed, as it was after; confidential values are fingerprints; null: nothing is left';
comment on column audit.note is 'a remark for a person; null: none';

-- Lists are read in pages, the newest first: all entries, and those that each filter selects.
create index audit_webhook on audit (webhook, at, id) where webhook is not null;
create index audit_owner on audit (owner_key, at, id) where owner_key is not null;
create index audit_actor on audit (actor_key, at, id) where actor_key is not null;
create index audit_object on audit (object_kind, object_id, at, id);
create index audit_action on audit (action, at, id);

-- It takes the rows for which there is no partition, so that a missing one stops nothing.
create table audit_rest partition of audit default;

-- Makes the partitions of this month and of the following ones, up to a number. Returns how many it
-- made. It has the rights of the table's owner, since no process may create tables. While other
-- statements use the table, it waits a second at most, and then fails; it is called again later.
create function make_audit_partitions(months integer) returns integer
language plpgsql security definer set search_path from current set lock_timeout = '1s' as $$
declare
    first timestamptz;
    next  timestamptz;
    name  text;
    made  integer := 0;
begin
    if not pg_try_advisory_xact_lock(hashtextextended('fanfare partitions of audit', 0)) then
        return 0;
    end if;
    for ahead in 0 .. least(months, 120) - 1 loop
        first := (date_trunc('month', now() at time zone 'UTC') + make_interval(months => ahead))
                 at time zone 'UTC';
        next := (date_trunc('month', now() at time zone 'UTC') + make_interval(months => ahead + 1))
                at time zone 'UTC';
        name := 'audit_' || to_char(first at time zone 'UTC', 'YYYY_MM');
        -- Rows that came before their partition stay where they are.
        if to_regclass(name) is null
           and not exists (select from audit_rest r where r.at >= first and r.at < next) then
            execute format('create table %I partition of audit for values from (%L) to (%L)',
                           name, first, next);
            made := made + 1;
        end if;
    end loop;
    return made;
end $$;
revoke all on function make_audit_partitions(integer) from public;
select make_audit_partitions(3);

-- When the name of a former user returns: see V1. The entries say which webhooks were paused and
-- which account was disabled.
create or replace function pause_former_owner() returns trigger
language plpgsql security definer set search_path from current as $$
begin
    with former as (
        select id, owner, owner_key, paused, paused_reason from webhooks
        where owner_key = new.name_key and deleted_at is null
          and created_at <= new.returned_at + interval '5 seconds'
          and paused_reason is distinct from 'owner-recreated'
        for update
    ), changed as (
        update webhooks w
        set paused = true, paused_reason = 'owner-recreated', failing_since = null,
            updated_at = now()
        from former f where w.id = f.id
    )
    insert into audit (door, action, object_kind, object_id, webhook, owner, owner_key, before,
                       after)
    select 'system', 'webhook.paused', 'webhook', replace(id::text, '-', ''), id, owner, owner_key,
           jsonb_build_object('paused', paused, 'pausedReason', paused_reason),
           jsonb_build_object('paused', true, 'pausedReason', 'owner-recreated')
    from former;
    get diagnostics new.paused = row_count;
    delete from sessions
    where coalesce(account_key, user_key) = new.name_key
      and created_at <= new.returned_at + interval '5 seconds';
    with former as (
        select name_key, disabled_at is null as enabled from accounts
        where name_key = new.name_key and created_at <= new.returned_at + interval '5 seconds'
        for update
    ), changed as (
        update accounts a
        set disabled_reason = case when disabled_at is null then 'owner-recreated'
                                   else disabled_reason end,
            disabled_at = coalesce(disabled_at, now()), generation = generation + 1
        from former f where a.name_key = f.name_key
    )
    insert into audit (door, action, object_kind, object_id, before, after)
    select 'system', 'account.disabled', 'account', name_key,
           jsonb_build_object('disabled', false),
           jsonb_build_object('disabled', true, 'disabledReason', 'owner-recreated')
    from former where enabled;
    return new;
end $$;
