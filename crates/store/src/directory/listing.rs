//! The directory for people: its users and roles as they are now, and what a user may read.

use fanfare_core::access::administrator_key;
use fanfare_core::name::Name;
use fanfare_core::resource::Scope;
use tokio_postgres::Row;

use crate::access::permission;
use crate::error::StoreError;
use crate::pool::Store;
use crate::rows::Columns as _;

/// What a list has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listed {
    Users,
    Roles,
}

impl Listed {
    fn kind(self) -> &'static str {
        match self {
            Self::Users => "user",
            Self::Roles => "role",
        }
    }
}

/// A user or a role as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The name as published.
    pub name: String,
    /// The folded name, by which the list is sorted.
    pub key: String,
    /// Whether a user is enabled.
    pub enabled: bool,
    /// Whether its newest document was refused, so that it grants nothing.
    pub void: bool,
    /// The directory revision since which it is so.
    pub since: i64,
    /// The roles of a user.
    pub roles: Vec<String>,
    /// The number of its own permissions that grant reading.
    pub permissions: i64,
}

/// What a user may read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Readable {
    /// Whether the user may read everything.
    pub administrator: bool,
    /// The permissions, those of the user's own first.
    pub permissions: Vec<Permission>,
}

/// A permission that grants reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permission {
    /// The role that has it; `None` for the user's own.
    pub role: Option<String>,
    pub scope: Scope,
    /// Empty for the `any-…` scopes.
    pub target: String,
}

impl Store {
    /// Lists at most `most` users or roles behind the key `after`, by name. `search` is a part of the folded
    /// name.
    pub async fn directory_list(
        &self,
        listed: Listed,
        search: Option<&str>,
        after: Option<&str>,
        most: i64,
    ) -> Result<Vec<Member>, StoreError> {
        const SQL: &str = "-- directory_list
            select v.name, v.name_key, v.enabled, v.void, v.begin_revision,
                   array(select coalesce(r.name, m.role_key) from directory_members m
                         left join directory_versions r
                             on r.kind = 'role' and r.name_key = m.role_key
                            and r.end_revision is null and not r.deleted
                         where m.version_id = v.id order by 1) as roles,
                   (select count(*) from directory_grants g where g.version_id = v.id)
                       as permissions
            from directory_versions v
            where v.kind = $1 and v.end_revision is null and not v.deleted
              and ($2::text is null or strpos(v.name_key, $2) > 0)
              and ($3::text is null or v.name_key > $3)
            order by v.name_key limit $4";
        let client = self.connection("list the directory").await?;
        let rows = client.query(SQL, &[&listed.kind(), &search, &after, &most]).await?;
        rows.iter().map(member).collect()
    }

    /// Reads at most `most` permissions by which an enabled user may read now; `None` if there is no such
    /// user.
    pub async fn directory_readable(
        &self,
        user: &Name,
        most: i64,
    ) -> Result<Option<Readable>, StoreError> {
        const USER: &str = "-- directory_readable_user
            select v.enabled and not v.void
                   and exists (select from directory_members m
                               where m.version_id = v.id and m.role_key = $2) as administrator
            from directory_versions v
            where v.kind = 'user' and v.name_key = $1 and v.end_revision is null and not v.deleted";
        const SQL: &str = "-- directory_readable
            with u as (
                select id from directory_versions
                where kind = 'user' and name_key = $1 and end_revision is null
                  and enabled and not deleted and not void
            )
            select null::text as role, g.scope, g.target
            from u join directory_grants g on g.version_id = u.id
            union all
            select r.name, g.scope, g.target
            from u
            join directory_members m on m.version_id = u.id
            join directory_versions r on r.kind = 'role' and r.name_key = m.role_key
                and r.end_revision is null and r.enabled and not r.deleted and not r.void
            join directory_grants g on g.version_id = r.id
            order by role nulls first, scope, target limit $2";
        let client = self.connection("look up what a user may read").await?;
        let Some(row) = client.query_opt(USER, &[&user.key(), &administrator_key()]).await? else {
            return Ok(None);
        };
        let rows = client.query(SQL, &[&user.key(), &most]).await?;
        let one = |row: &Row| {
            let role = row.column("role")?;
            let found = permission(row)?;
            Ok::<_, StoreError>(found.map(|(scope, target)| Permission { role, scope, target }))
        };
        let permissions = rows.iter().filter_map(|row| one(row).transpose());
        Ok(Some(Readable {
            administrator: row.column("administrator")?,
            permissions: permissions.collect::<Result<_, _>>()?,
        }))
    }
}

fn member(row: &Row) -> Result<Member, StoreError> {
    Ok(Member {
        name: row.column("name")?,
        key: row.column("name_key")?,
        enabled: row.column("enabled")?,
        void: row.column("void")?,
        since: row.column("begin_revision")?,
        roles: row.column("roles")?,
        permissions: row.column("permissions")?,
    })
}
