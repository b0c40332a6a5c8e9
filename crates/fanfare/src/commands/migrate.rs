//! `fanfare migrate`: brings the database's tables up to date.

use std::time::Duration;

use anyhow::bail;
use fanfare_store::{Store, StoreError};

use super::doctor;
use crate::lifecycle::Signals;
use crate::output;
use crate::parts;
use crate::settings::Settings;

/// The pause between two attempts to reach the database.
const PAUSE: Duration = Duration::from_secs(1);

/// Applies what is missing, as soon as the database is there.
pub(crate) async fn run(settings: &Settings) -> anyhow::Result<()> {
    let store = parts::store(settings, "migrate")?;
    let mut signals = Signals::new()?;
    // Migrations that are under way when the signal comes are rolled back by the database.
    let applied = tokio::select! {
        applied = migrate(&store) => applied?,
        signal = signals.next() => bail!("{signal} came before the database was migrated; run it again"),
    };
    if let Some(note) = doctor::standbys(&store).await {
        output::note(&format!("fanfare: the database has standbys: {note}"));
    }
    let lines: Vec<String> = applied.iter().map(|name| format!("applied {name}\n")).collect();
    if lines.is_empty() {
        return output::print("the database is up to date\n");
    }
    output::print(&lines.concat())
}

async fn migrate(store: &Store) -> Result<Vec<String>, StoreError> {
    loop {
        match store.migrate().await {
            Err(error @ StoreError::Connect(_)) => {
                tracing::warn!(
                    error = error.chain(),
                    "the database can't be reached; waiting for it"
                );
            }
            other => return other,
        }
        tokio::time::sleep(PAUSE).await;
    }
}
