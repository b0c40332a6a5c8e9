//! The limiters of the endpoints: each endpoint has its own limits, so that a bad one does not slow
//! down the others.
//!
//! `fanfare_core::endpoint` decides for a webhook, `fanfare_core::group` for its host and its
//! owner. This module keeps their state for the webhooks that are busy or failing, and lets a
//! delivery wait for a permit that is about to be free.

mod lane;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fanfare_core::delivery::Deferred;
use fanfare_core::endpoint::{Admission, Cause, Endpoint, LONGEST_WAIT};
use fanfare_core::group::{Ended, Group, Refusal, Speed};
use fanfare_core::ids::WebhookId;
use fanfare_core::webhook::Webhook;
use tokio::sync::oneshot;

use lane::{Lane, Slow};

/// The most endpoints that are remembered, and the most groups of each kind. Beyond this number, idle
/// ones are forgotten.
const MOST: usize = 10_000;

/// The limiters of all endpoints of a worker.
pub(crate) struct EndpointLimiter {
    /// The most requests that one endpoint has in flight.
    most: u32,
    state: Mutex<State>,
}

struct State {
    endpoints: HashMap<WebhookId, EndpointState>,
    /// A group's limit is a part of its lane, so that no group fills a lane.
    first: Lane,
    later: Lane,
    slow: Slow,
}

/// How a delivery comes to the limiters. Each has a lane of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// A first attempt whose job carries its events, so that nothing has deferred it yet.
    New,
    /// An attempt whose job names it by reference: a retry, or an attempt that was deferred.
    Returning,
}

/// Divides a worker's concurrency between the first attempts and the later ones, so that many of one
/// kind leave the other its part. The same number of requests again may be slow, so that all requests
/// of a lane can become slow at once.
pub(crate) fn lanes(concurrency: u32) -> (u32, u32) {
    let later = (concurrency / 4).max(1);
    (concurrency.saturating_sub(later).max(1), later)
}

struct EndpointState {
    endpoint: Endpoint,
    waiters: VecDeque<Waiter>,
    host: Arc<str>,
    owner: Arc<str>,
    /// How long the newest request may take until it counts as slow.
    slow_after: Duration,
}

/// A delivery that waits for a permit.
struct Waiter {
    arrival: Arrival,
    sender: oneshot::Sender<Permit>,
}

/// The permission for one request. It is given back when it is dropped.
pub(crate) struct Permit {
    limiter: Arc<EndpointLimiter>,
    webhook: WebhookId,
    host: Arc<str>,
    owner: Arc<str>,
    probe: bool,
    arrival: Arrival,
    /// How long the request may take until it counts as slow.
    slow_after: Duration,
    /// `None` when the request is over.
    speed: Option<Speed>,
}

impl EndpointLimiter {
    pub(crate) fn new(most: u32, concurrency: u32) -> Arc<Self> {
        let (first, later) = lanes(concurrency);
        let state = State {
            endpoints: HashMap::new(),
            first: Lane::new(first),
            later: Lane::new(later),
            slow: Slow { requests: 0, room: concurrency.max(1) },
        };
        Arc::new(Self { most, state: Mutex::new(state) })
    }

