//! The health of a webhook's address: when it began to fail, and when it has failed for too long.

use std::time::Duration;

use chrono::{DateTime, Utc};
use fanfare_core::webhook::{PauseReason, Webhook};

use crate::context::Context;
use crate::delivery::RetrySeries;
use crate::error::WorkerError;

/// A change of a webhook's health by an attempt.
pub(crate) enum Health {
    /// It has recovered.
    Recovered,
    /// It has begun to fail.
    Failing,
    /// It still fails; it began at this time.
    StillFailing(DateTime<Utc>),
}

/// The change of a webhook's health. A single failure whose retry succeeds changes nothing.
pub(crate) fn changed_health(
    webhook: &Webhook,
    series: &RetrySeries,
    success: bool,
) -> Option<Health> {
    match (success, webhook.failing_since) {
        (true, Some(_)) => Some(Health::Recovered),
        (false, None) if series.attempts_in_series > 0 => Some(Health::Failing),
        (false, Some(since)) if series.attempts_in_series > 0 => Some(Health::StillFailing(since)),
        _ => None,
    }
}

/// Failures that are farther apart than this, and than two retries of a delivery, do not count as one
/// long failure, because nothing was sent in between.
const SILENCE: Duration = Duration::from_hours(1);

/// Stores when a webhook's address began to fail, and pauses the webhook when it has failed for too
/// long.
pub(crate) async fn note_health(
    context: &Context,
    webhook: &Webhook,
    health: Health,
) -> Result<(), WorkerError> {
    let store = &context.config.store;
    let (id, uri) = (webhook.id, &webhook.uri);
    match health {
        Health::Recovered => {
            context.retry_until_available(|| store.address_failing(id, uri, None)).await
        }
        Health::Failing => {
            let since = Some(context.now());
            context.retry_until_available(|| store.address_failing(id, uri, since)).await
        }
        Health::StillFailing(since) => {
            let pause_after = context.config.pause_after;
            let failing = (context.now() - since).to_std().unwrap_or_default();
            if failing < pause_after {
                return Ok(());
            }
            let gap = SILENCE.max(2 * context.config.policy.max_delay);
            let pause = || store.address_pause_failing(id, uri, pause_after, gap);
            if context.retry_until_available(pause).await? {
                context.config.metrics.paused(&PauseReason::Failing);
                tracing::warn!(
                    webhook.id = %id, webhook.origin = uri.origin(), %since,
                    "paused a webhook whose attempts all failed for too long"
                );
            }
            Ok(())
        }
    }
}
