//! Who may read what, as of a revision, and through which grant.

use fanfare_core::access::{Resource, Scope, administrator_key};
use fanfare_core::explain::{By, Grant, OwnerState};
use fanfare_core::name::Name;
use tokio_postgres::Row;

use crate::directory::UserStatus;
use crate::error::StoreError;
use crate::pool::Store;

/// Whether a user may read a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// How the user stands.
    pub state: OwnerState,
    /// All that lets them read, what decides first; none when they may not.
    pub grants: Vec<Grant>,
}

/// Somebody who may read a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reader {
    /// The user's name, as published.
    pub user: String,
    /// What lets them read.
    pub grant: Grant,
}

/// A question of access: may this user read through this scope and target right now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question<'a> {
    /// The user's folded name.
    pub user_key: &'a str,
    /// Scope name and target, any of which suffices.
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
    /// Answers questions of access as of now, in their order. That the user is enabled is not
    /// part of the question.
    pub async fn may_read(&self, questions: &[Question<'_>]) -> Result<Vec<bool>, StoreError> {
        const SQL: &str = "-- may_read
            with asked as (
                select * from unnest($1::int[], $2::text[], $3::text[], $4::text[])
                    as q(idx, user_key, scope, target)
            ), asker as (
                select u.id, u.name_key, s.revision
                from (select distinct user_key from asked) q
                cross join directory_state s
                join directory_versions u on u.kind = 'user' and u.name_key = q.user_key
                    and u.begin_revision <= s.revision
                    and (u.end_revision is null or u.end_revision > s.revision)
            ), holder as (
                select name_key as user_key, id from asker
                union all
                select u.name_key, r.id
                from asker u
                join directory_members m on m.version_id = u.id
                join directory_versions r on r.kind = 'role' and r.name_key = m.role_key
                    and r.begin_revision <= u.revision
                    and (r.end_revision is null or r.end_revision > u.revision)
            )
            select distinct q.idx from asked q
            where exists (select from holder h join directory_grants g on g.version_id = h.id
                          where h.user_key = q.user_key
                            and g.scope = q.scope and g.target = q.target)
               or exists (select from asker u join directory_members m on m.version_id = u.id
                          where u.name_key = q.user_key and m.role_key = $5)";
        let (mut idx, mut users, mut scopes, mut targets) = (vec![], vec![], vec![], vec![]);
        for (index, question) in (0i32..).zip(questions) {
            for (scope, target) in &question.scopes {
                idx.push(index);
                users.push(question.user_key);
                scopes.push(*scope);
                targets.push(*target);
            }
        }
        let doing = "check access";
        let client = self.client().await?;
        let statement = client.prepare_cached(SQL).await.map_err(StoreError::at(doing))?;
        let rows = client
            .query(&statement, &[&idx, &users, &scopes, &targets, &administrator_key()])
            .await
            .map_err(StoreError::at(doing))?;
        let mut may = vec![false; questions.len()];
        for row in rows {
            let index: i32 = row.try_get(0).map_err(StoreError::at(doing))?;
            if let Some(slot) = usize::try_from(index).ok().and_then(|index| may.get_mut(index)) {
                *slot = true;
            }
        }
        Ok(may)
    }

    /// How a user stands as of a revision, and what lets them read a resource.
    ///
    /// The revision must be one that the directory has reached and keeps.
    pub async fn access_check(
        &self,
        user: &Name,
        resource: &Resource,
        revision: i64,
    ) -> Result<Access, StoreError> {
        const SQL: &str = "-- access_check
            select enabled, deleted from directory_versions
            where kind = 'user' and name_key = $1
              and begin_revision <= $2 and (end_revision is null or end_revision > $2)";
        let doing = "look up the user";
        let client = self.client().await?;
        let row = client.query_opt(SQL, &[&user.key(), &revision]).await;
        // Given back before the next question takes one.
        drop(client);
        let state = match row.map_err(StoreError::at(doing))? {
            Some(row) => {
                let read = || Ok(owner_state(row.try_get(0)?, row.try_get(1)?));
                read().map_err(StoreError::at(doing))?
            }
            None => OwnerState::Deleted,
        };
        let ways = self.ways(resource, revision, Some(user.key())).await?;
        Ok(Access { state, grants: ways.into_iter().map(|(_, reader)| reader.grant).collect() })
    }

    /// Everybody who may read a resource as of a revision, by name, each with what decides.
    ///
    /// The revision must be one that the directory has reached and keeps.
    pub async fn access_readers(
        &self,
        resource: &Resource,
        revision: i64,
    ) -> Result<Vec<Reader>, StoreError> {
        let mut ways = self.ways(resource, revision, None).await?;
        ways.dedup_by(|later, first| later.0 == first.0);
        Ok(ways.into_iter().map(|(_, reader)| reader).collect())
    }

    /// All ways in which enabled users, or one, may read a resource: by the user's folded name,
    /// then what decides first.
    async fn ways(
        &self,
        resource: &Resource,
        revision: i64,
        user: Option<&str>,
    ) -> Result<Vec<(String, Reader)>, StoreError> {
        const SQL: &str = "-- access_ways
            with granted as (
                select v.id, v.kind, v.name, v.name_key, v.begin_revision, q.rank, g.scope, g.target
                from unnest($2::text[], $3::text[]) with ordinality as q(scope, target, rank)
                join directory_grants g on g.scope = q.scope and g.target = q.target
                join directory_versions v on v.id = g.version_id and v.begin_revision <= $1
                    and (v.end_revision is null or v.end_revision > $1)
            ), way as (
                select id as user_id, 0 as precedence, rank, scope, target, null::text as role,
                       begin_revision
                from granted where kind = 'user'
                union
                select m.version_id, 1, g.rank, g.scope, g.target, g.name, g.begin_revision
                from granted g join directory_members m on m.role_key = g.name_key
                where g.kind = 'role'
                union
                select m.version_id, 2, 0, null, null, null, 0
                from directory_members m where m.role_key = $4
            )
            select w.precedence, w.scope, w.target, w.role,
                   greatest(w.begin_revision, u.begin_revision), u.name_key, u.name
            from way w
            join directory_versions u on u.id = w.user_id and u.kind = 'user' and u.enabled
                and u.begin_revision <= $1 and (u.end_revision is null or u.end_revision > $1)
            where $5::text is null or u.name_key = $5
            order by u.name_key, w.precedence, w.rank, w.role";
        let doing = "look up who may read";
        let scopes = resource.read_scopes();
        let (scopes, targets): (Vec<_>, Vec<_>) =
            scopes.into_iter().map(|(scope, target)| (scope.name(), target)).unzip();
        let client = self.client().await?;
        let rows = client
            .query(
                SQL,
                &[
                    /* revision */ &revision,
                    /* scope */ &scopes,
                    /* target */ &targets,
                    /* administrator */ &administrator_key(),
                    /* user */ &user,
                ],
            )
            .await
            .map_err(StoreError::at(doing))?;
        let reader = |row: &Row| {
            let read = || Ok((row.try_get(5)?, row.try_get(6)?));
            let (key, user) = read().map_err(StoreError::at(doing))?;
            let grant = grant(row, 0)?.ok_or_else(|| inconsistent("scope"))?;
            Ok((key, Reader { user, grant }))
        };
        rows.iter().map(reader).collect()
    }
}

