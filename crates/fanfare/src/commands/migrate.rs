//! `fanfare migrate`: creates or updates the database's tables.

use std::time::Duration;

use anyhow::bail;
use fanfare_store::directory::Refolded;
use fanfare_store::{Migrated, Store, StoreError};

use super::doctor;
use crate::lifecycle::Signals;
use crate::output;
use crate::settings::Settings;
use crate::wiring;

/// The pause between two attempts to reach the database.
const PAUSE: Duration = Duration::from_secs(1);

/// Applies the missing migrations, as soon as the database can be reached.
pub(crate) async fn run(settings: &Settings) -> anyhow::Result<()> {
    let store = wiring::store(settings, "migrate")?;
    let mut signals = Signals::new()?;
    // A signal during a migration closes the connection, and the database rolls the migration back.
    let Migrated { applied, names } = tokio::select! {
        migrated = migrate(&store) => migrated?,
        signal = signals.next() => bail!("{signal} came before the database was migrated; run `fanfare migrate` again"),
    };
    if let Some(note) = doctor::standbys(&store).await {
        output::note(&format!("fanfare: the database has standbys: {note}"));
    }
    let mut lines: Vec<String> = applied.iter().map(|name| format!("applied {name}\n")).collect();
    lines.extend(refolded(&names));
    if lines.is_empty() {
        return output::print("the database is up to date\n");
    }
    output::print(&lines.concat())
}

/// The report about names whose comparison has changed.
fn refolded(names: &Refolded) -> Option<String> {
    if *names == Refolded::default() {
        return None;
    }
    let Refolded { documents, webhooks, accounts, names } = names;
    let mut text = format!(
        "names are compared as the report server does now (ß is not ss): changed {documents} \
         directory documents, {webhooks} webhooks and {accounts} accounts\n"
    );
    if !names.is_empty() {
        let names: Vec<String> = names.iter().map(|name| format!("'{name}'")).collect();
        text = format!("{text}names that were confused with others before: {}\n", names.join(", "));
    }
    if *documents > 0 {
        text.push_str(
            "the directory treated two names as one, so every event is held until the directory is \
             imported again: have the report server publish a directory.snapshot with a newer \
             revision, or run `fanfare directory import`\n",
        );
    }
    Some(text)
}

/// Migrates as soon as the database can be reached. Stops waiting at an error that only a person can
/// resolve.
async fn migrate(store: &Store) -> Result<Migrated, StoreError> {
    let mut logged = String::new();
    loop {
        match store.migrate().await {
            Err(error @ StoreError::Connect(_)) => {
                let reason = error.chain();
                if reason != logged {
                    tracing::warn!(error = reason, "the database can't be reached; waiting for it");
                    logged = reason;
                }
            }
            other => return other,
        }
        tokio::time::sleep(PAUSE).await;
    }
}
