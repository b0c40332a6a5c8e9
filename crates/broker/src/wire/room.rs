//! The memory for large messages.
//!
//! RabbitMQ accepts messages of up to 128 MiB by default, and sends a consumer as many of them as
//! its prefetch allows. So a large body is admitted only while the process has room for it.
//! Otherwise the [filter](super::filter) leaves it out: an empty stub is delivered, and the broker
//! keeps the message, because it is not acknowledged. The consumer of a stub
//! [reserves](Room::reserve) room and requeues the message. When the message is redelivered, its
//! body is admitted.
//!
//! Small bodies always pass, because the prefetch bounds their number.

use crate::error::BrokerError;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// A body of at most this many bytes always passes. Nearly all jobs have less than half of it.
pub(crate) const SMALL: u64 = 128 * 1024;

/// The room for larger bodies, in KiB. A body that is larger than the whole room gets the whole
/// room.
const ROOM_KIB: u32 = 16 * 1024;

/// A requeued message is redelivered within milliseconds, unless another process gets it. After this
/// time another large message may have its room, so that a reservation never stops them all.
const RESERVED_ALONE: Duration = Duration::from_secs(1);

/// The time after which a reservation ends.
const RESERVED: Duration = Duration::from_secs(10);

/// The room of a process. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Room(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    free: Arc<Semaphore>,
    reserved: Mutex<Vec<Reserved>>,
}

/// A body's share of the room. It is free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Share(OwnedSemaphorePermit);

/// Room that is reserved for a message that was requeued.
#[derive(Debug)]
struct Reserved {
    share: Share,
    since: Instant,
    /// Dropped when the room is used, and closed when no consumer waits for the message any more.
    unused: oneshot::Sender<()>,
}

impl Default for Room {
    fn default() -> Self {
        let free = Arc::new(Semaphore::new(ROOM_KIB as usize));
        Self(Arc::new(Shared { free, reserved: Mutex::default() }))
    }
}

impl Room {
    /// Room for a body of this many bytes, if it is free now.
    fn take(&self, size: u64) -> Option<Share> {
        let wanted = kib(size);
        let mut reserved = self.reserved();
        let own = reserved.iter().position(|it| it.share.kib() == wanted);
        let other = || {
            reserved
                .iter()
                .position(|it| it.share.kib() >= wanted && it.since.elapsed() > RESERVED_ALONE)
        };
        if let Some(found) = own.or_else(other) {
            return Some(reserved.swap_remove(found).share);
        }
        Arc::clone(&self.0.free).try_acquire_many_owned(wanted).ok().map(Share)
    }

    /// Waits for room and reserves it for a message of this size that is about to be redelivered.
    /// The receiver ends when the room is used.
    async fn reserve(&self, size: u64) -> Option<oneshot::Receiver<()>> {
        let free = Arc::clone(&self.0.free);
        let share = Share(free.acquire_many_owned(kib(size)).await.ok()?);
        let (unused, used) = oneshot::channel();
        self.reserved().push(Reserved { share, since: Instant::now(), unused });
        Some(used)
    }

    /// Frees the room of messages that no consumer waits for any more.
    fn expire(&self) {
        self.reserved().retain(|it| !it.unused.is_closed());
    }

    fn reserved(&self) -> MutexGuard<'_, Vec<Reserved>> {
        self.0.reserved.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Share {
    fn kib(&self) -> u32 {
        u32::try_from(self.0.num_permits()).unwrap_or(u32::MAX)
    }
}

fn kib(size: u64) -> u32 {
    u32::try_from(size.div_ceil(1024)).unwrap_or(u32::MAX).min(ROOM_KIB)
}

/// The large bodies that a connection has admitted, until their consumers take over their shares.
#[derive(Clone, Debug, Default)]
pub(crate) struct Arrivals {
    room: Room,
    /// By channel and delivery tag.
    let_in: Arc<Mutex<HashMap<(u16, u64), Share>>>,
}

impl Arrivals {
    pub(crate) fn new(room: Room) -> Self {
        Self { room, let_in: Arc::default() }
    }

    /// Whether a delivery's body is admitted.
    pub(crate) fn admit(&self, channel: u16, tag: u64, size: u64) -> bool {
        if size <= SMALL {
            return true;
        }
        let Some(share) = self.room.take(size) else { return false };
        self.let_in().insert((channel, tag), share);
        true
    }

    /// The share of a delivery that was admitted, for the present holder of the message.
    pub(crate) fn share(&self, channel: u16, tag: u64) -> Option<Share> {
        self.let_in().remove(&(channel, tag))
    }

