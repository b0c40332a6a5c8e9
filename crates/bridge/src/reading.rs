//! Reads users, roles and permissions whole. There is no transaction: what changes while it is read is
//! seen in the lists, which are read again at the end, or as an id that is gone.

use std::collections::HashMap;
use std::fmt;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};

use fanfare_metrics::ReadFailure;

use crate::answers::{self, CATEGORIES, Permission, Role, Unreadable, User};
use crate::api::{Api, ApiError};
use crate::directory::Reading;
use crate::routes::{List, Routes};

/// The number of calls at the same time.
const CALLS: usize = 4;
/// How often a reading begins again in which something changed.
const TRIES: usize = 3;

/// Why nothing was read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error(transparent)]
    Api(#[from] ApiError),
    #[error("the report server's list of {what} can't be read: {error}")]
    Unreadable { what: &'static str, error: Unreadable },
    #[error("users or roles of the report server changed while they were read, {TRIES} times")]
    Changing,
}

impl ReadError {
    /// Whether the report server can't be asked for a while.
    pub(crate) fn is_passing(&self) -> bool {
        matches!(self, Self::Api(ApiError::NoAnswer(_) | ApiError::Failing { .. }))
    }

    /// The cause for the metrics.
    pub(crate) fn failure(&self) -> ReadFailure {
        match self {
            Self::Api(ApiError::NoAnswer(_) | ApiError::Failing { .. }) => ReadFailure::Unavailable,
            Self::Api(ApiError::NotJson(_)) | Self::Unreadable { .. } => ReadFailure::Unreadable,
            Self::Api(_) => ReadFailure::Refused,
            Self::Changing => ReadFailure::Changing,
        }
    }
}

/// Reads everything.
pub(crate) async fn read(api: &Api, routes: &Routes) -> Result<Reading, ReadError> {
    for _ in 0..TRIES {
        if let Some(reading) = read_once(api, routes).await? {
            return Ok(reading);
        }
        tracing::debug!("users or roles changed while they were read; reading again");
    }
    Err(ReadError::Changing)
}

/// `None`: something changed meanwhile.
async fn read_once(api: &Api, routes: &Routes) -> Result<Option<Reading>, ReadError> {
    let (users, roles) = lists(api, routes).await?;
    let of_roles = permissions(api, &routes.of_role, roles.iter().map(|role| &role.id)).await?;
    let of_users = permissions(api, &routes.of_user, users.iter().map(|user| &user.id)).await?;
    let (Some(of_roles), Some(of_users)) = (of_roles, of_users) else { return Ok(None) };
    if lists(api, routes).await? != (users.clone(), roles.clone()) {
        return Ok(None);
    }
    Ok(Some(Reading { users, roles, of_users, of_roles }))
}

/// Users and roles, sorted by their ids.
pub(crate) async fn lists(api: &Api, routes: &Routes) -> Result<(Vec<User>, Vec<Role>), ReadError> {
    let unreadable = |what| move |error| ReadError::Unreadable { what, error };
    let body = routes.roles.read(api, "", 0).await?;
    let mut roles = answers::roles(&body).map_err(unreadable("roles"))?;
    let body = routes.users.read(api, "", 0).await?;
    let mut users = answers::users(&body).map_err(unreadable("users"))?;
    users.sort_by(|a, b| a.id.cmp(&b.id));
    roles.sort_by(|a, b| a.id.cmp(&b.id));
    for role in &mut roles {
        role.users.sort();
    }
    Ok((users, roles))
}

/// The permissions of each holder; `None` if one is gone.
async fn permissions(
    api: &Api,
    list: &List,
    ids: impl Iterator<Item = &String>,
) -> Result<Option<HashMap<String, Vec<Permission>>>, ReadError> {
    let mut ids = ids.peekable();
    // The first call finds the path, which the others then use.
    let Some(first) = ids.peek() else { return Ok(Some(HashMap::new())) };
    list.read(api, first, 0).await?;
    let calls = ids.flat_map(|id| (0..CATEGORIES.len()).map(move |category| (id, category)));
    let read = async |(id, category): (&String, usize)| {
        let body = list.read(api, id, category).await?;
        let permissions = answers::permissions(&body);
        let what = "permissions";
        let permissions = permissions.map_err(|error| ReadError::Unreadable { what, error })?;
        Ok::<_, ReadError>((id.clone(), permissions))
    };
    let all: Result<Vec<_>, ReadError> =
        stream::iter(calls).map(read).buffer_unordered(CALLS).try_collect().await;
    match all {
        Ok(all) => {
            let mut found: HashMap<String, Vec<Permission>> = HashMap::new();
            for (id, permissions) in all {
                found.entry(id).or_default().extend(permissions);
            }
            Ok(Some(found))
        }
        Err(ReadError::Api(error)) if error.is_missing() => Ok(None),
        Err(error) => Err(error),
    }
}

/// The ids in a list of resources, and for reports their categories.
pub(crate) async fn resources(
    api: &Api,
    list: &List,
) -> Result<HashMap<String, Option<String>>, ReadError> {
    let body = list.read(api, "", 0).await?;
    let what = "resources";
    let all = answers::resources(&body).map_err(|error| ReadError::Unreadable { what, error })?;
    Ok(all.into_iter().collect())
}

impl fmt::Display for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} users and {} roles", self.users.len(), self.roles.len())
    }
}
