//! How webhooks do, at a glance.

use std::collections::HashMap;

use fanfare_core::ids::WebhookId;
use fanfare_core::webhook::Webhook;
use fanfare_store::StoreError;
use fanfare_store::health::{Health as Counted, Last as LastAttempt};

use super::components::{Hour, Moment, Sparkline};
use crate::app::App;

/// How a webhook did lately.
#[derive(Debug, Clone, Default)]
pub(super) struct Health {
    /// Whether it could be found out.
    pub(super) known: bool,
    /// The last attempt of all.
    pub(super) last: Option<Last>,
    /// Which part of the attempts of the last 24 hours succeeded, as text.
    pub(super) rate: Option<String>,
    pub(super) sparkline: Sparkline,
    /// Since when every retry failed.
    pub(super) failing_since: Option<Moment>,
}

/// An attempt.
#[derive(Debug, Clone)]
pub(super) struct Last {
    pub(super) good: bool,
    /// The status, or the outcome's code when there was no answer.
    pub(super) result: String,
    pub(super) at: Moment,
}

/// How each of these webhooks does. After a long time without a console there is nothing to tell
/// until attempts are counted again.
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

/// In whole percent, but 100 only when all succeeded, and 0 only when none did.
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

/// A receiver that says that it is gone took nothing.
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
