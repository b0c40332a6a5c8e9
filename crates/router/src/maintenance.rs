//! Maintenance: removes old rows, and warns of directory documents that seem to be lost.

use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use fanfare_core::revisions::{Gap, Hold};
use fanfare_store::directory::DirectoryState;
use fanfare_store::retry::{QueryError, retry_until_available};
use tokio_util::sync::CancellationToken;

use crate::Config;
use crate::error::RouterError;

/// The versions of users and roles that one statement removes: each may have thousands of permissions.
const BATCH: i64 = 100;
/// The pages of the table of claims that one statement sweeps: a few megabytes.
const PAGES: i64 = 1000;
/// The time between two checks for the next months of the audit trail.
const PARTITIONS_EVERY: Duration = Duration::from_hours(6);
/// The pause between two such statements, so that the database has time for others.
const PAUSE: Duration = Duration::from_millis(200);

pub(crate) async fn run(config: &Config, stop: &CancellationToken) -> Result<(), RouterError> {
    let (mut logged, mut hold) = (Vec::new(), None);
    let (mut page, mut partitions_at) = (0, None);
    loop {
        let sweep = retry_until_available(stop, || config.store.claims_sweep(page, PAGES)).await;
        page = or_later(sweep, "remove old claims")?.unwrap_or(0);
        let paces = retry_until_available(stop, || config.store.paces_sweep()).await;
        or_later(paces, "remove old paces of webhooks")?;
        if partitions_at.is_none_or(|at: Instant| at.elapsed() >= PARTITIONS_EVERY) {
            let partitions = || config.store.audit_make_partitions();
            let made = retry_until_available(stop, partitions).await;
            or_later(made, "make partitions of the audit trail")?;
            partitions_at = Some(Instant::now());
        }
        let state = retry_until_available(stop, || config.store.directory_state()).await;
        if let Some(state) = or_later(state, "read the directory's state")? {
            hold = log_hold(&state, hold);
            logged = log_gaps(config, state, &logged);
        }
        let trim = || config.store.directory_trim(config.history, BATCH);
        let trimmed =
            or_later(retry_until_available(stop, trim).await, "trim the directory's history")?;
        let more = trimmed.is_some_and(|removed| removed > 0);
        let pause = if more { PAUSE } else { 2 * config.reconcile_every };
        if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
            return Ok(());
        }
    }
}

/// The result of a statement; `None` if it fails although the database is available. Such a failure
/// does not stop routing: the statement is tried again the next time.
fn or_later<T>(result: Result<T, QueryError>, doing: &str) -> Result<Option<T>, RouterError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(QueryError::ShuttingDown) => Err(RouterError::Stopping),
        Err(QueryError::Rejected(error) | QueryError::Failing(error)) => {
            tracing::warn!(error = error.chain(), "failed to {doing}; it is tried again later");
            Ok(None)
        }
    }
}

/// Warns once of gaps that are too old to be filled by late documents, and logs when all are filled.
fn log_gaps(
    config: &Config,
    state: DirectoryState,
    logged: &[Gap<DateTime<Utc>>],
) -> Vec<Gap<DateTime<Utc>>> {
    let wait = TimeDelta::from_std(config.gap_wait).unwrap_or(TimeDelta::MAX);
    let mut gaps = state.revisions.gaps;
    gaps.retain(|gap| (config.clock)().signed_duration_since(gap.noticed) > wait);
    let gauges = config.metrics.system();
    gauges.directory(state.revisions.newest, gaps.iter().map(|gap| (gap.first, gap.last)));
    gauges.directory_hold(state.hold, state.voids.len());
    let mut new = gaps.iter().filter(|gap| !logged.contains(gap));
    if let Some(first) = new.next() {
        tracing::warn!(
            first = first.first,
            last = new.next_back().unwrap_or(first).last,
            newest = state.revisions.newest,
            "directory revisions between these are missing, so events that ask for a later one are \
             held, or judged by permissions that may be out of date if FANFARE_DIRECTORY_GAP is pass; \
             have the report server publish a directory.snapshot (`fanfare doctor` lists them)"
        );
    }
    if gaps.is_empty() && !logged.is_empty() {
        tracing::info!(
            newest = state.revisions.newest,
            "no directory revision is missing any longer"
        );
    }
    gaps
}

/// Logs that every event is held, and why, and that events are no longer held.
fn log_hold(state: &DirectoryState, before: Option<Hold>) -> Option<Hold> {
    let newest = state.revisions.newest;
    match state.hold {
        hold if hold == before => {}
        Some(Hold::Incomplete) => tracing::warn!(
            newest,
            "the directory is not complete, so every event is held; have the report server publish a \
             directory.snapshot, or run `fanfare directory import`"
        ),
        Some(Hold::SnapshotRefused) => tracing::error!(
            newest,
            why = state.refusals.last().map_or("", |refusal| refusal.why.as_str()),
            "a directory snapshot was refused, so every event is held; have the report server publish \
             a newer one, or run `fanfare directory import` or `fanfare directory accept-refused`"
        ),
        None => tracing::info!(newest, "events are no longer held"),
    }
    state.hold
}
