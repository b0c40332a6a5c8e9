//! The gate to the endpoints: each has its own limits, so that a bad one costs the others nothing.
//!
//! `fanfare_core::endpoint` decides for a webhook, `fanfare_core::group` for its host and its
//! owner. This keeps their state for the webhooks that are busy or in trouble, and lets those
//! deliveries wait whose turn comes at once.

mod lane;

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fanfare_core::endpoint::{Admission, Cause, Endpoint, LONGEST_WAIT};
use fanfare_core::group::{Ended, Group, Refusal, Speed};
use fanfare_core::ids::WebhookId;
use fanfare_core::webhook::Webhook;
use tokio::sync::oneshot;

use crate::context::chance;
use lane::{Lane, Slow};

/// Endpoints remembered, and groups of each kind; beyond this those that are idle are forgotten.
const MOST: usize = 10_000;

/// All endpoints of a worker.
pub(crate) struct Gate {
    /// The most requests that one endpoint has in flight.
    most: u32,
    state: Mutex<State>,
}

struct State {
    places: HashMap<WebhookId, Place>,
    /// Groups share what their lane has, so that none fills either.
    first: Lane,
    due: Lane,
    slow: Slow,
}

/// How a worker's concurrency is divided between first attempts and due ones: a storm of either
/// must leave the other its part. As many requests again may be slow ones, so that all of a lane
/// can turn slow at once.
pub(crate) fn lanes(concurrency: u32) -> (u32, u32) {
    let due = (concurrency / 4).max(1);
    (concurrency.saturating_sub(due).max(1), due)
}

struct Place {
    endpoint: Endpoint,
    waiting: VecDeque<Waiting>,
    host: Arc<str>,
    owner: Arc<str>,
    /// How long the request that began last may take until it counts as slow.
    slow_after: Duration,
}

/// Who waits for a slot of an endpoint.
struct Waiting {
    due: bool,
    sender: oneshot::Sender<Pass>,
}

/// A delivery that may not go now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Deferred {
    pub(crate) cause: Cause,
    pub(crate) wait: Duration,
}

impl Deferred {
    /// For a webhook that can't be read until an operator has done something.
    pub(crate) const UNREADABLE: Self =
        Self { cause: Cause::Unreadable, wait: Duration::from_mins(1) };
    /// For what the directory must decide, while it can't.
    pub(crate) const DIRECTORY_HELD: Self =
        Self { cause: Cause::DirectoryHeld, wait: Duration::from_secs(8) };
}

/// The right to one request, given back when it is dropped.
pub(crate) struct Pass {
    gate: Arc<Gate>,
    webhook: WebhookId,
    host: Arc<str>,
    owner: Arc<str>,
    probe: bool,
    due: bool,
    /// How long the request may take until it counts as slow.
    slow_after: Duration,
    /// `None` when the request is over.
    speed: Option<Speed>,
}

impl Gate {
    pub(crate) fn new(most: u32, concurrency: u32) -> Arc<Self> {
        let (first, due) = lanes(concurrency);
        let state = State {
            places: HashMap::new(),
            first: Lane::new(first),
            due: Lane::new(due),
            slow: Slow { requests: 0, room: concurrency.max(1) },
        };
        Arc::new(Self { most, state: Mutex::new(state) })
    }

    /// Acquires a request, waiting briefly if a slot is about to be free. `due` says that it is not
    /// a first attempt that nothing has deferred yet.
    pub(crate) async fn enter(
        self: &Arc<Self>,
        webhook: &Webhook,
        due: bool,
    ) -> Result<Pass, Deferred> {
        let turn = {
            let mut state = self.lock();
            match state.admit(webhook, due, self.most) {
                (Admission::Go { probe }, place) => {
                    return Ok(self.pass(webhook.id, place, probe, due));
                }
                (Admission::Defer { cause, wait }, _) => return Err(Deferred { cause, wait }),
                (Admission::Wait, place) => {
                    let (sender, turn) = oneshot::channel();
                    place.waiting.push_back(Waiting { due, sender });
                    turn
                }
            }
        };
        // A turn that comes just after the time is up is dropped with the channel, and so given
        // back.
        match tokio::time::timeout(LONGEST_WAIT, turn).await {
            Ok(Ok(pass)) => Ok(pass),
            Ok(Err(_)) | Err(_) => {
                Err(Deferred { cause: Cause::Busy, wait: Duration::from_secs(1) })
            }
        }
    }

