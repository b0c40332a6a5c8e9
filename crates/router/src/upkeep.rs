//! Upkeep: removes what is old, and tells of directory documents that seem to be lost.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use fanfare_core::revisions::{Gap, Hold};
use fanfare_store::directory::DirectoryState;
use fanfare_store::patience::patiently;
use tokio_util::sync::CancellationToken;

use crate::Config;
use crate::error::RouterError;

/// Versions of users and roles removed in one statement: each may have thousands of permissions.
const AT_A_TIME: i64 = 100;
/// Between two such statements, so that the database has time for others.
const PAUSE: Duration = Duration::from_millis(200);

pub(crate) async fn run(config: &Config, stop: &CancellationToken) -> Result<(), RouterError> {
    let (mut told, mut hold) = (Vec::new(), None);
    loop {
        patiently(stop, || config.store.claims_sweep()).await?;
        let state = patiently(stop, || config.store.directory_state()).await?;
        hold = tell_hold(&state, hold);
        told = tell_gaps(config, state, &told);
        let trim = || config.store.directory_trim(config.history, AT_A_TIME);
        let more = patiently(stop, trim).await? > 0;
        let pause = if more { PAUSE } else { config.reconcile_every };
        if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
            return Ok(());
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
