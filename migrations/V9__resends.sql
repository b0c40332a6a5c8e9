-- Resends are a fourth kind of operations. Their deliveries are chosen from the ledger step by step.
alter table operations drop constraint operations_kind_check;
alter table operations add constraint operations_kind_check
    check (kind in ('replay', 'discard', 'recover', 'resend'));

comment on column operations.webhook is
    'of a recover operation: the webhook whose events it recovers; null for those of the owner, or of all webhooks. Of a resend: the webhook whose dead deliveries are attempted again';
comment on column operations.missed_from is
    'of a recover operation: it concerns what was missed at this time or later … Of a resend: it concerns deliveries whose last series of attempts began at this time or later …';
comment on column operations.missed_until is '… and before this time';
comment on column operations.chosen_to is
    'of a recover operation or a resend: the deliveries of the time before this one are chosen; it has all when this is missed_until';

-- A webhook has one open resend at a time, so a second request returns the first.
create unique index operations_open_resend on operations (webhook)
    where kind = 'resend' and state in ('running', 'paused');

-- The rest of a resend of the version before as an operation with the same id. Its row in `resends` is
-- ended here: no console of that version works on it any more.
create function adopt_resend(adopted resends) returns void language sql security definer as $$
    insert into operations (id, kind, filter, canary, asked_by, door, asked_at, total, webhook,
                            missed_from, missed_until, chosen_to)
    values (adopted.id, 'resend',
            jsonb_strip_nulls(jsonb_build_object(
                'webhook', replace(adopted.webhook::text, '-', ''),
                'since', case when adopted.since > 'epoch' then
                    (to_json(adopted.since at time zone 'utc') #>> '{}') || '+00:00' end)),
            false, adopted.asked_by, 'system', adopted.asked_at,
            greatest(adopted.total - adopted.begun, 0), adopted.webhook,
            adopted.since, adopted.asked_at, adopted.since)
    on conflict do nothing
$$;
comment on function adopt_resend is 'makes an operation of a request of the version before';
revoke all on function adopt_resend(resends) from public;

create function adopt_new_resend() returns trigger language plpgsql security definer as $$
begin
    if new.ended_at is null then
        perform adopt_resend(new);
        new.ended_at := now();
        new.ended := 'done';
    end if;
    return new;
end $$;
comment on function adopt_new_resend is
    'makes an operation of a request that a console of the version before inserts';
create trigger resends_adopted before insert on resends
    for each row execute function adopt_new_resend();

do $$
begin
    execute format('alter function adopt_resend(resends) set search_path = %I, pg_temp', current_schema());
    execute format('alter function adopt_new_resend() set search_path = %I, pg_temp', current_schema());
end $$;

with open as (
    update resends set ended_at = now(), ended = 'done' where ended_at is null returning resends
)
select adopt_resend(resends) from open;

comment on table resends is
    'requests of the version before to resend the dead deliveries of a webhook, which are operations now; a later version removes it';
