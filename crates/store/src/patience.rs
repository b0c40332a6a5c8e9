//! Waiting for a database that is away.
//!
//! Whoever holds a message holds on to it while the database is away: giving it back would only
//! move it round and round. One warning says that the wait began, one line that it ended, however
//! many wait in this process.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::error::StoreError;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Whether this process has said that it waits.
static WAITING: AtomicBool = AtomicBool::new(false);

/// Why a patient call ended without success.
#[derive(Debug, thiserror::Error)]
pub enum Impatient {
    /// The process is stopping.
    #[error("the process is stopping while the database is away")]
    Stopping,
    /// The database refused the data of this call; it would do so again.
    #[error(transparent)]
    Refused(StoreError),
}

/// Calls until the database has answered, the process stops, or the database refuses the data.
pub async fn patiently<T, Answer: Future<Output = Result<T, StoreError>>>(
    stop: &CancellationToken,
    mut call: impl FnMut() -> Answer,
) -> Result<T, Impatient> {
    let mut pause = FIRST_PAUSE;
    let mut waited = false;
    loop {
        let error = match call().await {
            Ok(value) => {
                if waited && WAITING.swap(false, Ordering::Relaxed) {
                    tracing::info!("the database answers again");
                }
                return Ok(value);
            }
            Err(error) if error.is_refusal() => return Err(Impatient::Refused(error)),
            Err(error) => error,
        };
        if !WAITING.swap(true, Ordering::Relaxed) {
            tracing::warn!(error = error.chain(), "waiting for the database");
        }
        waited = true;
        if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
            return Err(Impatient::Stopping);
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}
