//! The worker's metrics: each attempt, the number of open circuit breakers, and the offset of its
//! clock.

use std::time::Duration;

use chrono::{DateTime, Utc};
use fanfare_broker::Delay;
use fanfare_core::answer::Answer;
use fanfare_core::outcome::{Next, Outcome};

use crate::context::Context;

/// How often the gauges are set.
const EVERY: Duration = Duration::from_secs(1);

/// Sets the gauges repeatedly, and never returns.
pub(crate) async fn gauges(context: &Context) {
    let metrics = &context.config.metrics;
    loop {
        let (count, hosts) = context.limiter.open();
        metrics.breakers_open(count);
        context.config.open_breakers.set(hosts.iter().map(|host| &**host));
        if let Some(offset) = context.config.store.clock().offset() {
            metrics.clock_offset(offset.as_seconds_f64());
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// Counts an attempt that is in the ledger. `started_at` is when its series began.
pub(crate) fn attempt(
    context: &Context,
    answer: &Answer,
    duration: Duration,
    next: Next,
    started_at: DateTime<Utc>,
) {
    let metrics = &context.config.metrics;
    let status = match answer {
        Answer::Response { status, .. } => Some(*status),
        Answer::Failed { .. } => None,
    };
    metrics.attempt(Outcome::of(answer), status, duration);
    match next {
        Next::Delivered | Next::Gone => {
            // Clocks may differ, but a delivery is never earlier than its event.
            metrics.delivered((context.now() - started_at).to_std().unwrap_or_default());
        }
        Next::RetryIn(wait) => metrics.retry(Delay::at_least(wait).duration()),
        Next::Dead(reason) => metrics.dead_letter(reason),
    }
}
