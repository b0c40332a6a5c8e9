//! Upkeep: removes what is old, and tells of directory documents that seem to be lost.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use fanfare_core::revisions::{Gap, Hold};
use fanfare_store::directory::DirectoryState;
use fanfare_store::patience::{Impatient, patiently};
use tokio_util::sync::CancellationToken;

use crate::Config;
use crate::error::RouterError;

/// Versions of users and roles removed in one statement: each may have thousands of permissions.
const AT_A_TIME: i64 = 100;
/// Pages of the claims' table swept in one statement: a few megabytes.
const PAGES: i64 = 1000;
/// Between two such statements, so that the database has time for others.
const PAUSE: Duration = Duration::from_millis(200);

pub(crate) async fn run(config: &Config, stop: &CancellationToken) -> Result<(), RouterError> {
    let (mut told, mut hold) = (Vec::new(), None);
    let mut page = 0;
    loop {
        let sweep = patiently(stop, || config.store.claims_sweep(page, PAGES)).await;
        page = or_later(sweep, "remove old claims")?.unwrap_or(0);
        let paces = patiently(stop, || config.store.paces_sweep()).await;
        or_later(paces, "remove old paces of webhooks")?;
        let state = patiently(stop, || config.store.directory_state()).await;
        if let Some(state) = or_later(state, "read the directory's state")? {
            hold = tell_hold(&state, hold);
            told = tell_gaps(config, state, &told);
        }
        let trim = || config.store.directory_trim(config.history, AT_A_TIME);
        let trimmed = or_later(patiently(stop, trim).await, "trim the directory's history")?;
        let more = trimmed.is_some_and(|removed| removed > 0);
        let pause = if more { PAUSE } else { 2 * config.reconcile_every };
        if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
            return Ok(());
        }
    }
}

/// What a statement answered; `None` when it fails although the database answers. That is no reason
/// to stop routing: it is tried again the next time.
fn or_later<T>(result: Result<T, Impatient>, doing: &str) -> Result<Option<T>, RouterError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Impatient::Stopping) => Err(RouterError::Stopping),
        Err(Impatient::Refused(error) | Impatient::Failing(error)) => {
            tracing::warn!(error = error.chain(), "failed to {doing}; it is tried again later");
            Ok(None)
        }
    }
}

/// Tells of gaps that are too old to fill by themselves, once, and of those that were filled.
fn tell_gaps(
    config: &Config,
    state: DirectoryState,
    told: &[Gap<DateTime<Utc>>],
) -> Vec<Gap<DateTime<Utc>>> {
    let wait = TimeDelta::from_std(config.gap_wait).unwrap_or(TimeDelta::MAX);
    let mut gaps = state.revisions.gaps;
    gaps.retain(|gap| (config.clock)().signed_duration_since(gap.noticed) > wait);
    let standing = config.metrics.standing();
    standing.directory(state.revisions.newest, gaps.iter().map(|gap| (gap.first, gap.last)));
    standing.directory_hold(state.hold, state.voids.len());
    let mut new = gaps.iter().filter(|gap| !told.contains(gap));
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
    if gaps.is_empty() && !told.is_empty() {
        tracing::info!(
            newest = state.revisions.newest,
            "no directory revision is missing any more"
        );
    }
    gaps
}

/// Reports that every event is held, and why, and that none is any more.
fn tell_hold(state: &DirectoryState, before: Option<Hold>) -> Option<Hold> {
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
