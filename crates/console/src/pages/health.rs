//! The health of webhooks in a short form.

use std::collections::HashMap;

use fanfare_core::ids::WebhookId;
use fanfare_core::webhook::Webhook;
use fanfare_store::StoreError;
use fanfare_store::health::{Health as Counted, Last as LastAttempt};

use super::components::{Hour, Moment, Sparkline};
use crate::app::App;

/// The results of a webhook's recent attempts.
#[derive(Debug, Clone, Default)]
pub(super) struct Health {
    /// Whether the results are known.
    pub(super) known: bool,
    /// The last attempt.
    pub(super) last: Option<Last>,
    /// The share of the attempts in the last 24 hours that succeeded, as a text.
    pub(super) rate: Option<String>,
    pub(super) sparkline: Sparkline,
    /// The time since which every attempt has failed.
    pub(super) failing_since: Option<Moment>,
}

/// A finished attempt.
#[derive(Debug, Clone)]
pub(super) struct Last {
    pub(super) good: bool,
    /// The status, or the outcome's code when there was no answer.
    pub(super) result: String,
    pub(super) at: Moment,
}

/// Reads the health of each of these webhooks. If no console has run for a long time, it is unknown
/// until the attempts are counted.
pub(super) async fn of(
    app: &App,
    webhooks: &[Webhook],
) -> Result<HashMap<WebhookId, Health>, StoreError> {
    let ids: Vec<WebhookId> = webhooks.iter().map(|webhook| webhook.id).collect();
    let counted = app.store.health(&ids).await?.unwrap_or_default();
    let of_one = |webhook: &Webhook| {
        let health = counted.get(&webhook.id).map(health).unwrap_or_default();
        let failing_since = webhook.failing_since.map(Moment);
        (webhook.id, Health { failing_since, ..health })
    };
    Ok(webhooks.iter().map(of_one).collect())
}

fn health(counted: &Counted) -> Health {
    let hour = |hour: &fanfare_store::health::Hour| Hour {
        succeeded: hour.succeeded,
        failed: hour.failed,
    };
    let hours: Vec<Hour> = counted.hours.iter().map(hour).collect();
    let succeeded: u64 = hours.iter().map(|hour| hour.succeeded).sum();
    let all = succeeded + hours.iter().map(|hour| hour.failed).sum::<u64>();
    Health {
        known: true,
        last: counted.last.as_ref().map(last),
        rate: rate(succeeded, all),
        sparkline: Sparkline(hours),
        failing_since: None,
    }
}

/// The share in whole percent. It is 100 only if all attempts succeeded, and 0 only if none did.
fn rate(succeeded: u64, all: u64) -> Option<String> {
    let percent = (succeeded * 100).checked_div(all)?;
    Some(match percent {
        0 if succeeded > 0 => "under 1% ok".to_owned(),
        percent => format!("{percent}% ok"),
    })
}

fn last(attempt: &LastAttempt) -> Last {
    let result = match attempt.status {
        Some(status) => status.to_string(),
        None => attempt.outcome.clone(),
    };
    Last { good: is_good(&attempt.outcome), result, at: Moment(attempt.at) }
}

/// Whether the receiver accepted the notification. An answer that the receiver is gone does not
/// count.
fn is_good(outcome: &str) -> bool {
    outcome == "delivered"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_not_rounded_to_all_or_none() {
        assert_eq!(rate(0, 0), None);
        assert_eq!(rate(0, 9).as_deref(), Some("0% ok"));
        assert_eq!(rate(1, 1000).as_deref(), Some("under 1% ok"));
        assert_eq!(rate(999, 1000).as_deref(), Some("99% ok"));
        assert_eq!(rate(9, 9).as_deref(), Some("100% ok"));
    }
}
