//! The slots of the connections: which connection holds which slot, and which one is evicted when
//! all slots are in use.
//!
//! A connection that waits is evicted first: one between requests, one that waits for the rest of a
//! request's head, or one whose peer does not read. Among those, the address with the most
//! connections loses the connection that has waited longest. If no connection waits, an address
//! with more connections than the newcomer's loses its oldest one. So no address can keep the
//! others out, and a proxy, which has the most connections, loses the ones that it does not use.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::Limits;

/// How long a peer may leave its answer unread before its connection counts as one that waits.
const SLOW: Duration = Duration::from_secs(1);

#[derive(Clone)]
pub(super) struct Slots(Arc<Mutex<SlotTable>>);

struct SlotTable {
    most: usize,
    next_id: u64,
    by_id: HashMap<u64, Holder>,
    by_peer: HashMap<IpAddr, usize>,
}

struct Holder {
    peer: IpAddr,
    activity: Arc<Activity>,
    evicted: CancellationToken,
}

/// A slot. It becomes free when this is dropped.
pub(super) struct Slot {
    slots: Slots,
    id: u64,
    activity: Arc<Activity>,
    evicted: CancellationToken,
}

/// The state of a connection, as far as it decides about eviction and time limits.
#[derive(Debug)]
pub(super) struct Activity(Mutex<State>);

#[derive(Debug)]
struct State {
    /// The number of requests that are being answered.
    answering: usize,
    /// The time since which the peer has read nothing of its answer.
    stalled: Option<Instant>,
    /// The time of the last read or write.
    moved: Instant,
    /// The time since which a request's head is being read.
    head: Option<Instant>,
    /// Whether the next bytes may still belong to the last request.
    may_have_body: bool,
}

/// A guard that counts a request as being answered until it is dropped.
pub(super) struct Answering(Arc<Activity>);

impl Slots {
    pub(super) fn new(most: usize) -> Self {
        let table = SlotTable { most, next_id: 0, by_id: HashMap::new(), by_peer: HashMap::new() };
        Self(Arc::new(Mutex::new(table)))
    }

    /// Takes a slot for a connection from this address, and evicts another connection if it must.
    /// Returns `None` when all connections are in use and no address has more of them than this
    /// one.
    pub(super) fn take(&self, peer: IpAddr) -> Option<Slot> {
        let mut table = self.table();
        if table.by_id.len() >= table.most {
            let evictable = table.evictable(peer, Instant::now())?;
            // The slot is free at once; the evicted connection ends within moments.
            if let Some(holder) = table.remove(evictable) {
                holder.evicted.cancel();
            }
        }
        let id = table.next_id;
        table.next_id += 1;
        let (activity, evicted) = (Arc::<Activity>::default(), CancellationToken::new());
        let holder = Holder { peer, activity: Arc::clone(&activity), evicted: evicted.clone() };
        table.by_id.insert(id, holder);
        *table.by_peer.entry(peer).or_default() += 1;
        Some(Slot { slots: self.clone(), id, activity, evicted })
    }

    fn table(&self) -> MutexGuard<'_, SlotTable> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SlotTable {
    /// The id of the connection to evict for one from this address.
    fn evictable(&self, newcomer: IpAddr, now: Instant) -> Option<u64> {
        let count = |peer: &IpAddr| self.by_peer.get(peer).copied().unwrap_or(0);
        let waiting = self.by_id.iter().filter_map(|(id, holder)| {
            let since = holder.activity.waits_since(now)?;
            Some((count(&holder.peer), now.saturating_duration_since(since), *id))
        });
        if let Some((_, _, id)) = waiting.max() {
            return Some(id);
        }
        let own = count(&newcomer);
        let others = self.by_id.iter().filter(|(_, holder)| count(&holder.peer) > own + 1);
        // Evict the oldest connection of the address with the most; the oldest has the lowest id.
        others.max_by_key(|(id, holder)| (count(&holder.peer), u64::MAX - **id)).map(|(id, _)| *id)
    }

    fn remove(&mut self, id: u64) -> Option<Holder> {
        let holder = self.by_id.remove(&id)?;
        if let Some(count) = self.by_peer.get_mut(&holder.peer) {
            *count -= 1;
            if *count == 0 {
                self.by_peer.remove(&holder.peer);
            }
        }
        Some(holder)
    }
}

impl Slot {
    pub(super) fn activity(&self) -> &Arc<Activity> {
        &self.activity
    }