    /// Frees the shares of a channel that has ended.
    pub(crate) fn forget(&self, channel: u16) {
        self.let_in().retain(|(of, _), _| *of != channel);
    }

    fn let_in(&self) -> MutexGuard<'_, HashMap<(u16, u64), Share>> {
        self.let_in.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Messages whose bodies were left out and that are to be requeued. Messages that still wait for
/// room stay with their channel when this is dropped.
pub(crate) struct Returns {
    room: Room,
    waiting: JoinSet<()>,
}

impl Returns {
    pub(crate) fn new(arrivals: &Arrivals) -> Self {
        Self { room: arrivals.room.clone(), waiting: JoinSet::new() }
    }

    /// Requeues a message as soon as there is room for its body.
    pub(crate) fn add(
        &mut self,
        size: u64,
        give_back: impl Future<Output = Result<(), BrokerError>> + Send + 'static,
    ) {
        while self.waiting.try_join_next().is_some() {}
        let room = self.room.clone();
        self.waiting.spawn(async move {
            let expire = Expire(room);
            let Some(used) = expire.0.reserve(size).await else { return };
            // Without its channel the message is back in its queue, for the next consumer.
            if give_back.await.is_ok() {
                let _ = timeout(RESERVED, used).await;
            }
        });
    }

    /// Whether some of them have not been redelivered yet.
    pub(crate) fn is_waiting(&mut self) -> bool {
        while self.waiting.try_join_next().is_some() {}
        !self.waiting.is_empty()
    }
}

/// Frees the reservation of a message, however its task ends.
struct Expire(Room);

impl Drop for Expire {
    fn drop(&mut self) {
        self.0.expire();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    #[test]
    fn a_large_body_is_let_in_while_there_is_room() {
        let arrivals = Arrivals::default();
        assert!((1..=4).all(|tag| arrivals.admit(1, tag, 4 * MIB)));
        assert!(!arrivals.admit(1, 5, 4 * MIB));
        assert!(arrivals.admit(1, 6, SMALL), "small bodies always pass");
        drop(arrivals.share(1, 2));
        assert!(arrivals.admit(2, 1, 4 * MIB));
        assert!(!arrivals.admit(2, 2, 4 * MIB));
        arrivals.forget(1);
        assert!((2..=4).all(|tag| arrivals.admit(2, tag, 4 * MIB)));
    }

    #[test]
    fn a_body_larger_than_all_the_room_is_let_in_alone() {
        let arrivals = Arrivals::default();
        assert!(arrivals.admit(1, 1, 128 * MIB));
        assert!(!arrivals.admit(1, 2, SMALL + 1));
        drop(arrivals.share(1, 1));
        assert!(arrivals.admit(1, 2, SMALL + 1));
        assert!(!arrivals.admit(1, 3, u64::MAX));
    }

    #[tokio::test]
    async fn room_that_is_reserved_is_for_the_message_that_comes_again() {
        let arrivals = Arrivals::default();
        assert!(arrivals.admit(1, 1, 15 * MIB));
        let mut returns = Returns::new(&arrivals);
        let (given_back, is_given_back) = oneshot::channel();
        returns.add(5 * MIB, async {
            let _ = given_back.send(());
            Ok(())
        });
        tokio::task::yield_now().await;
        assert!(!arrivals.admit(1, 2, MIB), "one that waits for room comes first");
        drop(arrivals.share(1, 1));
        is_given_back.await.unwrap();
        assert!(!arrivals.admit(1, 3, 12 * MIB), "5 MiB are reserved");
        assert!(arrivals.admit(1, 4, 5 * MIB));
        assert!(arrivals.admit(1, 5, 11 * MIB));
        let mut ended = async || {
            while returns.is_waiting() {
                tokio::task::yield_now().await;
            }
        };
        timeout(RESERVED, ended()).await.expect("the message was redelivered");
    }

    #[tokio::test]
    async fn nothing_stays_reserved_without_a_channel_or_a_consumer() {
        let arrivals = Arrivals::default();
        let mut returns = Returns::new(&arrivals);
        let lost = || BrokerError::Lost { doing: String::new(), source: None };
        returns.add(16 * MIB, async move { Err(lost()) });
        while returns.is_waiting() {
            tokio::task::yield_now().await;
        }
        let (given_back, is_given_back) = oneshot::channel();
        returns.add(16 * MIB, async {
            let _ = given_back.send(());
            Ok(())
        });
        is_given_back.await.unwrap();
        assert!(!arrivals.admit(1, 1, MIB));
        drop(returns);
        while !arrivals.admit(1, 1, 16 * MIB) {
            tokio::task::yield_now().await;
        }
    }
}
