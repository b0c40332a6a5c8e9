//! The use case of storage: what the database holds, what a day adds, and when its disk will be full.

use chrono::{DateTime, Utc};
use fanfare_store::StoreError;
use fanfare_store::retention::Keep;
use fanfare_store::sizes::Sizes;

use crate::{Actor, Context, NotAdministrator};

/// What the operator has set about the database.
#[derive(Debug, Clone, Copy)]
pub struct StorageLimits {
    /// For how long the ledger keeps what it has.
    pub keep: Keep,
    /// The size of the database's disk in bytes, which SQL can't tell; `None` if it was not set.
    pub disk: Option<u64>,
}

/// What the database holds.
#[derive(Debug)]
pub struct Storage {
    pub sizes: Sizes,
    /// The size of its disk in bytes, if it was set.
    pub disk: Option<u64>,
    /// The day on which the disk will be full; `None` when retention keeps it from that, or when it is
    /// not known.
    pub full_on: Option<DateTime<Utc>>,
}

/// Why storage can't be shown.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// It concerns administrators only.
    #[error(transparent)]
    NotAdministrator(#[from] NotAdministrator),
    /// The database did not answer, or refused the statement.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Measures what the database holds. Only an operator or a System Administrator may.
///
/// # Errors
///
/// [`StorageError`]
pub async fn show(
    context: &Context,
    actor: &Actor,
    limits: StorageLimits,
) -> Result<Storage, StorageError> {
    actor.administrator()?;
    let sizes = context.store.sizes().await?;
    let full_on = limits.disk.and_then(|disk| sizes.full_on(limits.keep, disk));
    Ok(Storage { sizes, disk: limits.disk, full_on })
}
