//! What is left to do once an attempt is in the ledger: the next job, or the dead letter.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use fanfare_broker::dead_letters::reject;
use fanfare_broker::job::set_queued_at;
use fanfare_broker::{BackTo, Delay, Destination, Message, Queue};
use fanfare_core::endpoint::Cause;
use fanfare_core::ids::DeliveryId;
use fanfare_core::job::{Due, Job, MAX_DELIVERIES};
use fanfare_core::notification::render;
use fanfare_core::outcome::{DeadReason, State};
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
    /// The same job again, in a message of its own: whoever had its message may have ended of it.
    Alone { job: Job, delay: Delay },
    /// Keep it for a person.
    Dead(Box<DeadLetter>),
    /// Come back later for the dead letter of this delivery, which no queue takes now.
    DeadLater { due: Due, delay: Delay },
    /// Send a message round as it is, for workers that know what it is.
    Round { message: Box<Message>, delay: Delay },
    /// Keep a message for a person that is no job: the letter, and the message as it came.
    Unreadable { letter: Box<Message>, original: Box<Message> },
}

/// How long a dead letter goes round that its queue does not take, and a job that this version does
/// not know.
const ROUND: Duration = Duration::from_secs(32);

/// Marks a due job whose ledger entry is there already, but maybe not what follows from it.
pub(crate) const FOLLOW_UP_MISSING: &str = "x-fanfare-follow-up-missing";

/// A message to publish, and the lists of follow-ups that it carries something of.
pub(crate) struct Outgoing {
    pub(crate) destination: Destination,
    pub(crate) message: Message,
    /// The numbers of the lists.
    pub(crate) of: Vec<usize>,
}

/// The messages that hand lists of follow-ups on, and where each goes. What comes back at the same
/// time shares a message.
pub(crate) fn messages(
    context: &Context,
    lists: &[&[FollowUp]],
) -> Result<Vec<Outgoing>, serde_json::Error> {
    let mut messages = Vec::new();
    let mut first: BTreeMap<Delay, Vec<(Due, usize)>> = BTreeMap::new();
    let mut later: BTreeMap<Delay, Vec<(Due, usize)>> = BTreeMap::new();
    let follow_ups = lists.iter().enumerate();
    for (index, follow_up) in follow_ups.flat_map(|(i, list)| list.iter().map(move |it| (i, it))) {
        let (destination, message) = match follow_up {
            // A first attempt remains one, whatever puts it off.
            FollowUp::Deferred { due, delay } if due.entry == 1 => {
                first.entry(*delay).or_default().push((*due, index));
                continue;
            }
            FollowUp::Retry { due, delay } | FollowUp::Deferred { due, delay } => {
                later.entry(*delay).or_default().push((*due, index));
                continue;
            }
            FollowUp::First { due, delay } => {
                first.entry(*delay).or_default().push((*due, index));
                continue;
            }
            FollowUp::Alone { job, delay } => round(context, job, *delay)?,
            FollowUp::Dead(letter) => (Queue::DeliveriesDead.into(), letter.message(context)),
            FollowUp::DeadLater { due, delay } => {
                let (destination, mut message) = round(context, &Job::Due(vec![*due]), *delay)?;
                message.headers.set(FOLLOW_UP_MISSING, true);
                (destination, message)
            }
            FollowUp::Round { message, delay } => (back_after(*delay), Message::clone(message)),
            FollowUp::Unreadable { letter, .. } => {
                (Queue::DeliveriesDead.into(), Message::clone(letter))
            }
        };
        messages.push(Outgoing { destination, message, of: vec![index] });
    }
    for (dues, job) in [(first, Job::First as fn(_) -> _), (later, Job::Due)] {
        for (delay, dues) in dues {
            for dues in dues.chunks(MAX_DELIVERIES) {
                let (dues, of) = dues.iter().copied().unzip();
                let (destination, message) = round(context, &job(dues), delay)?;
                messages.push(Outgoing { destination, message, of });
            }
        }
    }
    Ok(messages)
}

/// The message that brings a job back after a while.
fn round(
    context: &Context,
    job: &Job,
    delay: Delay,
) -> Result<(Destination, Message), serde_json::Error> {
    let mut message = Message::new(job.to_bytes()?, "application/json");
    set_queued_at(&mut message, context.now() + delay.duration());
    Ok((back_after(delay), message))
}

