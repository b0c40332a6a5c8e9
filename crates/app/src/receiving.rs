//! Whether a webhook is sent anything.
//!
//! An attempt for a webhook that is paused or deleted is only dropped. A delivery that a person asks
//! for again would so leave the dead ones, and a later resend would not find it.

use fanfare_core::ids::WebhookId;
use fanfare_store::{Store, StoreError};

/// Why a webhook is sent nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotReceiving {
    /// It is paused; its owner or an administrator may resume it.
    #[error("the webhook {0} is paused")]
    Paused(WebhookId),
    /// It is deleted.
    #[error("the webhook {0} is deleted")]
    Deleted(WebhookId),
}

/// Why a webhook is sent nothing; `None` when it is sent its notifications.
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
