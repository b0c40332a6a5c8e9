//! Use cases of local accounts. Passwords and roles are set by operators at the command line alone.

use fanfare_core::name::Name;
use fanfare_store::accounts::Account;
use fanfare_store::{Store, StoreError};

use crate::{Actor, NotAdministrator};

/// Why an account was not shown or changed.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// It concerns administrators only.
    #[error(transparent)]
    NotAdministrator(#[from] NotAdministrator),
    /// There is no such account.
    #[error("there is no such account")]
    Unknown,
    /// The account is the actor's own.
    #[error("you cannot disable your own account")]
    Own,
    /// The database did not answer, or refused the statement.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Lists the accounts by name. Only an operator or a System Administrator may.
///
/// # Errors
///
/// [`AccountError`]
pub async fn list(store: &Store, actor: &Actor) -> Result<Vec<Account>, AccountError> {
    actor.administrator()?;
    Ok(store.accounts_list().await?)
}

/// Disables an account for a reason, and ends its sessions. Only an operator or a System Administrator may,
/// and only another account than their own.
///
/// # Errors
///
/// [`AccountError`]
pub async fn disable(
    store: &Store,
    actor: &Actor,
    name: &Name,
    reason: &str,
) -> Result<(), AccountError> {
    actor.administrator()?;
    if actor.is(name) {
        return Err(AccountError::Own);
    }
    let found = store.account_disable(name, reason, &actor.author()).await?;
    if found { Ok(()) } else { Err(AccountError::Unknown) }
}

/// Enables a disabled account. Only an operator or a System Administrator may.
///
/// # Errors
///
/// [`AccountError`]
pub async fn enable(store: &Store, actor: &Actor, name: &Name) -> Result<(), AccountError> {
    actor.administrator()?;
    let found = store.account_enable(name, &actor.author()).await?;
    if found { Ok(()) } else { Err(AccountError::Unknown) }
}
