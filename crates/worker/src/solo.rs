//! Solo attempts: while one is made, its worker makes no other attempt.
//!
//! A solo attempt separates a delivery that ends its workers from the deliveries that happened to be
//! under way at the same time. It costs the others the time until their attempts are over, and the
//! time of the solo attempt. So they get as much time again before the next solo attempt.

use std::time::{Duration, Instant};

use tokio::sync::{Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
use tokio::time::timeout;

/// How long a solo attempt waits for other solo attempts before it is deferred.
const TURN: Duration = Duration::from_secs(1);

/// Separates solo attempts from all others.
#[derive(Debug)]
pub(crate) struct SoloLock {
    attempts: RwLock<()>,
    /// The time from which the next solo attempt may begin.
    turn: Mutex<Instant>,
}

/// The right to make an attempt while others are under way.
pub(crate) type SharedGuard<'a> = RwLockReadGuard<'a, ()>;

/// The exclusive right to make an attempt.
pub(crate) struct SoloGuard<'a> {
    turn: MutexGuard<'a, Instant>,
    asked: Instant,
    _attempts: RwLockWriteGuard<'a, ()>,
}

impl SoloLock {
    pub(crate) fn new() -> Self {
        Self { attempts: RwLock::new(()), turn: Mutex::new(Instant::now()) }
    }

    /// Waits while a solo attempt is under way.
    pub(crate) async fn shared(&self) -> SharedGuard<'_> {
        self.attempts.read().await
    }

    /// Waits at most `bound` until nothing else is under way. New attempts wait meanwhile. `None` when
    /// a solo attempt is not possible now.
    pub(crate) async fn solo(&self, bound: Duration) -> Option<SoloGuard<'_>> {
        let mut turn = timeout(TURN, self.turn.lock()).await.ok()?;
        let asked = Instant::now();
        if *turn > asked {
            return None;
        }
        if let Ok(attempts) = timeout(bound, self.attempts.write()).await {
            return Some(SoloGuard { turn, asked, _attempts: attempts });
        }
        *turn = Instant::now() + asked.elapsed();
        None
    }
}

impl Drop for SoloGuard<'_> {
    fn drop(&mut self) {
        *self.turn = Instant::now() + self.asked.elapsed();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn a_solo_attempt_waits_for_others_and_others_wait_for_it() {
        let solo = SoloLock::new();
        let first = solo.shared().await;
        let alone = solo.solo(SOON);
        tokio::pin!(alone);
        assert!(futures_util::poll!(&mut alone).is_pending());
        let second = solo.shared();
        tokio::pin!(second);
        assert!(futures_util::poll!(&mut second).is_pending(), "it overtook the solo attempt");
        drop(first);
        let alone = alone.await.unwrap();
        assert!(futures_util::poll!(&mut second).is_pending());
        drop(alone);
        drop(second.await);
    }

    #[tokio::test]
    async fn a_solo_attempt_that_can_not_begin_in_time_lets_others_go_first() {
        let solo = SoloLock::new();
        let _first = solo.shared().await;
        assert!(solo.solo(Duration::from_millis(20)).await.is_none());
        drop(solo.shared().await);
        // The others get as much time as they had to wait.
        assert!(solo.solo(SOON).await.is_none());
    }
}