fn back_after(delay: Delay) -> Destination {
    Destination::Later { delay, back_to: BackTo::Retries }
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
    /// The queue that takes it first.
    pub(crate) fn queue(&self) -> &'static str {
        match self {
            Self::Retry { delay, .. }
            | Self::First { delay, .. }
            | Self::Deferred { delay, .. }
            | Self::Alone { delay, .. }
            | Self::DeadLater { delay, .. }
            | Self::Round { delay, .. } => delay.first_queue(),
            Self::Dead(_) | Self::Unreadable { .. } => Queue::DeliveriesDead.name(),
        }
    }

    /// Whether the ledger says that it is owed, so that a router publishes it again when it is lost:
    /// a retry has its row, and an event its plan.
    pub(crate) fn is_in_ledger(&self) -> bool {
        match self {
            Self::Retry { .. }
            | Self::First { .. }
            | Self::Deferred { .. }
            | Self::Alone { .. } => true,
            Self::Dead(_)
            | Self::DeadLater { .. }
            | Self::Round { .. }
            | Self::Unreadable { .. } => false,
        }
    }

    /// Another way for what its queue does not take: it comes back by the delay ladder.
    pub(crate) fn detour(&self) -> Option<Self> {
        let delay = Delay::one_level(ROUND);
        match self {
            // What the database has lost is in the letter alone.
            Self::Dead(letter) if letter.reason == DeadReason::LedgerLost.code() => None,
            Self::Dead(letter) => Some(Self::DeadLater { due: letter.due, delay }),
            Self::Unreadable { original, .. } => {
                Some(Self::Round { message: original.clone(), delay })
            }
            _ => None,
        }
    }

    /// A message that goes round as it is.
    pub(crate) fn round(message: Message) -> Self {
        Self::Round { message: Box::new(message), delay: Delay::one_level(ROUND) }
    }

    /// For a delivery that the gate did not let through.
    pub(crate) fn deferred(context: &Context, due: Due, deferred: Deferred) -> Self {
        let Deferred { cause, wait } = deferred;
        context.config.metrics.deferred(Deferral::Endpoint(cause));
        let cause = cause.code();
        tracing::debug!(webhook.id = %due.webhook, delivery.id = %due.id(), cause, ?wait, "deferred a delivery");
        let delay = match deferred.cause {
            // Spread over the slots of a pace, which a wait of one level would bunch together.
            Cause::Held | Cause::Paced | Cause::RateLimit => Delay::at_least(wait),
            _ => Delay::one_level(wait),
        };
        Self::Deferred { due, delay }
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

    fn detail(&self) -> String {
        /// Ids that are named: headers have a limit.
        const NAMED: usize = 8;
        if self.reason != DeadReason::LedgerLost.code() {
            return format!("given up after {} attempts", self.attempts);
        }
        let mut detail = "the database does not know its events: publish them again".to_owned();
        for (index, id) in self.events.iter().take(NAMED).enumerate() {
            detail.push_str(if index == 0 { "; ids: " } else { ", " });
            detail.push_str(id);
        }
        if self.events.len() > NAMED {
            detail.push_str(", …");
        }
        detail
    }

    fn message(&self, context: &Context) -> Message {
        let id: DeliveryId = self.due.id();
        let detail = self.detail();
        let body = Message::new(self.body.clone(), "application/json");
        let mut message = reject(&body, "", &self.reason, &detail, context.now());
        message
            .headers
            // The same for the same end of the same delivery, so that a letter that was published
            // twice is one letter.
            .set("x-fanfare-dead-letter-id", format!("{id}-{}", self.due.entry))
            .set("x-fanfare-delivery", id.to_string())
            .set("x-fanfare-batch", self.due.batch.to_string())
            .set("x-fanfare-webhook", self.due.webhook.to_string())
            .set("x-fanfare-owner", self.owner.as_str())
            .set("x-fanfare-event", self.events.first().cloned().unwrap_or_default())
            .set("x-fanfare-attempts", i64::from(self.attempts));
        if let Some(status) = self.last_status {
            message.headers.set("x-fanfare-last-status", i64::from(status));
        }
        message
    }
}
