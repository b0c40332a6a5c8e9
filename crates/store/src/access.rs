//! Access to resources as of a revision, and the grants that give it.

pub(crate) mod rule;
mod statement;

use fanfare_core::access::administrator_key;
use fanfare_core::explain::{By, Grant, OwnerState};
use fanfare_core::name::Name;
use fanfare_core::resource::{Resource, Scope};
use tokio_postgres::Row;

use crate::directory::UserStatus;
use crate::error::StoreError;
use crate::pool::Store;
use crate::rows::Columns as _;
use crate::statement::Cached;
pub(crate) use statement::READABLE_SCOPES;
use statement::{CHECK, MAY_READ, READERS};

/// The access of a user to a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    pub state: OwnerState,
    /// All grants that let the user read, the deciding one first; empty without access.
    pub grants: Vec<Grant>,
}

/// A user who may read a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reader {
    /// The user's name, as published.
    pub user: String,
    /// The deciding grant.
    pub grant: Grant,
}

/// A question of access: whether a user may read now by one of several scopes and targets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question<'a> {
    /// The user's folded name.
    pub user_key: &'a str,
    /// Names of scopes, and targets. A grant for one of them suffices.
    pub scopes: Vec<(&'static str, &'a str)>,
}

impl From<UserStatus> for OwnerState {
    fn from(status: UserStatus) -> Self {
        match status {
            UserStatus::Enabled => Self::Enabled,
            UserStatus::Disabled => Self::Disabled,
            UserStatus::Deleted => Self::Deleted,
        }
    }
}

impl Store {
    /// Answers questions of access as of now, in their order. It does not check that the user is
    /// enabled.
    pub async fn may_read(&self, questions: &[Question<'_>]) -> Result<Vec<bool>, StoreError> {
        let (mut idx, mut users, mut scopes, mut targets) = (vec![], vec![], vec![], vec![]);
        for (index, question) in (0i32..).zip(questions) {
            for (scope, target) in &question.scopes {
                idx.push(index);
                users.push(question.user_key);
                scopes.push(*scope);
                targets.push(*target);
            }
        }
        let client = self.connection("check access").await?;
        let rows = client
            .query(&Cached(MAY_READ), &[&idx, &users, &scopes, &targets, &administrator_key()])
            .await?;
        let mut may = vec![false; questions.len()];
        for row in rows {
            let index: i32 = row.column("idx")?;
            if let Some(slot) = usize::try_from(index).ok().and_then(|index| may.get_mut(index)) {
                *slot = true;
            }
        }
        Ok(may)
    }

    /// Reads the state of a user as of a revision, and the grants that let the user read a
    /// resource.
    ///
    /// The directory must have reached the revision, and must keep its history.
    pub async fn access_check(
        &self,
        user: &Name,
        resource: &Resource,
        revision: i64,
    ) -> Result<Access, StoreError> {
        let (scopes, targets) = scopes_of(resource);
        let client = self.connection("look up what a user may read through").await?;
        let rows = client
            .query(
                CHECK,
                &[
                    /* revision */ &revision,
                    /* scope */ &scopes,
                    /* target */ &targets,
                    /* administrator */ &administrator_key(),
                    /* user */ &user.key(),
                ],
            )
            .await?;
        let Some(first) = rows.first() else {
            return Ok(Access { state: OwnerState::Deleted, grants: Vec::new() });
        };
        let state = owner_state(first)?;
        let grants = rows.iter().filter_map(|row| grant(row).transpose());
        Ok(Access { state, grants: grants.collect::<Result<_, _>>()? })
    }

    /// Lists the users who may read a resource as of a revision, by name.
    ///
    /// The directory must have reached the revision, and must keep its history.
    pub async fn access_readers(
        &self,
        resource: &Resource,
        revision: i64,
    ) -> Result<Vec<Reader>, StoreError> {
        let (scopes, targets) = scopes_of(resource);
        let client = self.connection("look up who may read").await?;
        let rows =
            client.query(READERS, &[&revision, &scopes, &targets, &administrator_key()]).await?;
        let path = |row: &Row| {
            let key: String = row.column("user_key")?;
            let grant = grant(row)?.ok_or_else(|| inconsistent("scope"))?;
            Ok((key, Reader { user: row.column("user_name")?, grant }))
        };
        let mut paths = rows.iter().map(path).collect::<Result<Vec<_>, StoreError>>()?;
        paths.dedup_by(|later, first| later.0 == first.0);
        Ok(paths.into_iter().map(|(_, reader)| reader).collect())
    }
}

/// The scopes and targets that give `read` on a resource, as the statements take them.
pub(crate) fn scopes_of(resource: &Resource) -> (Vec<&'static str>, Vec<&str>) {
    let scopes = resource.read_scopes().into_iter();
    scopes.map(|(scope, target)| (scope.name(), target)).unzip()
}

/// Reads the state of a user from the columns `enabled` and `deleted` of the user's version, which
/// are null without a version.
pub(crate) fn owner_state(row: &Row) -> Result<OwnerState, StoreError> {
    Ok(UserStatus::of(row)?.into())
}

/// Reads a grant from the columns `precedence` (0 of the user, 1 of a role, 2 of the
/// administrators' role), `scope`, `target`, `role` and `since`. `None` when there is no grant.
pub(crate) fn grant(row: &Row) -> Result<Option<Grant>, StoreError> {
    let precedence: Option<i32> = row.column("precedence")?;
    let since: Option<i64> = row.column("since")?;
    let Some((precedence, since)) = precedence.zip(since) else { return Ok(None) };
    let by = match (precedence, row.column("role")?) {
        (0, _) => By::User,
        (1, Some(role)) => By::Role(role),
        _ => By::Administrator,
    };
    Ok(Some(Grant { permission: permission(row)?, by, since }))
}

/// Reads the columns `scope` and `target` of a grant; `None` when they are null.
pub(crate) fn permission(row: &Row) -> Result<Option<(Scope, String)>, StoreError> {
    let scope: Option<&str> = row.column("scope")?;
    let Some((scope, target)) = scope.zip(row.column("target")?) else { return Ok(None) };
    let scope = Scope::parse(scope).ok_or_else(|| inconsistent("scope"))?;
    Ok(Some((scope, target)))
}

fn inconsistent(column: &'static str) -> StoreError {
    StoreError::Inconsistent { table: "directory_grants", column }
}
