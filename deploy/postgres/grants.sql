-- What each role may do with Fanfare's tables, and nothing else: `fanfare migrate` runs this after
-- the migrations, if the roles of roles.sql exist. Each block first takes back what an earlier
-- version gave.
do $grants$
declare
    partition regclass;
begin

if exists (select from pg_roles where rolname = 'fanfare_router') then
    revoke all on all tables in schema public from fanfare_router;
    grant usage on schema public to fanfare_router;
    grant select on refinery_schema_history to fanfare_router;
    -- Plans: which webhooks are notified of an event. Not where, nor with which secrets.
    grant select on webhook_wants to fanfare_router;
    grant select, insert, update (look_at, queued_at, first_pending) on events
        to fanfare_router;
    -- Repeated events are recognised by their keys.
    grant select, insert, update (batch, received_at) on event_keys to fanfare_router;
    -- It makes and drops the partitions of the ledger, with the rights of the tables' owner.
    grant select on ledger_partitions, audit_partitions, payload_progress to fanfare_router;
    grant execute
        on function make_partitions(integer), drop_day(timestamptz), drop_week(timestamptz),
           sweep_kept(timestamptz, integer), remove_payloads(timestamptz, integer),
           drop_audit_month(timestamptz)
        to fanfare_router;
    -- What it keeps in the broker: dead events, and events that wait for their revision.
    grant select, insert, update, delete on kept_messages, lost_queues to fanfare_router;
    -- The index of dead letters, which it compares with the queues. What dies, triggers write there.
    grant select, insert, update, delete on dead_letters to fanfare_router;
    grant select, update (walked_until) on dead_letters_state to fanfare_router;
    grant select on queue_progress, workers to fanfare_router;
    -- It notes which workers have died.
    grant update (dead_from, found_on) on workers to fanfare_router;
    -- The reconciler compares them with what was done.
    grant select on attempts to fanfare_router;
    grant select, insert, update, delete on claims to fanfare_router;
    -- It removes what is old.
    grant select, delete on webhook_paces to fanfare_router;
    -- The directory is its to keep.
    grant select, insert, update, delete
        on directory_versions, directory_grants, directory_members, directory_snapshots,
           directory_gaps, directory_refusals, directory_departures
        to fanfare_router;
    grant select, update on directory_state to fanfare_router;
    -- Bulk operations: it begins deliveries again, or discards their letters, with an entry of the audit
    -- trail for each. It chooses the deliveries that are recovered, by the filters of their webhooks.
    grant select, update, delete on operations, operation_letters to fanfare_router;
    grant insert on operation_letters to fanfare_router;
    -- A webhook that recovers an event joins its plan, and none leaves it.
    grant execute on function join_plan(uuid, integer, timestamptz, uuid[]) to fanfare_router;
    grant select (id, owner, owner_key, filters, paused, hold, deleted_at) on webhooks
        to fanfare_router;
    grant insert on attempts to fanfare_router;
    grant select, insert on discards to fanfare_router;
    grant insert on audit to fanfare_router;
    -- Notices: it sees neither addresses nor secrets of webhooks.
    grant select on webhook_conditions to fanfare_router;
    grant select, update on notices_state to fanfare_router;
    grant select, insert, update, delete on notice_causes, notices, notice_sends
        to fanfare_router;
    -- It sends notices to the addresses that owners chose.
    grant select, update (mailed_at) on notice_settings to fanfare_router;
    -- It reports that it runs, and removes processes that ended long ago.
    grant select, insert, update, delete on processes to fanfare_router;
    -- The months of the audit trail. What it pauses, a trigger writes there.
    grant execute on function make_audit_partitions(integer) to fanfare_router;
end if;

if exists (select from pg_roles where rolname = 'fanfare_worker') then
    revoke all on all tables in schema public from fanfare_worker;
    grant usage on schema public to fanfare_worker;
    grant select on refinery_schema_history to fanfare_worker;
    grant select on webhooks to fanfare_worker;
    -- It pauses what is gone or fails for days; triggers write that down.
    grant update (paused, paused_reason, failing_since, updated_at) on webhooks to fanfare_worker;
    grant select, insert, update on webhook_versions to fanfare_worker;
    grant select, insert, delete on webhook_wants to fanfare_worker;
    grant select on events, event_keys to fanfare_worker;
    grant select, insert on attempts to fanfare_worker;
    grant select, insert, update on claims to fanfare_worker;
    -- What receivers ask for, and the slots of those that have a pace.
    grant select, insert, update, delete on webhook_paces to fanfare_worker;
    grant select, insert, update on queue_progress to fanfare_worker;
    grant select, insert, update, delete on workers, processes to fanfare_worker;
    grant select
        on directory_versions, directory_grants, directory_members, directory_state
        to fanfare_worker;
    -- The audit trail says which webhooks it paused, and why.
    grant insert on audit to fanfare_worker;
