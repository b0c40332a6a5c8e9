//! Samples of the database's clock.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::DatabaseClock;
use crate::error::StoreError;
use crate::pool::Store;
use crate::rows::Columns as _;
use crate::statement::Cached;

/// The time between two samples of [`Store::keep_clock`].
const SAMPLE_EVERY: Duration = Duration::from_secs(1);

/// The longest that a sample may take. A slower one would be too inexact to help.
const SAMPLE_TIME: Duration = Duration::from_secs(5);

impl Store {
    /// The database's clock, by the samples of this process.
    #[must_use]
    pub fn clock(&self) -> &DatabaseClock {
        &self.clock
    }

    /// Takes a sample of the database's clock.
    pub async fn sample_clock(&self) -> Result<(), StoreError> {
        const SQL: &str = "-- clock\nselect clock_timestamp() as now";
        let client = self.connection("ask for the time").await?;
        let asked = Instant::now();
        let row = client.query_one(&Cached(SQL), &[]).await;
        let answered = Instant::now();
        self.clock.note(asked, answered, row?.column("now")?);
        Ok(())
    }

    /// Takes a sample every second until `stop` is cancelled, and calls `on_sample` after each.
    pub async fn keep_clock(&self, stop: &CancellationToken, on_sample: impl Fn(&DatabaseClock)) {
        let keep = async {
            loop {
                tokio::time::sleep(SAMPLE_EVERY).await;
                match tokio::time::timeout(SAMPLE_TIME, self.sample_clock()).await {
                    Ok(Ok(())) => on_sample(&self.clock),
                    Ok(Err(error)) => {
                        tracing::debug!(error = error.chain(), "failed to ask for the time");
                    }
                    Err(_) => tracing::debug!(
                        "the database did not answer in time when asked for the time"
                    ),
                }
            }
        };
        stop.run_until_cancelled(keep).await.unwrap_or(());
    }
}