    /// Endpoints whose breaker is open.
    pub(crate) fn open(&self) -> usize {
        self.lock().places.values().filter(|place| place.endpoint.is_open()).count()
    }

    fn pass(self: &Arc<Self>, webhook: WebhookId, place: &Place, probe: bool, due: bool) -> Pass {
        Pass {
            gate: Arc::clone(self),
            webhook,
            host: Arc::clone(&place.host),
            owner: Arc::clone(&place.owner),
            probe,
            due,
            slow_after: place.slow_after,
            speed: Some(Speed::Fast),
        }
    }

    /// Ends a request with its groups, changes its endpoint, then gives the endpoint's free slots to
    /// those that wait.
    fn end(
        self: &Arc<Self>,
        pass: &Pass,
        change_group: impl Fn(&mut Group),
        change: impl FnOnce(&mut Endpoint),
    ) {
        // Passes that nobody waits for any more are dropped after the lock, which dropping takes.
        let mut unwanted = Vec::new();
        let mut state = self.lock();
        state.end(pass, change_group);
        let State { places, first, due, slow } = &mut *state;
        let Some(place) = places.get_mut(&pass.webhook) else { return };
        // A request to a former host says nothing about the present one.
        if place.host == pass.host {
            change(&mut place.endpoint);
        }
        place.waiting.retain(|waiting| !waiting.sender.is_closed());
        let now = Instant::now();
        while place.endpoint.has_room() && !place.endpoint.is_open() {
            let Some(next) = place.waiting.pop_front() else { break };
            let lane = if next.due { &mut *due } else { &mut *first };
            if !lane.has_room(&place.host, &place.owner, *slow) {
                place.waiting.push_front(next);
                break;
            }
            place.endpoint.begin(now);
            place.slow_after = lane.begin(&place.host, &place.owner, now);
            let turn = self.pass(pass.webhook, place, false, next.due);
            unwanted.extend(next.sender.send(turn).err());
        }
        drop(state);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn lane(&mut self, due: bool) -> &mut Lane {
        if due { &mut self.due } else { &mut self.first }
    }

    fn end(&mut self, pass: &Pass, change: impl Fn(&mut Group)) {
        let lane = self.lane(pass.due);
        lane.groups(&pass.host, &pass.owner).into_iter().for_each(change);
        if pass.speed == Some(Speed::Slow) {
            self.slow.requests = self.slow.requests.saturating_sub(1);
        } else {
            lane.all = lane.all.saturating_sub(1);
        }
    }

    /// Moves a slow request to the slow ones, if there is room; else it is stuck among the fast ones.
    fn slow_down(&mut self, pass: &Pass, from: Speed) -> Speed {
        let slow = self.slow;
        let lane = self.lane(pass.due);
        let to = lane.load(slow).slowed();
        for group in lane.groups(&pass.host, &pass.owner) {
            group.change(from, to);
        }
        if to == Speed::Slow {
            lane.all = lane.all.saturating_sub(1);
            self.slow.requests += 1;
        }
        to
    }

    /// Asks a webhook's host and owner, then its endpoint, whether a request may begin, and begins
    /// it with all of them if it may go at once.
    fn admit(&mut self, webhook: &Webhook, due: bool, most: u32) -> (Admission, &mut Place) {
        let now = Instant::now();
        let State { places, first, due: dues, slow } = self;
        let (lane, other) = if due { (dues, first) } else { (first, dues) };
        let place = place(places, webhook, most);
        if due {
            place.endpoint.came_back();
            lane.groups(&place.host, &place.owner).into_iter().for_each(Group::came_back);
        }
        // An open breaker defers for longer, and its probe tells whether the endpoint is well again.
        let silence = other.silence(&place.host, now);
        let admission = match lane.refusal((&place.host, &place.owner), *slow, now, silence) {
            Some(Refusal { cause, wait }) if !place.endpoint.is_open() => {
                place.endpoint.deferred_by_group();
                Admission::Defer { cause, wait }
            }
            _ => place.endpoint.admit(now, place.waiting.len(), chance()),
        };
        match admission {
            Admission::Go { .. } => {
                place.slow_after = lane.begin(&place.host, &place.owner, now);
            }
            // It comes back as a due one.
            Admission::Defer { .. } => {
                let dues = if due { lane } else { other };
                dues.groups(&place.host, &place.owner).into_iter().for_each(Group::deferred);
            }
            Admission::Wait => {}
        }
        (admission, place)
    }
}

/// The state of a webhook, which may have moved to another host.
fn place<'a>(
    places: &'a mut HashMap<WebhookId, Place>,
    webhook: &Webhook,
    most: u32,
) -> &'a mut Place {
    // At sizes that double, so that a look at all of them is rare.
    if places.len() >= MOST && places.len() == places.capacity() {
        let now = Instant::now();
        places.retain(|_, place| !place.endpoint.is_idle(now) || !place.waiting.is_empty());
    }
    let host = webhook.uri.host();
    let place = places.entry(webhook.id).or_insert_with(|| Place {
        endpoint: Endpoint::new(most),
        waiting: VecDeque::new(),
        host: host.into(),
        owner: webhook.owner.key().into(),
        slow_after: Duration::MAX,
    });
    if *place.host != *host {
        place.host = host.into();
        place.endpoint = Endpoint::new(most);
    }
    place
}

