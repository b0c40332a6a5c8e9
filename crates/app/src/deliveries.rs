//! Use cases of deliveries: list, show and retry.

use fanfare_core::ids::DeliveryId;
use fanfare_core::job::Restart;
use fanfare_store::StoreError;
use fanfare_store::deliveries::{AttemptLog, Delivery, DeliveryFilter, DeliveryPage, RestartScope};

use crate::receiving::not_receiving;
use crate::{Actor, Context, NotAdministrator, NotReceiving};

/// Why a delivery can't be shown.
#[derive(Debug, thiserror::Error)]
pub enum DeliveryError {
    /// The actor asks about another user's deliveries.
    #[error(transparent)]
    NotAdministrator(#[from] NotAdministrator),
    /// There is no such delivery, or the actor may not see it.
    #[error("there is no such delivery")]
    Unknown,
    /// The database did not answer, or refused the statement.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Lists a page of deliveries, the newest first. A page may end before it is full; then it has the
/// position of the next page. A user gets the deliveries to the user's own webhooks.
///
/// # Errors
///
/// [`DeliveryError`]
pub async fn list(
    context: &Context,
    actor: &Actor,
    filter: DeliveryFilter,
) -> Result<DeliveryPage, DeliveryError> {
    let owner = actor.owner_filter(filter.owner)?;
    Ok(context.store.deliveries_page(&DeliveryFilter { owner, ..filter }).await?)
}

/// Shows a delivery with its attempts.
///
/// # Errors
///
/// [`DeliveryError`]
pub async fn show(
    context: &Context,
    actor: &Actor,
    id: DeliveryId,
) -> Result<(Delivery, Vec<AttemptLog>), DeliveryError> {
    let found = context.store.delivery_show(id).await?;
    found
        .filter(|(delivery, _)| actor.may_manage(delivery.owner.as_deref()))
        .ok_or(DeliveryError::Unknown)
}

/// The result of a retry: the delivery will be attempted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retried {
    /// A new series of attempts has begun.
    Begun {
        /// Whether the broker has confirmed the job. If not, a router publishes it within minutes.
        enqueued: bool,
    },
    /// An attempt was already due.
    AlreadyDue,
}

/// Why a delivery is not retried. It keeps its state.
#[derive(Debug, thiserror::Error)]
pub enum RetryError {
    /// The delivery does not exist, or could not be read.
    #[error(transparent)]
    Delivery(#[from] DeliveryError),
    /// The webhook receives nothing.
    #[error(transparent)]
    NotReceiving(#[from] NotReceiving),
    /// An attempt is in progress. The receiver could get a second one as a duplicate.
    #[error("an attempt is being made now; wait until it has ended")]
    InProgress,
    /// The data of one of its events is gone, so that there is nothing to send.
    #[error("its payload was removed, so there is nothing to send")]
    PayloadRemoved,
}

impl From<StoreError> for RetryError {
    fn from(error: StoreError) -> Self {
        Self::Delivery(error.into())
    }
}

/// Begins a new series of attempts for a delivery in any state.
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
    let (delivery, _) = show(context, actor, id).await?;
    if let Some(why) = not_receiving(store, delivery.webhook).await? {
        return Err(why.into());
    }
    let (batch, webhook) = store.delivery_find(id).await?.ok_or(DeliveryError::Unknown)?;
    let (scope, author) = (RestartScope::NotPending, actor.author());
    match store.delivery_restart(batch, webhook, scope, &author).await? {
        Restart::Begun(due) => {
            Ok(Retried::Begun { enqueued: context.publisher.enqueue(&[due]).await })
        }
        Restart::UnderWay => Err(RetryError::InProgress),
        Restart::PayloadRemoved => Err(RetryError::PayloadRemoved),
        Restart::MovedOn | Restart::Unknown => Ok(Retried::AlreadyDue),
    }
}
