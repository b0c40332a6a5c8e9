//! The access rule in SQL: the parts of every statement about access, so that the rule is written
//! once.
//!
//! A user may read a resource as of a revision if the user is enabled, and one of these is true: a
//! version that is valid then, of the user or of one of the user's roles, has a grant for one of
//! the resource's scopes; or the user is a member of the administrators' role. `granting!`,
//! `having_role!` and `grants_of_readers!` begin at the resource, `asking!` and `is_administrator!`
//! at the user. They are macros and not SQL functions, so that the planner sees one statement and
//! chooses its indexes for the whole.
//!
//! Arguments are SQL text: the alias of a table, an expression for a revision, or the parameter
//! with the administrators' role.

/// The condition that a version is valid as of a revision.
macro_rules! holds {
    ($version:literal, $revision:literal) => {
        concat!(
            $version,
            ".begin_revision <= ",
            $revision,
            " and (",
            $version,
            ".end_revision is null or ",
            $version,
            ".end_revision > ",
            $revision,
            ")"
        )
    };
}

/// Joins `asked` (scope, target, revision) as `a` with its grants `g`, and with the versions `v` of
/// users and roles that have these grants.
macro_rules! granting {
    () => {
        concat!(
            "asked a
             join directory_grants g on g.scope = a.scope and g.target = a.target
             join directory_versions v on v.id = g.version_id
                 and ",
            $crate::access::rule::holds!("v", "a.revision")
        )
    };
}

/// Joins a table that has `role_key` and `revision` with the enabled users `u` who have the role.
macro_rules! having_role {
    ($roles:literal) => {
        concat!(
            $roles,
            " r
             join directory_members m on m.role_key = r.role_key
             join directory_versions u on u.id = m.version_id and u.enabled
                 and ",
            $crate::access::rule::holds!("u", "r.revision")
        )
    };
}

/// The common tables from `asked`, which also has a rank of its scopes, to `way`: the grants that
/// give a user's version `read`, if it is enabled. The first in the order of [`deciding_first!`]
/// decides.
///
/// `$members` is `directory_members`, or a part of it for some users, since a role may have every
/// user as a member.
macro_rules! grants_of_readers {
    ($members:literal, $administrator:literal) => {
        concat!(
            "granted as (
                select v.id, v.kind, v.name, v.name_key, v.begin_revision, a.rank, g.scope, g.target
                from ",
            $crate::access::rule::granting!(),
            "
            ), way as (
                select id as user_id, 0 as precedence, rank, scope, target, null::text as role,
                       begin_revision as since
                from granted where kind = 'user'
                union all
                select m.version_id, 1, g.rank, g.scope, g.target, g.name, g.begin_revision
                from granted g join ",
            $members,
            " m on m.role_key = g.name_key
                where g.kind = 'role'
                union all
                select m.version_id, 2, 0, null, null, null, 0
                from ",
            $members,
            " m where m.role_key = ",
            $administrator,
            ")"
        )
    };
}

/// The order of the rows of `way` as `w`. Roles are compared byte by byte, so that the role that
/// decides is the same in every database, whatever its collation.
macro_rules! deciding_first {
    () => {
        "w.precedence, w.rank, w.role collate \"C\""
    };
}

/// The common table `asked` of one resource's scopes and targets. The first one ranks highest.
macro_rules! asked_of_resource {
    ($scopes:literal, $targets:literal, $revision:literal) => {
        concat!(
            "asked as (
                select q.scope, q.target, q.rank, ",
            $revision,
            "::bigint as revision
                from unnest(",
            $scopes,
            "::text[], ",
            $targets,
            "::text[]) with ordinality as q(scope, target, rank)
            )"
        )
    };
}

/// The common table `holder`: for each version of a user in `asker`, which also has the revision,
/// the versions whose grants count: the user's own and those of the user's roles.
macro_rules! asking {
    () => {
        concat!(
            "holder as (
                select name_key as user_key, id from asker
                union all
                select u.name_key, r.id
                from asker u
                join directory_members m on m.version_id = u.id
                join directory_versions r on r.kind = 'role' and r.name_key = m.role_key
                    and ",
            $crate::access::rule::holds!("r", "u.revision"),
            "
            )"
        )
    };
}

/// The condition that a version of a user is a member of the administrators' role, whose members
/// may read everything.
macro_rules! is_administrator {
    ($user:literal, $administrator:literal) => {
        concat!(
            "exists (select from directory_members m where m.version_id = ",
            $user,
            ".id and m.role_key = ",
            $administrator,
            ")"
        )
    };
}

pub(crate) use {
    asked_of_resource, asking, deciding_first, granting, grants_of_readers, having_role, holds,
    is_administrator,
};