    /// Acquires a permit for one request; waits for a short time if one is about to be free.
    pub(crate) async fn acquire(
        self: &Arc<Self>,
        webhook: &Webhook,
        arrival: Arrival,
    ) -> Result<Permit, Deferred> {
        let permit = {
            let mut state = self.lock();
            match state.admit(webhook, arrival, self.most) {
                (Admission::Go { probe }, state) => {
                    return Ok(self.permit(webhook.id, state, probe, arrival));
                }
                (Admission::Defer { cause, wait }, _) => return Err(Deferred { cause, wait }),
                (Admission::Wait, state) => {
                    let (sender, permit) = oneshot::channel();
                    state.waiters.push_back(Waiter { arrival, sender });
                    permit
                }
            }
        };
        // A permit that is sent just after the time-out is dropped with the channel, and so given
        // back.
        match tokio::time::timeout(LONGEST_WAIT, permit).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => {
                Err(Deferred { cause: Cause::Busy, wait: Duration::from_secs(1) })
            }
        }
    }

    /// The number of endpoints whose circuit breaker is open, and their hosts.
    pub(crate) fn open(&self) -> (usize, BTreeSet<Arc<str>>) {
        let state = self.lock();
        let open = state.endpoints.values().filter(|state| state.endpoint.is_open());
        open.fold((0, BTreeSet::new()), |(count, mut hosts), state| {
            hosts.insert(Arc::clone(&state.host));
            (count + 1, hosts)
        })
    }

    fn permit(
        self: &Arc<Self>,
        webhook: WebhookId,
        state: &EndpointState,
        probe: bool,
        arrival: Arrival,
    ) -> Permit {
        Permit {
            limiter: Arc::clone(self),
            webhook,
            host: Arc::clone(&state.host),
            owner: Arc::clone(&state.owner),
            probe,
            arrival,
            slow_after: state.slow_after,
            speed: Some(Speed::Fast),
        }
    }

    /// Ends a request in its groups, changes its endpoint, and gives the endpoint's free permits to
    /// its waiters.
    fn end(
        self: &Arc<Self>,
        permit: &Permit,
        change_group: impl Fn(&mut Group),
        change: impl FnOnce(&mut Endpoint),
    ) {
        // Permits whose waiters have gone are dropped after the lock, because dropping one locks.
        let mut unwanted = Vec::new();
        let mut state = self.lock();
        state.end(permit, change_group);
        let State { endpoints, first, later, slow } = &mut *state;
        let Some(known) = endpoints.get_mut(&permit.webhook) else { return };
        // A request to a former host says nothing about the present one.
        if known.host == permit.host {
            change(&mut known.endpoint);
        }
        known.waiters.retain(|waiter| !waiter.sender.is_closed());
        let now = Instant::now();
        while known.endpoint.has_room() && !known.endpoint.is_open() {
            let Some(next) = known.waiters.pop_front() else { break };
            let lane = match next.arrival {
                Arrival::New => &mut *first,
                Arrival::Returning => &mut *later,
            };
            if !lane.has_room(&known.host, &known.owner, *slow) {
                known.waiters.push_front(next);
                break;
            }
            known.endpoint.begin(now);
            known.slow_after = lane.begin(&known.host, &known.owner, now);
            let permit = self.permit(permit.webhook, known, false, next.arrival);
            unwanted.extend(next.sender.send(permit).err());
        }
        drop(state);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn lane(&mut self, arrival: Arrival) -> &mut Lane {
        match arrival {
            Arrival::New => &mut self.first,
            Arrival::Returning => &mut self.later,
        }
    }

    fn end(&mut self, permit: &Permit, change: impl Fn(&mut Group)) {
        let lane = self.lane(permit.arrival);
        lane.groups(&permit.host, &permit.owner).into_iter().for_each(change);
        if permit.speed == Some(Speed::Slow) {
            self.slow.requests = self.slow.requests.saturating_sub(1);
        } else {
            lane.all = lane.all.saturating_sub(1);
        }
    }

    /// Moves a request to the slow ones if there is room; otherwise it is stuck among the fast ones.
    fn slow_down(&mut self, permit: &Permit, from: Speed) -> Speed {
        let slow = self.slow;
        let lane = self.lane(permit.arrival);
        let to = lane.load(slow).slowed();
        for group in lane.groups(&permit.host, &permit.owner) {
            group.change(from, to);
        }
        if to == Speed::Slow {
            lane.all = lane.all.saturating_sub(1);
            self.slow.requests += 1;
        }
        to
    }

    /// Asks a webhook's host and owner, and then its endpoint, whether a request may begin. If it may
    /// begin at once, it is begun in all three.
    fn admit(
        &mut self,
        webhook: &Webhook,
        arrival: Arrival,
        most: u32,
    ) -> (Admission, &mut EndpointState) {
        let now = Instant::now();
        let State { endpoints, first, later, slow } = self;
        let (lane, other) = match arrival {
            Arrival::New => (first, later),
            Arrival::Returning => (later, first),
        };
        let known = endpoint(endpoints, webhook, most);
        if arrival == Arrival::Returning {
            known.endpoint.came_back();
            lane.groups(&known.host, &known.owner).into_iter().for_each(Group::came_back);
        }
        // An open breaker defers for longer, and its probe finds out whether the endpoint has
        // recovered.
        let silence = other.silence(&known.host, now);
        let admission = match lane.refusal((&known.host, &known.owner), *slow, now, silence) {
            Some(Refusal { cause, wait }) if !known.endpoint.is_open() => {
                known.endpoint.deferred_by_group();
                Admission::Defer { cause, wait }
            }
            _ => known.endpoint.admit(now, known.waiters.len(), fastrand::f64()),
        };
        match admission {
            Admission::Go { .. } => {
                known.slow_after = lane.begin(&known.host, &known.owner, now);
            }
            // The delivery comes back by reference.
            Admission::Defer { .. } => {
                let later = match arrival {
                    Arrival::New => other,
                    Arrival::Returning => lane,
                };
                later.groups(&known.host, &known.owner).into_iter().for_each(Group::deferred);
            }
            Admission::Wait => {}
        }
        (admission, known)
    }
}