    /// Waits until the peer has taken too long to send a request.
    pub(super) async fn overdue(&self, limits: Limits) {
        loop {
            let now = Instant::now();
            let left = match self.activity.due(limits) {
                Some(due) if due <= now => return,
                Some(due) => due.saturating_duration_since(now),
                None => limits.head,
            };
            // A request that begins in the meantime may have an earlier deadline.
            sleep(left.min(limits.head).min(limits.idle)).await;
        }
    }

    /// Waits until the slot is given to another connection.
    pub(super) async fn evicted(&self) {
        self.evicted.cancelled().await;
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.table().remove(self.id);
    }
}

impl Default for Activity {
    fn default() -> Self {
        let now = Instant::now();
        let head = Some(now);
        let (answering, stalled, may_have_body) = (0, None, false);
        Self(Mutex::new(State { answering, stalled, moved: now, head, may_have_body }))
    }
}

impl Activity {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that something was written.
    pub(super) fn wrote(&self) {
        self.state().moved = Instant::now();
    }

    /// Records that something was read.
    pub(super) fn read(&self) {
        let mut state = self.state();
        state.moved = Instant::now();
        if state.answering == 0 && !state.may_have_body {
            state.head = state.head.or(Some(state.moved));
        }
    }

    /// The time by which the peer must have sent a request; `None` while one is being answered.
    fn due(&self, limits: Limits) -> Option<Instant> {
        let state = self.state();
        match state.head {
            _ if state.answering > 0 => None,
            Some(since) => Some(since + limits.head),
            None => Some(state.moved + limits.idle),
        }
    }

    /// Records that a write waits for the peer.
    pub(super) fn stalls(&self) {
        self.state().stalled = Some(Instant::now());
    }

    /// Records that no write waits for the peer any more.
    pub(super) fn flows(&self) {
        self.state().stalled = None;
    }

    /// Counts a request as being answered until the result is dropped.
    pub(super) fn answering(self: &Arc<Self>, has_body: bool) -> Answering {
        let mut state = self.state();
        state.answering += 1;
        state.head = None;
        state.may_have_body = has_body;
        drop(state);
        Answering(Arc::clone(self))
    }

    /// The time since which the connection waits for its peer; `None` while the peer waits for the
    /// server.
    fn waits_since(&self, now: Instant) -> Option<Instant> {
        let state = self.state();
        match state.stalled {
            Some(since) => (now.saturating_duration_since(since) >= SLOW).then_some(since),
            None if state.answering > 0 => None,
            None => Some(state.moved),
        }
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.answering -= 1;
        state.moved = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(n: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, n])
    }

    fn is_evicted(slot: &Slot) -> bool {
        slot.evicted.is_cancelled()
    }

    #[test]
    fn the_connection_that_waits_longest_gives_up_its_slot() {
        let slots = Slots::new(3);
        let mut first: Vec<Slot> = (0..3).map(|_| slots.take(peer(1)).unwrap()).collect();
        first[0].activity().wrote();
        let _fourth = slots.take(peer(1)).unwrap();
        assert_eq!(first.iter().map(is_evicted).collect::<Vec<_>>(), [false, true, false]);
        // An evicted connection does not free a second slot when it ends.
        first.remove(1);
        assert_eq!(slots.table().by_id.len(), 3);
    }

    #[test]
    fn connections_in_use_stay_unless_their_address_has_more_than_the_newcomers() {
        let slots = Slots::new(3);
        let busy: Vec<(Slot, Answering)> = (0..3)
            .map(|_| {
                let slot = slots.take(peer(1)).unwrap();
                let answering = slot.activity().answering(false);
                (slot, answering)
            })
            .collect();
        assert!(slots.take(peer(1)).is_none());
        let other = slots.take(peer(2)).unwrap();
        let _answering = other.activity().answering(false);
        let evicted: Vec<bool> = busy.iter().map(|(slot, _)| is_evicted(slot)).collect();
        assert_eq!(evicted, [true, false, false]);
        // One address has two connections and the other has one, so neither has two more than the
        // other.
        assert!(slots.take(peer(2)).is_none());
        drop(other);
        assert!(slots.take(peer(1)).is_some());
    }

    #[test]
    fn a_peer_that_does_not_read_gives_up_its_slot() {
        let activity = Activity::default();
        activity.stalls();
        let now = Instant::now();
        assert_eq!(activity.waits_since(now), None);
        assert!(activity.waits_since(now + SLOW).is_some());
        activity.flows();
        let activity = Arc::new(activity);
        let answering = activity.answering(false);
        assert_eq!(activity.waits_since(now + SLOW), None);
        drop(answering);
        assert!(activity.waits_since(now).is_some());
    }
}
