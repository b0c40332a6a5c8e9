-- Access never fails open: what the directory does not know, it does not grant.

alter table directory_state
    -- The beginning is there too: a snapshot, an import, or every document from revision 1 on.
    add column complete boolean not null default false,
    -- Why every event is held; null when none is.
    add column hold text default 'incomplete' check (hold in ('incomplete', 'snapshot-refused')),
    -- An administrator accepted revisions up to this one, however far ahead they are.
    add column accepted_revision bigint not null default 0,
    -- How names in *_key columns are folded; `fanfare migrate` folds them again when the program's
    -- way is a later one. 1 is by full case mappings, 2 by simple ones.
    add column names_version integer not null default 1;
update directory_state set complete = true, hold = null
where exists (select from directory_snapshots)
   or (revision > 0 and not exists (select from directory_gaps));

alter table directory_versions
    add column void boolean not null default false, -- the document can't be taken in: it grants nothing
    add column applied_at timestamptz; -- when the version came; null when it came before this column
create index directory_versions_void on directory_versions (begin_revision) where void;

-- Snapshots that can't be taken in. What they took from anybody is not known, so each holds every
-- event until a snapshot of its revision or a later one is taken.
create table directory_refusals (
    revision    bigint      primary key, -- the snapshot's; the newest one then, if that can't be read
    why         text        not null,    -- for a person
    refused_at  timestamptz not null,
    accepted_at timestamptz              -- when an administrator decided to go on without it; null: not yet
);

-- Users who were deleted, or left out of a snapshot, by the last time. One who comes again later is
-- another person with the same name, who must not get what the former one had.
create table directory_departures (
    name_key          text   primary key, -- as compared
    revision          bigint not null,    -- from this revision on the user is gone
    returned_revision bigint,             -- from this one on there is somebody of that name; null: nobody
    returned_at       timestamptz,        -- when that one came; null with it
    paused            bigint not null default 0 -- webhooks of the former one that were paused then
);
create index directory_departures_open on directory_departures (name_key)
    where returned_revision is null;
-- Those that are known, but for those who came again before anybody kept count.
insert into directory_departures (name_key, revision)
select name_key, max(coalesce(case when not deleted then end_revision end, begin_revision))
from directory_versions v cross join directory_state s
where kind = 'user' and begin_revision >= 0 and begin_revision <= s.revision
group by name_key
having not bool_or(not deleted and (end_revision is null or end_revision > s.revision));

-- When somebody of that name is there again, the former one's webhooks are paused, sessions end and
-- the account, if a later migration has made that possible, is disabled. It is done with the rights of the tables' owner, so that a router, which keeps the directory, needs none
-- on webhooks. Only what there was before the new one came; clocks may differ by five seconds.
create function pause_former_owner() returns trigger
language plpgsql security definer set search_path from current as $$
begin
    update webhooks
    set paused = true, paused_reason = 'owner-recreated', failing_since = null, updated_at = now()
    where owner_key = new.name_key and deleted_at is null
      and created_at <= new.returned_at + interval '5 seconds'
      and paused_reason is distinct from 'owner-recreated';
    get diagnostics new.paused = row_count;
    delete from sessions
    where coalesce(account_key, user_key) = new.name_key
      and created_at <= new.returned_at + interval '5 seconds';
    if exists (select from pg_attribute
               where attrelid = 'accounts'::regclass and attname = 'disabled_at') then
        execute 'update accounts
                 set disabled_reason = case when disabled_at is null then ''owner-recreated''
                                            else disabled_reason end,
                     disabled_at = coalesce(disabled_at, now()), generation = generation + 1
                 where name_key = $1 and created_at <= $2'
        using new.name_key, new.returned_at + interval '5 seconds';
    end if;
    return new;
end $$;
create trigger directory_departures_end before update on directory_departures
    for each row
    when (old.returned_revision is null and new.returned_revision is not null)
    execute function pause_former_owner();
