//! Use cases of the directory: its state, its users and roles, who may read a resource, and what a user may
//! read. Only an operator or a System Administrator may ask.

use fanfare_core::name::{Name, fold};
use fanfare_core::resource::Resource;
use fanfare_store::access::Reader;
use fanfare_store::directory::{DirectoryState, Listed, Member, Readable};
use fanfare_store::{Store, StoreError};

use crate::{Actor, NotAdministrator};

/// Why the directory can't be shown.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// It concerns administrators only.
    #[error(transparent)]
    NotAdministrator(#[from] NotAdministrator),
    /// The directory has not reached the revision.
    #[error("the directory has not reached revision {at}; the newest one is {newest}")]
    TooNew { at: i64, newest: i64 },
    /// The history of that revision is not kept any more.
    #[error("the history begins at revision {oldest}; revision {at} is not known any more")]
    TooOld { at: i64, oldest: i64 },
    /// The database did not answer, or refused the statement.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The users who may read a resource.
#[derive(Debug)]
pub struct Readers {
    /// The revision of the answer.
    pub revision: i64,
    pub readers: Vec<Reader>,
}

/// A page of users or roles.
#[derive(Debug)]
pub struct MemberPage {
    pub members: Vec<Member>,
    /// The key behind which the next page begins; `None` on the last page.
    pub next: Option<String>,
}

/// Reads the directory's revision, its gaps, and what holds events.
///
/// # Errors
///
/// [`DirectoryError`]
pub async fn state(store: &Store, actor: &Actor) -> Result<DirectoryState, DirectoryError> {
    actor.administrator()?;
    Ok(store.directory_state().await?)
}

/// Lists a page of users or roles by name. `search` is a part of the name, without case.
///
/// # Errors
///
/// [`DirectoryError`]
pub async fn list(
    store: &Store,
    actor: &Actor,
    listed: Listed,
    (search, after): (&str, Option<&str>),
    most: i64,
) -> Result<MemberPage, DirectoryError> {
    actor.administrator()?;
    let search = Some(fold(search)).filter(|search| !search.is_empty());
    // One more says whether there is another page.
    let most_read = most.saturating_add(1);
    let mut members = store.directory_list(listed, search.as_deref(), after, most_read).await?;
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let is_more = members.len() > most;
    members.truncate(most);
    let next = members.last().filter(|_| is_more).map(|last| last.key.clone());
    Ok(MemberPage { members, next })
}

/// Lists the users who may read a resource, as of a revision or now.
///
/// # Errors
///
/// [`DirectoryError`]
pub async fn readers(
    store: &Store,
    actor: &Actor,
    resource: &Resource,
    at: Option<i64>,
) -> Result<Readers, DirectoryError> {
    actor.administrator()?;
    let revision = revision(store, at).await?;
    Ok(Readers { revision, readers: store.access_readers(resource, revision).await? })
}

/// The revision to answer for: the given one, if the directory keeps it, or the newest.
///
/// # Errors
///
/// [`DirectoryError`]
pub async fn revision(store: &Store, at: Option<i64>) -> Result<i64, DirectoryError> {
    let state = store.directory_state().await?;
    let (oldest, newest) = (state.oldest, state.revisions.newest);
    match at {
        Some(at) if at > newest => Err(DirectoryError::TooNew { at, newest }),
        Some(at) if at < oldest => Err(DirectoryError::TooOld { at, oldest }),
        Some(at) => Ok(at),
        None => Ok(newest),
    }
}

/// Reads at most `most` permissions by which a user may read now; `None` if there is no such user.
///
/// # Errors
///
/// [`DirectoryError`]
pub async fn readable(
    store: &Store,
    actor: &Actor,
    user: &Name,
    most: i64,
) -> Result<Option<Readable>, DirectoryError> {
    actor.administrator()?;
    Ok(store.directory_readable(user, most).await?)
}
