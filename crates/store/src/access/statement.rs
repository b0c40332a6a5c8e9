//! The statements about access.

use super::rule::{
    asked_of_resource, asking, deciding_first, grants_of_readers, holds, is_administrator,
};

/// The check that a worker makes before a retry. Parameters: $1 to $4 the questions' numbers,
/// users, scopes and targets; $5 the administrators' role.
pub(super) const MAY_READ: &str = concat!(
    "-- may_read
    with asked as (
        select * from unnest($1::int[], $2::text[], $3::text[], $4::text[])
            as q(idx, user_key, scope, target)
    ), asker as (
        select u.id, u.name_key, s.revision
        from (select distinct user_key from asked) q
        cross join directory_state s
        join directory_versions u on u.kind = 'user' and u.name_key = q.user_key
            and ",
    holds!("u", "s.revision"),
    "
    ), ",
    asking!(),
    "
    select distinct q.idx from asked q
    where exists (select from holder h join directory_grants g on g.version_id = h.id
                  where h.user_key = q.user_key
                    and g.scope = q.scope and g.target = q.target)
       or exists (select from asker u where u.name_key = q.user_key and ",
    is_administrator!("u", "$5"),
    ")"
);

/// The grants that let one user read, and in each row the user's state. Parameters: $1 revision, $2
/// scopes, $3 targets, $4 the administrators' role, $5 the user's key.
pub(super) const CHECK: &str = concat!(
    "-- access_check
    with asker as (
        select u.id, u.enabled, u.deleted, u.begin_revision
        from directory_versions u
        where u.kind = 'user' and u.name_key = $5 and ",
    holds!("u", "$1"),
    "
    ), member as (
        select m.version_id, m.role_key
        from asker u join directory_members m on m.version_id = u.id
    ), ",
    asked_of_resource!("$2", "$3", "$1"),
    ", ",
    grants_of_readers!("member", "$4"),
    "
    select w.precedence, w.scope, w.target, w.role, greatest(w.since, u.begin_revision) as since,
           u.enabled, u.deleted
    from asker u left join way w on w.user_id = u.id and u.enabled
    order by ",
    deciding_first!()
);

/// All grants by which enabled users may read a resource. Parameters: those of [`CHECK`] except $5.
pub(super) const READERS: &str = concat!(
    "-- access_readers
    with ",
    asked_of_resource!("$2", "$3", "$1"),
    ", ",
    grants_of_readers!("directory_members", "$4"),
    "
    select w.precedence, w.scope, w.target, w.role, greatest(w.since, u.begin_revision) as since,
           u.name_key as user_key, u.name as user_name
    from way w
    join directory_versions u on u.id = w.user_id and u.kind = 'user' and u.enabled
        and ",
    holds!("u", "$1"),
    "
    order by u.name_key collate \"C\", ",
    deciding_first!()
);

/// The state of a user now, and one target of each scope that the user may read. Parameters: $1 the
/// user's key, $2 the administrators' role.
pub(crate) const READABLE_SCOPES: &str = concat!(
    "-- reach
    with found as (
        select u.id, u.name_key, u.enabled, u.deleted, s.revision
        from directory_state s
        left join directory_versions u on u.kind = 'user' and u.name_key = $1
            and ",
    holds!("u", "s.revision"),
    "
    ), asker as (
        select id, name_key, revision from found where id is not null
    ), ",
    asking!(),
    ", granted as (
        select g.scope, min(g.target collate \"C\") as target
        from holder h join directory_grants g on g.version_id = h.id
        group by g.scope
    )
    select u.enabled, u.deleted, u.revision, ",
    is_administrator!("u", "$2"),
    " as administrator, g.scope, g.target
    from found u left join granted g on true"
);
