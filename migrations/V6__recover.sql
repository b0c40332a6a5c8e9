-- Recovering what webhooks missed: a third kind of operations, whose deliveries are chosen from the ledger
-- slice by slice. And webhooks whose pauses hold what happens meanwhile.

-- ---------------------------------------------------------------- Operations

alter table operations drop constraint operations_kind_check;
alter table operations add constraint operations_kind_check
    check (kind in ('replay', 'discard', 'recover'));

-- Null for the other kinds.
alter table operations add column webhook uuid;
alter table operations add column owner_key text;
alter table operations add column missed_from timestamptz;
alter table operations add column missed_until timestamptz;
alter table operations add column chosen_to timestamptz;
comment on column operations.webhook is
    'of a recover operation: the webhook whose events it recovers; null for those of the owner, or of all webhooks';
comment on column operations.owner_key is
    'of a recover operation: the owner of the webhooks, folded; null for all owners';
comment on column operations.missed_from is
    'of a recover operation: it concerns what was missed at this time or later …';
comment on column operations.missed_until is '… and before this time';
comment on column operations.chosen_to is
    'of a recover operation: the deliveries of the time before this one are chosen; it has all when this is missed_until';
create index operations_of_webhook on operations (webhook) where webhook is not null;

alter table operation_letters add column events integer[];
comment on column operation_letters.events is
    'of a recovered delivery: the positions in their batch of the events that the webhook gets; null for a dead letter';
-- In a recover operation, `letter` names the delivery, `reason` says why it was missed, and `entry` is the
-- sequence number of its last row, 0 if it has none.

-- Adds webhooks to the plan of an event, and lets the reconciler look at it soon. Routers, which may not
-- change plans otherwise, call it for deliveries that they recover.
create function join_plan(batch uuid, "position" integer, received_at timestamptz, joining uuid[])
returns void language sql security definer as $$
    update events e
    set look_at = now() + interval '20 seconds',
        webhooks = array(select distinct webhook from unnest(e.webhooks || joining) as u(webhook)
                         order by webhook)
    where e.batch = join_plan.batch and e.position = join_plan.position
      and e.received_at = join_plan.received_at
$$;
comment on function join_plan is
    'adds webhooks to the plan of an event, for a recover operation; nothing is taken out';
revoke all on function join_plan(uuid, integer, timestamptz, uuid[]) from public;
do $$
begin
    execute format('alter function join_plan(uuid, integer, timestamptz, uuid[]) '
                   'set search_path = %I, pg_temp', current_schema());
end $$;

-- ---------------------------------------------------------------- Holding

alter table webhooks add column hold boolean not null default false;
alter table webhooks add column held_since timestamptz;
comment on column webhooks.hold is
    'whether what happens while it is paused is recovered when it is resumed; otherwise it is dropped';
comment on column webhooks.held_since is
    'the time since which it is paused and holds; null when it is not';

-- Whoever pauses a webhook, a person or the service, the time is noted here.
create function note_webhook_hold() returns trigger language plpgsql as $$
begin
    new.held_since := case when not new.paused or not new.hold or new.deleted_at is not null then null
                           else coalesce(old.held_since, clock_timestamp()) end;
    return new;
end $$;
create trigger webhooks_hold before update on webhooks
    for each row
    when (new.hold or old.held_since is not null)
    execute function note_webhook_hold();