end if;

if exists (select from pg_roles where rolname = 'fanfare_console') then
    revoke all on all tables in schema public from fanfare_console;
    grant usage on schema public to fanfare_console;
    grant select on refinery_schema_history to fanfare_console;
    grant select, insert on webhooks to fanfare_console;
    grant update (uri, description, paused, paused_reason, filters, properties, sealed,
                  failing_since, rate_limit, hold, secret_ends_at, updated_at, deleted_at)
        on webhooks to fanfare_console;
    grant select, insert, update on webhook_versions to fanfare_console;
    grant select, insert, delete on webhook_wants to fanfare_console;
    -- A deleted webhook, and one with a new address, has no pace.
    grant select, delete on webhook_paces to fanfare_console;
    -- Accounts, their passwords and their roles are made by the commands, not by the console.
    grant select, update (disabled_at, disabled_reason, generation) on accounts to fanfare_console;
    grant select, insert, delete on sessions to fanfare_console;
    -- Publishers too are made and revoked by the commands.
    grant select, update (last_used_at) on publishers to fanfare_console;
    -- Test events, and deliveries that a person begins again.
    grant select, insert, update (look_at) on events to fanfare_console;
    grant select, insert on event_keys, attempts to fanfare_console;
    -- Dead letters that an administrator discards.
    grant insert on discards to fanfare_console;
    grant select, insert, update on dead_letters to fanfare_console;
    grant select, update (walked_until) on dead_letters_state to fanfare_console;
    -- Dead events that an administrator replays or discards.
    grant select, update (return_at, returns, settled_at, settled_as, properties, body, mended_as)
        on kept_messages to fanfare_console;
    -- Dead events that an administrator corrects.
    grant insert on kept_messages to fanfare_console;
    grant select, insert, update on claims to fanfare_console;
    -- Consoles of the version before ask for resends here.
    grant select, insert, update on resends to fanfare_console;
    -- Bulk operations on dead letters, and restoring what they discarded.
    grant select, insert, update on operations, operation_letters to fanfare_console;
    grant select, delete on discards to fanfare_console;
    -- The sizes of the ledger's partitions.
    grant select on ledger_partitions to fanfare_console;
    -- Which workers live, and which processes run: it is one of them.
    grant select on workers to fanfare_console;
    grant select, insert, update, delete on processes to fanfare_console;
    -- How webhooks do, for the grid.
    grant select, update on health_state to fanfare_console;
    grant select, insert, update, delete on webhook_hours, webhook_health to fanfare_console;
    -- Attempts by hour, for statistics.
    grant select, update on attempt_hours_state to fanfare_console;
    grant select, insert, update, delete on attempt_hours to fanfare_console;
    grant select
        on directory_versions, directory_grants, directory_members, directory_state,
           directory_snapshots, directory_gaps, directory_refusals, directory_departures
        to fanfare_console;
    grant select on notices, notice_sends to fanfare_console;
    -- Owners choose the channels of notices about their own webhooks.
    grant select, insert, update, delete on notice_settings to fanfare_console;
    -- Entries of the audit trail are added, and never changed.
    grant select, insert on audit to fanfare_console;
end if;

if exists (select from pg_roles where rolname = 'fanfare_admin') then
    revoke all on all tables in schema public from fanfare_admin;
    grant usage on schema public to fanfare_admin;
    grant select, insert, update, delete on all tables in schema public to fanfare_admin;
    revoke insert, update, delete on refinery_schema_history from fanfare_admin;
    grant execute
        on function make_partitions(integer), drop_day(timestamptz), drop_week(timestamptz),
           sweep_kept(timestamptz, integer), remove_payloads(timestamptz, integer),
           drop_audit_month(timestamptz), join_plan(uuid, integer, timestamptz, uuid[])
        to fanfare_admin;
    -- Not even they change the audit trail. Its partitions are tables, too.
    revoke update, delete on audit from fanfare_admin;
    for partition in select inhrelid::regclass from pg_inherits where inhparent = 'audit'::regclass
    loop
        execute format('revoke all on %s from fanfare_admin', partition);
    end loop;
end if;

end
$grants$;