/// The state of a webhook's endpoint. It begins again when the webhook has moved to another host.
fn endpoint<'a>(
    endpoints: &'a mut HashMap<WebhookId, EndpointState>,
    webhook: &Webhook,
    most: u32,
) -> &'a mut EndpointState {
    // The capacity doubles each time, so that a scan of all endpoints is rare.
    if endpoints.len() >= MOST && endpoints.len() == endpoints.capacity() {
        let now = Instant::now();
        endpoints.retain(|_, state| !state.endpoint.is_idle(now) || !state.waiters.is_empty());
    }
    let host = webhook.uri.host();
    let state = endpoints.entry(webhook.id).or_insert_with(|| EndpointState {
        endpoint: Endpoint::new(most),
        waiters: VecDeque::new(),
        host: host.into(),
        owner: webhook.owner.key().into(),
        slow_after: Duration::MAX,
    });
    if *state.host != *host {
        state.host = host.into();
        state.endpoint = Endpoint::new(most);
    }
    state
}

impl Permit {
    /// How long the request may take until it counts as slow.
    pub(crate) fn slow_after(&self) -> Duration {
        self.slow_after
    }

    /// Notes that the request takes longer than usual. If there is room among the slow requests, it
    /// no longer counts as a fast one. Returns whether there was room.
    pub(crate) fn slow_down(&mut self) -> bool {
        if let Some(from @ (Speed::Fast | Speed::Stuck)) = self.speed {
            self.speed = Some(self.limiter.lock().slow_down(self, from));
        }
        self.speed == Some(Speed::Slow)
    }

    /// Ends the request.
    pub(crate) fn end(mut self, success: bool, duration: Duration) {
        let (now, probe) = (Instant::now(), self.probe);
        let ended = Ended { duration, success };
        if let Some(speed) = self.speed {
            self.limiter.end(
                &self,
                |group| group.end(now, ended, speed),
                |endpoint| endpoint.end(now, success, duration, probe),
            );
        }
        self.speed = None;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(speed) = self.speed {
            let probe = self.probe;
            self.limiter.end(
                self,
                |group| group.abandon(speed),
                |endpoint| endpoint.abandon(probe),
            );
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
            hold: false,
            held_since: None,
        }
    }

    #[tokio::test]
    async fn a_waiting_delivery_gets_the_permit_that_becomes_free() {
        let (limiter, webhook) = (EndpointLimiter::new(1, 1024), webhook());
        let first = limiter.acquire(&webhook, Arrival::New).await.unwrap();
        let second = limiter.acquire(&webhook, Arrival::New);
        tokio::pin!(second);
        assert!(futures_util::poll!(&mut second).is_pending());
        first.end(true, Duration::from_millis(1));
        second.await.unwrap().end(true, Duration::from_millis(1));
    }

    #[tokio::test]
    async fn a_permit_offered_to_a_delivery_that_has_gone_is_given_back() {
        let (limiter, webhook) = (EndpointLimiter::new(1, 1024), webhook());
        let first = limiter.acquire(&webhook, Arrival::New).await.unwrap();
        {
            let left = limiter.acquire(&webhook, Arrival::New);
            tokio::pin!(left);
            assert!(futures_util::poll!(&mut left).is_pending());
        }
        drop(first);
        limiter.acquire(&webhook, Arrival::New).await.unwrap();
    }

    #[tokio::test]
    async fn a_delivery_is_deferred_when_no_permit_becomes_free() {
        let (limiter, webhook) = (EndpointLimiter::new(1, 1024), webhook());
        let _held = limiter.acquire(&webhook, Arrival::New).await.unwrap();
        let deferred = limiter.acquire(&webhook, Arrival::New).await.err().unwrap();
        assert_eq!(deferred.cause, Cause::Busy);
    }
}
