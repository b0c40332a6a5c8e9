//! The state of publishing: how many requests are served at a time, and the throttle of wrong tokens.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use super::problem::Problem;
use crate::auth::throttle::TokenThrottle;

/// The most requests whose bodies are read and published at a time. Each holds a body of at most
/// 1 MiB, and a few copies of it.
const MAX_IN_FLIGHT: usize = 64;
/// The longest wait for a turn.
const TURN_TIME: Duration = Duration::from_secs(3);

/// The state of publishing.
pub(crate) struct Publishing {
    turns: Semaphore,
    throttle: Mutex<TokenThrottle>,
}

impl Default for Publishing {
    fn default() -> Self {
        Self { turns: Semaphore::new(MAX_IN_FLIGHT), throttle: Mutex::default() }
    }
}

impl Publishing {
    pub(super) fn throttle(&self) -> MutexGuard<'_, TokenThrottle> {
        self.throttle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) async fn turn(&self) -> Result<SemaphorePermit<'_>, Problem> {
        match timeout(TURN_TIME, self.turns.acquire()).await {
            Ok(Ok(turn)) => Ok(turn),
            _ => Err(Problem::Busy),
        }
    }
}
