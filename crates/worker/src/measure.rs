//! What a worker adds to the metrics: each attempt, how many breakers are open, and how
//! far its clock is off.

use std::time::Duration;

use chrono::{DateTime, Utc};
use fanfare_broker::Delay;
use fanfare_core::answer::Answer;
use fanfare_core::outcome::{Next, Outcome};

use crate::context::Context;

/// How often the gauges are set.
const EVERY: Duration = Duration::from_secs(1);

/// Sets what is not counted as it happens, for ever.
pub(crate) async fn gauges(context: &Context) {
    let metrics = &context.config.metrics;
    loop {
        metrics.breakers_open(context.gate.open());
        if let Some(offset) = context.config.store.clock().offset() {
            metrics.clock_offset(offset.as_seconds_f64());
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// Counts an attempt that is in the ledger. `since` is when its chain began.
pub(crate) fn attempt(
    context: &Context,
    answer: &Answer,
    duration: Duration,
    next: Next,
    since: DateTime<Utc>,
) {
    let metrics = &context.config.metrics;
    let status = match answer {
        Answer::Response { status, .. } => Some(*status),
        Answer::Failed { .. } => None,
    };
    metrics.attempt(Outcome::of(answer), status, duration);
    match next {
        Next::Delivered | Next::Gone => {
            // Clocks may differ; a delivery is not sooner than its event.
            metrics.delivered((context.now() - since).to_std().unwrap_or_default());
        }
        Next::RetryIn(wait) => metrics.retry(Delay::at_least(wait).duration()),
        Next::Dead(reason) => metrics.dead_letter(reason),
    }
}
