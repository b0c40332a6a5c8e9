//! The gate to the endpoints: each has its own limits, so that a bad one costs the others nothing.
//!
//! `fanfare_core::endpoint` decides; this keeps an endpoint for each webhook that is busy or in
//! trouble, and lets those wait whose turn comes at once.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use fanfare_core::endpoint::{Admission, Cause, Endpoint, LONGEST_WAIT};
use fanfare_core::ids::WebhookId;
use fanfare_core::webhook::Webhook;
use tokio::sync::oneshot;

use crate::context::chance;

/// Endpoints remembered; beyond this those that are idle are forgotten.
const MOST: usize = 10_000;

/// All endpoints of a worker.
pub(crate) struct Gate {
    /// The most requests that one endpoint has in flight.
    most: u32,
    places: Mutex<HashMap<WebhookId, Place>>,
}

struct Place {
    endpoint: Endpoint,
    waiting: VecDeque<oneshot::Sender<Pass>>,
    rate: Option<u32>,
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
}

/// The right to one request, given back when it is dropped.
pub(crate) struct Pass {
    gate: Arc<Gate>,
    webhook: WebhookId,
    /// The owner's limit, which is given back with a pass that is not used.
    rate: Option<u32>,
    probe: bool,
    ended: bool,
}

impl Gate {
    pub(crate) fn new(most: u32) -> Arc<Self> {
        Arc::new(Self { most, places: Mutex::default() })
    }

    /// Asks for a request, and waits for it if that takes no time to speak of. `again` says that
    /// the delivery may have been deferred before.
    pub(crate) async fn enter(
        self: &Arc<Self>,
        webhook: &Webhook,
        again: bool,
    ) -> Result<Pass, Deferred> {
        let turn = {
            let mut places = self.lock();
            let place = self.place(&mut places, webhook.id);
            place.rate = webhook.rate_limit;
            if again {
                place.endpoint.came_back();
            }
            let (now, waiting) = (Instant::now(), place.waiting.len());
            match place.endpoint.admit(now, waiting, webhook.rate_limit, chance()) {
                Admission::Go { probe } => {
                    return Ok(self.pass(webhook.id, webhook.rate_limit, probe));
                }
                Admission::Defer { cause, wait } => return Err(Deferred { cause, wait }),
                Admission::Wait => {
                    let (sender, turn) = oneshot::channel();
                    place.waiting.push_back(sender);
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
        self.lock().values().filter(|place| place.endpoint.is_open()).count()
    }

    fn pass(self: &Arc<Self>, webhook: WebhookId, rate: Option<u32>, probe: bool) -> Pass {
        Pass { gate: Arc::clone(self), webhook, rate, probe, ended: false }
    }

    fn place<'a>(
        &self,
        places: &'a mut HashMap<WebhookId, Place>,
        webhook: WebhookId,
    ) -> &'a mut Place {
        // At sizes that double, so that a look at all of them is rare.
        if places.len() >= MOST && places.len() == places.capacity() {
            let now = Instant::now();
            places.retain(|_, place| !place.endpoint.is_idle(now) || !place.waiting.is_empty());
        }
        places.entry(webhook).or_insert_with(|| Place {
            endpoint: Endpoint::new(self.most),
            waiting: VecDeque::new(),
            rate: None,
        })
    }

    /// Changes an endpoint, then gives its free slots to those that wait.
    fn change(self: &Arc<Self>, webhook: WebhookId, change: impl FnOnce(&mut Endpoint)) {
        // Passes that nobody waits for any more are dropped after the lock, which dropping takes.
        let mut unwanted = Vec::new();
        let mut places = self.lock();
        let Some(place) = places.get_mut(&webhook) else { return };
        change(&mut place.endpoint);
        place.waiting.retain(|waiting| !waiting.is_closed());
        while place.endpoint.has_room() && !place.endpoint.is_open() {
            let Some(next) = place.waiting.pop_front() else { break };
            place.endpoint.begin(Instant::now());
            unwanted.extend(next.send(self.pass(webhook, place.rate, false)).err());
        }
        drop(places);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<WebhookId, Place>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pass {
    /// The request is over.
    pub(crate) fn end(mut self, success: bool, duration: Duration) {
        self.ended = true;
        let probe = self.probe;
        self.gate.change(self.webhook, |endpoint| {
            endpoint.end(Instant::now(), success, duration, probe);
        });
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if !self.ended {
            let (probe, rate) = (self.probe, self.rate);
            self.gate.change(self.webhook, |endpoint| endpoint.abandon(probe, rate));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::Utc;
    use fanfare_core::filter::Filters;
    use fanfare_core::name::Name;
    use fanfare_core::webhook::{Headers, Properties};

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
        }
    }

    #[tokio::test]
    async fn who_waits_gets_the_slot_that_becomes_free() {
        let (gate, webhook) = (Gate::new(1), webhook());
        let first = gate.enter(&webhook, false).await.unwrap();
        let second = gate.enter(&webhook, false);
        tokio::pin!(second);
        assert!(futures_util::poll!(&mut second).is_pending());
        first.end(true, Duration::from_millis(1));
        second.await.unwrap().end(true, Duration::from_millis(1));
    }

    #[tokio::test]
    async fn a_slot_offered_to_somebody_who_left_is_not_lost() {
        let (gate, webhook) = (Gate::new(1), webhook());
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
        let (gate, webhook) = (Gate::new(1), webhook());
        let _held = gate.enter(&webhook, false).await.unwrap();
        let deferred = gate.enter(&webhook, false).await.err().unwrap();
        assert_eq!(deferred.cause, Cause::Busy);
    }
}
