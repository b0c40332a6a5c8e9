//! The end of a delivery without another attempt: it is dropped, or given up.

use fanfare_core::job::AttemptRef;
use fanfare_core::outcome::{DeadReason, DropReason, State};
use fanfare_failpoints::failpoint;
use fanfare_store::attempts::Entry;

use crate::context::Context;
use crate::delivery::RetrySeries;
use crate::error::WorkerError;
use crate::follow_up::FollowUp;
use crate::recorder::Recorded;

/// Records that a delivery is dropped. Returns the follow-up if another attempt wrote the row before.
pub(super) async fn drop_delivery(
    context: &Context,
    due: AttemptRef,
    series: RetrySeries,
    reason: DropReason,
    detail: String,
) -> Result<Option<FollowUp>, WorkerError> {
    let code = reason.code();
    tracing::info!(webhook.id = %due.webhook, delivery.id = %due.id(), reason = code, detail, "dropped a delivery");
    context.config.metrics.dropped(reason);
    let entry = without_post(context, due, series, State::Dropped, code);
    let entry = Entry { detail: Some(detail), ..entry };
    let recorded = context.recorder.record(entry).await?;
    failpoint!(WorkerRecords, [due]);
    match recorded {
        Recorded::Ours => Ok(None),
        Recorded::Another => FollowUp::of_row(context, due).await,
    }
}

/// Records that a delivery is given up without another attempt; returns the dead letter.
pub(super) async fn give_up(
    context: &Context,
    due: AttemptRef,
    series: RetrySeries,
    reason: DeadReason,
) -> Result<Option<FollowUp>, WorkerError> {
    let code = reason.code();
    tracing::warn!(webhook.id = %due.webhook, delivery.id = %due.id(), reason = code, "gave up a delivery");
    context.config.metrics.dead_letter(reason);
    let entry = without_post(context, due, series, State::Dead, code);
    context.recorder.record(entry).await?;
    failpoint!(WorkerRecords, [due]);
    FollowUp::of_row(context, due).await
}

fn without_post(
    context: &Context,
    due: AttemptRef,
    series: RetrySeries,
    state: State,
    reason: &'static str,
) -> Entry {
    Entry {
        due,
        attempt: series.attempts,
        tries: series.attempts_in_series,
        since: series.started_at,
        state,
        reason: Some(reason),
        detail: None,
        post: None,
        at: context.now(),
        next_attempt_at: None,
        revision: series.revision,
    }
}
