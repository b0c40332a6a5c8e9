//! Attempts that are made alone: while one is, its worker attempts nothing else.
//!
//! It is what separates a delivery that ends its workers from those that happened to be under way
//! beside it. It costs everybody else the time until their attempts are over and the time of the
//! attempt itself; so the others get as much time again before the next one.

use std::time::{Duration, Instant};

use tokio::sync::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
use tokio::time::timeout;

/// How long an attempt waits for others that are to be made alone; then it comes back later.
const TURN: Duration = Duration::from_secs(1);

/// Who attempts beside whom.
#[derive(Debug)]
pub(crate) struct Solo {
    attempts: RwLock<()>,
    /// From when the next attempt may be made alone.
    turn: Mutex<Instant>,
}

/// The right to attempt something beside others.
pub(crate) type Beside<'a> = RwLockReadGuard<'a, ()>;

/// The right to attempt something alone.
pub(crate) struct Alone<'a> {
    turn: MutexGuard<'a, Instant>,
    asked: Instant,
    _attempts: RwLockWriteGuard<'a, ()>,
}

impl Solo {
    pub(crate) fn new() -> Self {
        Self { attempts: RwLock::new(()), turn: Mutex::new(Instant::now()) }
    }

    /// Waits while an attempt is made alone.
    pub(crate) async fn beside(&self) -> Beside<'_> {
        self.attempts.read().await
    }

    /// Waits until nothing else is under way, for `bound` at most. New attempts of others wait
    /// meanwhile. `None` when it is not possible now.
    pub(crate) async fn alone(&self, bound: Duration) -> Option<Alone<'_>> {
        let mut turn = timeout(TURN, self.turn.lock()).await.ok()?;
        let asked = Instant::now();
        if *turn > asked {
            return None;
        }
        if let Ok(attempts) = timeout(bound, self.attempts.write()).await {
            return Some(Alone { turn, asked, _attempts: attempts });
        }
        *turn = Instant::now() + asked.elapsed();
        None
    }
}

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        *self.turn = Instant::now() + self.asked.elapsed();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn an_attempt_alone_waits_for_others_and_others_wait_for_it() {
        let solo = Solo::new();
        let first = solo.beside().await;
        let alone = solo.alone(SOON);
        tokio::pin!(alone);
        assert!(futures_util::poll!(&mut alone).is_pending());
        let second = solo.beside();
        tokio::pin!(second);
        assert!(futures_util::poll!(&mut second).is_pending(), "it overtook the one alone");
        drop(first);
        let alone = alone.await.unwrap();
        assert!(futures_util::poll!(&mut second).is_pending());
        drop(alone);
        drop(second.await);
    }

    #[tokio::test]
    async fn others_do_not_wait_for_ever_for_an_attempt_alone() {
        let solo = Solo::new();
        let _first = solo.beside().await;
        assert!(solo.alone(Duration::from_millis(20)).await.is_none());
        drop(solo.beside().await);
        // They get as much time as they waited for.
        assert!(solo.alone(SOON).await.is_none());
    }
}
