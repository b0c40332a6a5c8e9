//! What is left to do once an attempt is in the ledger: the next job, or the dead letter.

use bytes::Bytes;
use fanfare_broker::dead_letters::reject;
use fanfare_broker::{BackTo, Delay, Destination, Message, Queue};
use fanfare_core::ids::DeliveryId;
use fanfare_core::job::{Due, Job};
use fanfare_core::notification::render;
use fanfare_core::outcome::State;
use fanfare_core::webhook::{Properties, Webhook};
use fanfare_metrics::Deferral;
use fanfare_store::attempts::{Last, Standing};

use crate::context::Context;
use crate::gate::Deferred;

/// A message to publish before the job is acknowledged.
pub(crate) enum FollowUp {
    /// Try again later.
    Retry { due: Due, delay: Delay },
    /// Make the first attempt later, about which the plan decided.
    First { due: Due, delay: Delay },
    /// Come back later for the attempt that may not be made now.
    Deferred { due: Due, delay: Delay },
    /// Keep it for a person.
    Dead(Box<DeadLetter>),
}

/// What a person needs to know of a dead delivery.
pub(crate) struct DeadLetter {
    pub(crate) due: Due,
    pub(crate) reason: String,
    pub(crate) owner: String,
    pub(crate) events: Vec<String>,
    pub(crate) attempts: i32,
    pub(crate) last_status: Option<i32>,
    /// The last body that was sent.
    pub(crate) body: Bytes,
}

impl FollowUp {
    /// For a delivery that the gate did not let through.
    pub(crate) fn deferred(context: &Context, due: Due, deferred: Deferred) -> Self {
        let Deferred { cause, wait } = deferred;
        context.config.metrics.deferred(Deferral::Endpoint(cause));
        let cause = cause.code();
        tracing::debug!(webhook.id = %due.webhook, delivery.id = %due.id(), cause, ?wait, "deferred a delivery");
        Self::Deferred { due, delay: Delay::at_least(wait) }
    }

    /// The message and where it goes.
    pub(crate) fn message(
        self,
        context: &Context,
    ) -> Result<(Destination, Message), serde_json::Error> {
        match self {
            Self::Retry { due, delay } | Self::Deferred { due, delay } => {
                let message = Message::new(Job::Due(due).to_bytes()?, "application/json");
                Ok((Destination::Later { delay, back_to: BackTo::Retries }, message))
            }
            Self::First { due, delay } => {
                let message = Message::new(Job::First(due).to_bytes()?, "application/json");
                Ok((Destination::Later { delay, back_to: BackTo::Retries }, message))
            }
            Self::Dead(letter) => Ok((Queue::DeliveriesDead.into(), letter.message(context))),
        }
    }

    /// What was left to do after the last row of a delivery, when it is not known whether it was
    /// done. `None` when nothing was.
    pub(crate) fn again(
        context: &Context,
        due: Due,
        standing: &Standing,
        webhook: Option<&Webhook>,
    ) -> Option<Self> {
        let last = standing.last.as_ref().filter(|last| last.entry == due.entry)?;
        match last.state {
            State::Retrying => {
                let left = last.next_attempt_at.map(|at| at - context.now());
                let left = left.and_then(|left| left.to_std().ok()).unwrap_or_default();
                let due = Due { entry: due.entry + 1, ..due };
                Some(Self::Retry { due, delay: Delay::at_least(left) })
            }
            State::Dead => Some(Self::Dead(Box::new(DeadLetter::of(due, last, standing, webhook)))),
            State::Pending | State::Delivered | State::Dropped => None,
        }
    }
}

impl DeadLetter {
    /// The letter of a delivery that the ledger says is dead.
    pub(crate) fn of(
        due: Due,
        last: &Last,
        standing: &Standing,
        webhook: Option<&Webhook>,
    ) -> Self {
        let notifications =
            standing.events.iter().filter_map(|event| event.notification.as_deref());
        let none = Properties::default();
        let properties = webhook.map_or(&none, |webhook| &webhook.properties);
        Self {
            due,
            reason: last.reason.clone().unwrap_or_default(),
            owner: webhook.map(|webhook| webhook.owner.to_string()).unwrap_or_default(),
            events: standing.events.iter().map(|event| event.event_id.clone()).collect(),
            attempts: last.attempt,
            last_status: last.status,
            body: render(due.id(), last.attempt, properties, notifications).into(),
        }
    }

    fn message(self, context: &Context) -> Message {
        let id: DeliveryId = self.due.id();
        let detail = format!("given up after {} attempts", self.attempts);
        let body = Message::new(self.body, "application/json");
        let mut message = reject(&body, "", &self.reason, &detail, context.now());
        message
            .headers
            // The same for the same end of the same delivery, so that a letter that was published
            // twice is one letter.
            .set("x-fanfare-dead-letter-id", format!("{id}-{}", self.due.entry))
            .set("x-fanfare-delivery", id.to_string())
            .set("x-fanfare-batch", self.due.batch.to_string())
            .set("x-fanfare-webhook", self.due.webhook.to_string())
            .set("x-fanfare-owner", self.owner)
            .set("x-fanfare-event", self.events.first().cloned().unwrap_or_default())
            .set("x-fanfare-attempts", i64::from(self.attempts));
        if let Some(status) = self.last_status {
            message.headers.set("x-fanfare-last-status", i64::from(status));
        }
        message
    }
}
