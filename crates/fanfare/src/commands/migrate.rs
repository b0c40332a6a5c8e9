//! `fanfare migrate`: brings the database's tables up to date.

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

/// Applies what is missing, as soon as the database is there.
pub(crate) async fn run(settings: &Settings) -> anyhow::Result<()> {
    let store = wiring::store(settings, "migrate")?;
    let mut signals = Signals::new()?;
    // Migrations that are under way when the signal comes are rolled back by the database.
    let Migrated { applied, names } = tokio::select! {
        migrated = migrate(&store) => migrated?,
        signal = signals.next() => bail!("{signal} came before the database was migrated; run it again"),
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

/// What became of names that are compared in another way now.
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
        text = format!("{text}names that were taken for others: {}\n", names.join(", "));
    }
    if *documents > 0 {
        text.push_str(
            "names that are two were one in the directory, so every event is held until it is taken \
             in again: have the report server publish a directory.snapshot newer than what it has, or \
             run `fanfare directory import`\n",
        );
    }
    Some(text)
}

/// Migrates as soon as the database can be reached. What only a person can change ends the wait.
async fn migrate(store: &Store) -> Result<Migrated, StoreError> {
    let mut said = String::new();
    loop {
        match store.migrate().await {
            Err(error @ StoreError::Connect(_)) => {
                let reason = error.chain();
                if reason != said {
                    tracing::warn!(error = reason, "the database can't be reached; waiting for it");
                    said = reason;
                }
            }
            other => return other,
        }
        tokio::time::sleep(PAUSE).await;
    }
}
