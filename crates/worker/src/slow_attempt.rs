//! Slow attempts: an attempt that takes longer than usual gives back its permit and releases its job,
//! and goes on.
//!
//! Others get its permit at once. Its job is acknowledged as soon as the attempt has a claim in the
//! ledger: if the worker dies, the claim expires, the reconciler finds that the attempt was never
//! recorded, and publishes a job for it. Later attempts have a claim already.

use std::pin::Pin;
use std::time::Duration;

use fanfare_core::answer::{Answer, Failure};
use fanfare_core::outcome::{Next, Progress, decide};
use fanfare_failpoints::failpoint;
use futures_util::future::{Either, select};
use tokio::time::timeout;

use crate::claimer::RECORD_MARGIN;
use crate::context::Context;
use crate::delivery::RetrySeries;
use crate::ready::{Attempt, Holds};

/// How often a slow attempt checks for room among the slow ones, if there was none.
const RECHECK_SLOW: Duration = Duration::from_secs(1);

/// Waits for the answer of a POST, and gives back permit and job when it takes longer than usual.
pub(crate) async fn answer<T>(
    context: &Context,
    attempt: &Attempt<'_>,
    holds: &mut Holds<'_>,
    mut post: Pin<&mut impl Future<Output = T>>,
) -> T {
    let mut wait = holds.permit.slow_after();
    loop {
        if let Ok(answer) = timeout(wait, &mut post).await {
            return answer;
        }
        if holds.permit.slow_down() {
            break;
        }
        wait = RECHECK_SLOW;
    }
    holds.guard.release_permit();
    // Boxed because it is rare: the futures of thousands of attempts stay small.
    match select(post, Box::pin(release_job(context, attempt, holds))).await {
        // A claim that is made after the answer does no harm: the job is acknowledged after the record.
        Either::Left((answer, _)) => answer,
        Either::Right(((), post)) => post.await,
    }
}

/// Releases the job if the reconciler would publish the delivery again. It publishes no dead letters,
/// so an attempt that may lead to one keeps its job. So does a solo attempt.
async fn release_job(context: &Context, attempt: &Attempt<'_>, holds: &mut Holds<'_>) {
    if holds.is_solo || may_end(context, &attempt.series) {
        return;
    }
    if holds.held.is_some() || context.slow_claims.claim(attempt.due).await {
        failpoint!(WorkerReleases, [attempt.due]);
        holds.guard.release_job();
    }
}

/// Whether the delivery may be dead after this attempt.
fn may_end(context: &Context, series: &RetrySeries) -> bool {
    let longest = context.config.timeout + RECORD_MARGIN;
    let progress = Progress {
        attempts_in_series: u32::try_from(series.attempts_in_series + 1).unwrap_or(u32::MAX),
        since: series.started_at,
        now: context.now() + longest,
    };
    let failed = Answer::Failed { failure: Failure::Timeout, detail: String::new() };
    matches!(decide(&context.config.policy, &failed, progress, 1.0), Next::Dead(_))
}
