//! Attempting a delivery again.

use fanfare_core::ids::DeliveryId;
use fanfare_core::job::Restart;
use fanfare_store::StoreError;

use crate::receiving::not_receiving;
use crate::{Actor, Context, NotReceiving};

/// A delivery will be attempted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retried {
    /// A new series of attempts has begun.
    Begun {
        /// Whether the broker has the job. If not, a router publishes it within minutes.
        enqueued: bool,
    },
    /// An attempt was due in any case.
    AlreadyDue,
}

/// Why a delivery is not attempted again. It stays in the state that it has.
#[derive(Debug, thiserror::Error)]
pub enum RetryError {
    /// There is no such delivery, or the actor may not see it.
    #[error("there is no such delivery")]
    Unknown,
    /// The webhook is sent nothing.
    #[error(transparent)]
    NotReceiving(#[from] NotReceiving),
    /// An attempt is being made. Another one beside it could arrive twice.
    #[error("an attempt is being made now; wait until it has ended")]
    InProgress,
    /// The database did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Begins a new series of attempts for a delivery, in whatever state it is.
///
/// # Errors
///
/// [`RetryError`]
pub async fn retry(
    context: &Context,
    actor: &Actor,
    id: DeliveryId,
) -> Result<Retried, RetryError> {
    let store = &context.store;
    let found = store.delivery_show(id).await?;
    let (delivery, _) = found
        .filter(|(delivery, _)| actor.may_manage(delivery.owner.as_deref()))
        .ok_or(RetryError::Unknown)?;
    if let Some(why) = not_receiving(store, delivery.webhook).await? {
        return Err(why.into());
    }
    let (batch, webhook) = store.delivery_find(id).await?.ok_or(RetryError::Unknown)?;
    match store.delivery_restart(batch, webhook, false).await? {
        Restart::Begun(due) => {
            Ok(Retried::Begun { enqueued: context.publisher.enqueue(&[due]).await })
        }
        Restart::UnderWay => Err(RetryError::InProgress),
        Restart::MovedOn | Restart::Unknown => Ok(Retried::AlreadyDue),
    }
}