impl Pass {
    /// How long the request may take until it counts as slow.
    pub(crate) fn slow_after(&self) -> Duration {
        self.slow_after
    }

    /// The request takes longer than usual. From now on it doesn't count against the fast ones, if there
    /// is room among the slow ones; returns whether there was.
    pub(crate) fn slow_down(&mut self) -> bool {
        if let Some(from @ (Speed::Fast | Speed::Stuck)) = self.speed {
            self.speed = Some(self.gate.lock().slow_down(self, from));
        }
        self.speed == Some(Speed::Slow)
    }

    /// The request is over.
    pub(crate) fn end(mut self, success: bool, duration: Duration) {
        let (now, probe) = (Instant::now(), self.probe);
        let ended = Ended { duration, success };
        if let Some(speed) = self.speed {
            self.gate.end(
                &self,
                |group| group.end(now, ended, speed),
                |endpoint| endpoint.end(now, success, duration, probe),
            );
        }
        self.speed = None;
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if let Some(speed) = self.speed {
            let probe = self.probe;
            self.gate.end(self, |group| group.abandon(speed), |endpoint| endpoint.abandon(probe));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::Utc;
    use fanfare_core::filter::Filters;
    use fanfare_core::name::Name;
    use fanfare_core::webhook::{Headers, Pacing, Properties};

    fn webhook() -> Webhook {
        Webhook {
            id: "00000000000000000000000000000001".parse().unwrap(),
            owner: Name::parse("anna").unwrap(),
            uri: "http://127.0.0.1/".parse().unwrap(),
            secrets: Vec::new(),
            description: None,
            paused: false,
            paused_reason: None,
            filters: Filters::default(),
            headers: Headers::default(),
            properties: Properties::default(),
            created_at: Utc::now(),
            failing_since: None,
            rate_limit: None,
            pacing: Pacing::default(),
        }
    }

    #[tokio::test]
    async fn who_waits_gets_the_slot_that_becomes_free() {
        let (gate, webhook) = (Gate::new(1, 1024), webhook());
        let first = gate.enter(&webhook, false).await.unwrap();
        let second = gate.enter(&webhook, false);
        tokio::pin!(second);
        assert!(futures_util::poll!(&mut second).is_pending());
        first.end(true, Duration::from_millis(1));
        second.await.unwrap().end(true, Duration::from_millis(1));
    }

    #[tokio::test]
    async fn a_slot_offered_to_somebody_who_left_is_not_lost() {
        let (gate, webhook) = (Gate::new(1, 1024), webhook());
        let first = gate.enter(&webhook, false).await.unwrap();
        {
            let left = gate.enter(&webhook, false);
            tokio::pin!(left);
            assert!(futures_util::poll!(&mut left).is_pending());
        }
        drop(first);
        gate.enter(&webhook, false).await.unwrap();
    }

    #[tokio::test]
    async fn a_slot_that_never_becomes_free_is_not_waited_for() {
        let (gate, webhook) = (Gate::new(1, 1024), webhook());
        let _held = gate.enter(&webhook, false).await.unwrap();
        let deferred = gate.enter(&webhook, false).await.err().unwrap();
        assert_eq!(deferred.cause, Cause::Busy);
    }
}
