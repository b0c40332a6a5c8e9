//! Whether a webhook receives notifications.
//!
//! An attempt for a paused or deleted webhook is dropped. If a person could retry such a delivery,
//! it would no longer be dead, and a later resend would not find it. So use cases refuse it.

use fanfare_core::ids::WebhookId;
use fanfare_store::{Store, StoreError};

/// Why a webhook receives nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotReceiving {
    /// The webhook is paused; its owner or an administrator may resume it.
    #[error("the webhook {0} is paused")]
    Paused(WebhookId),
    #[error("the webhook {0} is deleted")]
    Deleted(WebhookId),
}

/// Returns why a webhook receives nothing, or `None` when it receives its notifications.
pub(crate) async fn not_receiving(
    store: &Store,
    id: WebhookId,
) -> Result<Option<NotReceiving>, StoreError> {
    Ok(match store.webhook_paused(id).await? {
        Some(false) => None,
        Some(true) => Some(NotReceiving::Paused(id)),
        None => Some(NotReceiving::Deleted(id)),
    })
}
