//! How webhooks do, at a glance.

use std::collections::HashMap;
use std::time::Duration;

use fanfare_core::ids::WebhookId;
use fanfare_core::webhook::Webhook;
use fanfare_store::StoreError;
use fanfare_store::statistics::{Hour as Counted, LastAttempt, Statistics, StatisticsFilter};
use futures_util::StreamExt as _;
use tokio::time::{Instant, timeout_at};

use super::parts::{Hour, Moment, Sparkline};
use crate::app::App;

/// The hours that are shown.
const HOURS: u32 = 24;
/// Webhooks that are asked about at a time.
const AT_A_TIME: usize = 4;
/// The longest that a page waits for this: what is not known by then is not shown.
const LONGEST: Duration = Duration::from_secs(2);
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

/// How each of these webhooks does, as far as can be found out soon.
pub(super) async fn of(
    app: &App,
    webhooks: &[Webhook],
) -> Result<HashMap<WebhookId, Health>, StoreError> {
    let ids: Vec<WebhookId> = webhooks.iter().map(|webhook| webhook.id).collect();
    let asked = ids.into_iter().map(|id| async move { (id, ask(app, id).await) });
    let mut answers = futures_util::stream::iter(asked).buffer_unordered(AT_A_TIME);
    let mut found: HashMap<WebhookId, Health> = HashMap::new();
    let end = Instant::now() + LONGEST;
    while let Ok(Some((id, statistics))) = timeout_at(end, answers.next()).await {
        found.insert(id, health(&statistics?));
    }
    for webhook in webhooks {
        found.entry(webhook.id).or_default().failing_since = webhook.failing_since.map(Moment);
    }
    Ok(found)
}

async fn ask(app: &App, id: WebhookId) -> Result<Statistics, StoreError> {
    let filter = StatisticsFilter {
        webhook: Some(id),
        owner: None,
        hours: HOURS,
        longest_chain: app.longest_chain,
    };
    app.store.statistics(&filter).await
}

fn health(statistics: &Statistics) -> Health {
    let hours: Vec<Hour> = statistics.hours.iter().map(hour).collect();
    let succeeded: u64 = hours.iter().map(|hour| hour.succeeded).sum();
    let all = succeeded + hours.iter().map(|hour| hour.failed).sum::<u64>();
    Health {
        known: true,
        last: statistics.last.as_ref().map(last),
        rate: rate(succeeded, all),
        sparkline: Sparkline(hours),
        failing_since: None,
    }
}

fn hour(counted: &Counted) -> Hour {
    let mut hour = Hour::default();
    for (outcome, count) in &counted.outcomes {
        let count = u64::try_from(*count).unwrap_or_default();
        if is_good(outcome) {
            hour.succeeded += count;
        } else {
            hour.failed += count;
        }
    }
    hour
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