/// How a user stands whose version says so, if there is one.
pub(crate) fn owner_state(enabled: Option<bool>, deleted: Option<bool>) -> OwnerState {
    match (enabled, deleted) {
        (Some(true), Some(false)) => OwnerState::Enabled,
        (Some(false), Some(false)) => OwnerState::Disabled,
        _ => OwnerState::Deleted,
    }
}

/// Reads a grant from five columns, the first at `at`: whose it is (0 the user's own, 1 a role's, 2
/// the administrators'), scope, target, role and revision. `None` when there is none.
pub(crate) fn grant(row: &Row, at: usize) -> Result<Option<Grant>, StoreError> {
    let doing = "read a grant";
    let text = |column: usize| row.try_get::<_, Option<String>>(at + column);
    let read = || {
        let (precedence, since): (Option<i32>, Option<i64>) =
            (row.try_get(at)?, row.try_get(at + 4)?);
        Ok((precedence.zip(since), text(1)?.zip(text(2)?), text(3)?))
    };
    let (way, permission, role) = read().map_err(StoreError::at(doing))?;
    let Some((precedence, since)) = way else { return Ok(None) };
    let by = match (precedence, role) {
        (0, _) => By::User,
        (1, Some(role)) => By::Role(role),
        _ => By::Administrator,
    };
    let known = |(scope, target): (String, String)| {
        let scope = Scope::parse(&scope);
        scope.map(|scope| (scope, target)).ok_or_else(|| inconsistent("scope"))
    };
    Ok(Some(Grant { permission: permission.map(known).transpose()?, by, since }))
}

fn inconsistent(column: &'static str) -> StoreError {
    StoreError::Inconsistent { table: "directory_grants", column }
}
