-- Which revisions a permission holds for is said once, by the version that it belongs to. Ending a
-- version is then one row, however many permissions it has, and a snapshot of a million can be
-- written ahead of its revision, in small steps. (Nothing older than this was ever released.)

drop index directory_grants_asked;
drop index directory_grants_principal;
alter table directory_grants
    drop column principal_kind,
    drop column principal_key,
    drop column begin_revision,
    drop column end_revision;
create index directory_grants_asked on directory_grants (scope, target);
drop index directory_grants_version;
create index directory_grants_version on directory_grants (version_id, scope, target);

drop index directory_members_role;
drop index directory_members_user;
alter table directory_members
    drop column user_key,
    drop column begin_revision,
    drop column end_revision;
create index directory_members_role on directory_members (role_key);

-- Who removes a version removes what belongs to it; a check of each of a million rows would double
-- the time that a snapshot takes.
alter table directory_grants drop constraint directory_grants_version_id_fkey;
alter table directory_members drop constraint directory_members_version_id_fkey;

-- "Now" is the newest revision seen, not an open end: versions may be written ahead of it.
drop index directory_versions_current;
alter table directory_versions add column ended_at timestamptz; -- when its end became known; null while it has none
update directory_versions set ended_at = now() where end_revision is not null;
create index directory_versions_ended on directory_versions (ended_at) where ended_at is not null;

alter table directory_state
    add column oldest  bigint not null default 0, -- history is kept from this revision on
    add column late_at timestamptz;               -- when a document last came after a newer one; null: never

-- Revisions that were passed over. Each ends when its documents come, or with a snapshot.
create table directory_gaps (
    first_revision bigint      primary key,
    last_revision  bigint      not null,
    noticed_at     timestamptz not null default now()
);
