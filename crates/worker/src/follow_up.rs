//! Follow-ups: the message that follows an attempt, which is the next job or a dead letter.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use fanfare_broker::dead_letters::DeadDelivery;
use fanfare_broker::job::{self, set_queued_at};
use fanfare_broker::{BackTo, Delay, Destination, Message, Queue};
use fanfare_core::delivery::Deferred;
use fanfare_core::endpoint::Cause;
use fanfare_core::job::{AttemptRef, Job, MAX_DELIVERIES};
use fanfare_core::outcome::{DeadReason, State};
use fanfare_letters::dead_delivery;
use fanfare_metrics::Deferral;
use fanfare_store::attempts::DeliveryHistory;

use crate::context::Context;
use crate::error::WorkerError;

/// The kind of job that names a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum AttemptKind {
    /// A job for first attempts.
    First,
    /// A job for retries and deferred attempts.
    Later,
}

impl AttemptKind {
    pub(crate) fn of(due: AttemptRef) -> Self {
        if due.sequence == 1 { Self::First } else { Self::Later }
    }

    pub(crate) fn job(self, dues: Vec<AttemptRef>) -> Job {
        match self {
            Self::First => Job::FirstByReference(dues),
            Self::Later => Job::Retry(dues),
        }
    }
}

/// A message to publish before the job is acknowledged.
pub(crate) enum FollowUp {
    /// The next attempt, later.
    Retry { due: AttemptRef, delay: Delay },
    /// The first attempt, later.
    First { due: AttemptRef, delay: Delay },
    /// An attempt that is deferred.
    Deferred { due: AttemptRef, delay: Delay },
    /// The first attempt, later, or a deferred attempt, of a job that was redelivered.
    InDoubt { due: AttemptRef, kind: AttemptKind, delay: Delay },
    /// First attempts for which an inline job may exist: they are checked again later. They have been in
    /// doubt since a time that the job keeps.
    Recheck { dues: Vec<AttemptRef>, since: DateTime<Utc>, delay: Delay },
    /// The same delivery in a job of its own, because its job may have ended its worker.
    Split { job: Job, delay: Delay },
    /// A dead letter.
    Dead(Box<DeadDelivery>),
    /// A job that publishes the dead letter of this delivery later, because its queue refuses it now.
    DeadLater { due: AttemptRef, delay: Delay },
    /// A message that is put off unchanged, for workers that know its kind.
    PutOff { message: Box<Message>, delay: Delay },
    /// A message that is not a job: its dead letter, and the message as it was received.
    Unreadable { letter: Box<Message>, original: Box<Message> },
}

/// How long a dead letter that its queue refuses is put off, and a job of an unknown kind.
const PUT_OFF: Duration = Duration::from_secs(32);

/// The header of a job whose attempt may have its row in the ledger without its follow-up. The broker
/// marks a job that it redelivers, but not the job that replaces it, so the replacement has this header.
pub(crate) const FOLLOW_UP_MISSING: &str = "x-fanfare-follow-up-missing";

/// The header of a recheck that comes back: the time since which its attempts have been in doubt, in
/// milliseconds since 1970.
const IN_DOUBT_SINCE: &str = "x-fanfare-in-doubt-since";

/// The time since which the attempts of a recheck have been in doubt; `None` if it comes for the first
/// time.
pub(crate) fn in_doubt_since(message: &Message) -> Option<DateTime<Utc>> {
    message.headers.int(IN_DOUBT_SINCE).and_then(DateTime::from_timestamp_millis)
}

/// A message to publish, and the lists whose follow-ups it carries.
pub(crate) struct Outgoing {
    pub(crate) destination: Destination,
    pub(crate) message: Message,
    /// The numbers of the lists.
    pub(crate) of: Vec<usize>,
}

/// The messages for lists of follow-ups, with their destinations. Follow-ups with the same delay share
/// a message.
pub(crate) fn messages(
    context: &Context,
    lists: &[&[FollowUp]],
) -> Result<Vec<Outgoing>, serde_json::Error> {
    let mut messages = Vec::new();
    // By kind, whether the job is in doubt, and delay.
    let mut shared: BTreeMap<(AttemptKind, bool, Delay), Vec<(AttemptRef, usize)>> =
        BTreeMap::new();
    let follow_ups = lists.iter().enumerate();
    for (index, follow_up) in follow_ups.flat_map(|(i, list)| list.iter().map(move |it| (i, it))) {
        let (destination, message) = match follow_up {
            // A first attempt that is deferred remains a first attempt.
            FollowUp::Deferred { due, delay } => {
                let key = (AttemptKind::of(*due), false, *delay);
                shared.entry(key).or_default().push((*due, index));
                continue;
            }
            FollowUp::Retry { due, delay } => {
                let key = (AttemptKind::Later, false, *delay);
                shared.entry(key).or_default().push((*due, index));
                continue;
            }
            FollowUp::First { due, delay } => {
                let key = (AttemptKind::First, false, *delay);
                shared.entry(key).or_default().push((*due, index));
                continue;
            }
            FollowUp::InDoubt { due, kind, delay } => {
                shared.entry((*kind, true, *delay)).or_default().push((*due, index));
                continue;
            }
            FollowUp::Recheck { dues, since, delay } => {
                let (to, mut message) =
                    delayed(context, &Job::Recheck(dues.clone()), *delay, true)?;
                message.headers.set(IN_DOUBT_SINCE, since.timestamp_millis());
                (to, message)
            }
            FollowUp::Split { job, delay } => delayed(context, job, *delay, true)?,
            FollowUp::Dead(letter) => (Queue::DeliveriesDead.into(), letter.message(context.now())),
            FollowUp::DeadLater { due, delay } => {
                delayed(context, &Job::Retry(vec![*due]), *delay, true)?
            }
            FollowUp::PutOff { message, delay } => (back_after(*delay), Message::clone(message)),
            FollowUp::Unreadable { letter, .. } => {
                (Queue::DeliveriesDead.into(), Message::clone(letter))
            }
        };
        messages.push(Outgoing { destination, message, of: vec![index] });
    }
    for ((kind, in_doubt, delay), dues) in shared {
        for dues in dues.chunks(MAX_DELIVERIES) {
            let (dues, of) = dues.iter().copied().unzip();
            let (destination, message) = delayed(context, &kind.job(dues), delay, in_doubt)?;
            messages.push(Outgoing { destination, message, of });
        }
    }
    Ok(messages)
}

/// The message that brings a job back after a delay.
fn delayed(
    context: &Context,
    job: &Job,
    delay: Delay,
    in_doubt: bool,
) -> Result<(Destination, Message), serde_json::Error> {
    let mut message = job::message(job)?;
    if in_doubt {
        message.headers.set(FOLLOW_UP_MISSING, true);
    }
    set_queued_at(&mut message, context.now() + delay.duration());
    Ok((back_after(delay), message))
}

fn back_after(delay: Delay) -> Destination {
    Destination::Later { delay, back_to: BackTo::Retries }
}

impl FollowUp {
    /// The first queue that it is published to.
    pub(crate) fn queue(&self) -> &'static str {
        match self {
            Self::Retry { delay, .. }
            | Self::First { delay, .. }
            | Self::Deferred { delay, .. }
            | Self::InDoubt { delay, .. }
            | Self::Recheck { delay, .. }
            | Self::Split { delay, .. }
            | Self::DeadLater { delay, .. }
            | Self::PutOff { delay, .. } => delay.first_queue(),
            Self::Dead(_) | Self::Unreadable { .. } => Queue::DeliveriesDead.name(),
        }
    }

    /// Whether the ledger shows that it is owed, so that the reconciler publishes it again if it is
    /// lost: a retry has its row, and a first attempt its plan.
    pub(crate) fn is_in_ledger(&self) -> bool {
        match self {
            Self::Retry { .. }
            | Self::First { .. }
            | Self::Deferred { .. }
            | Self::InDoubt { .. }
            | Self::Recheck { .. }
            | Self::Split { .. } => true,
            Self::Dead(_)
            | Self::DeadLater { .. }
            | Self::PutOff { .. }
            | Self::Unreadable { .. } => false,
        }
    }

    /// The follow-up of a delivery whose job was redelivered: if it is a job for the same attempt, it
    /// keeps the doubt. The worker that had the job before may still write the row of that attempt, and
    /// die before it has published what follows.
    pub(crate) fn keep_doubt(self, of: AttemptRef) -> Self {
        match self {
            Self::Retry { due, delay } if due == of => {
                Self::InDoubt { due, kind: AttemptKind::Later, delay }
            }
            Self::First { due, delay } if due == of => {
                Self::InDoubt { due, kind: AttemptKind::First, delay }
            }
            Self::Deferred { due, delay } if due == of => {
                Self::InDoubt { due, kind: AttemptKind::of(due), delay }
            }
            other => other,
        }
    }

    /// A replacement for a follow-up that its queue refuses: it comes back through the delay ladder.
    pub(crate) fn detour(&self) -> Option<Self> {
        let delay = Delay::one_level(PUT_OFF);
        match self {
            // After a loss of the ledger, only the letter has the events.
            Self::Dead(letter) if letter.reason == DeadReason::LedgerLost.code() => None,
            Self::Dead(letter) => Some(Self::DeadLater { due: letter.due, delay }),
            Self::Unreadable { original, .. } => {
                Some(Self::PutOff { message: original.clone(), delay })
            }
            _ => None,
        }
    }

    /// A message that is put off unchanged.
    pub(crate) fn put_off(message: Message) -> Self {
        Self::PutOff { message: Box::new(message), delay: Delay::one_level(PUT_OFF) }
    }

    /// The follow-up of a delivery that was deferred.
    pub(crate) fn deferred(context: &Context, due: AttemptRef, deferred: Deferred) -> Self {
        let Deferred { cause, wait } = deferred;
        context.config.metrics.deferred(Deferral::Endpoint(cause));
        let cause = cause.code();
        tracing::debug!(webhook.id = %due.webhook, delivery.id = %due.id(), cause, ?wait, "deferred a delivery");
        let delay = match deferred.cause {
            // These are spread over the slots of a pace. One level of the ladder would bunch them.
            Cause::Held | Cause::Paced | Cause::RateLimit => Delay::at_least(wait),
            _ => Delay::one_level(wait),
        };
        Self::Deferred { due, delay }
    }

    /// The follow-up of the row with this number, read from the ledger. `None` if it is not the
    /// delivery's last row, or if nothing follows from it.
    pub(crate) async fn of_row(
        context: &Context,
        due: AttemptRef,
    ) -> Result<Option<Self>, WorkerError> {
        let history = read_whole(context, due).await?;
        let Some(last) = history.last.as_ref().filter(|last| last.entry == due.sequence) else {
            return Ok(None);
        };
        Ok(match last.state {
            State::Retrying => {
                let left = last.next_attempt_at.map(|at| at - context.now());
                let left = left.and_then(|left| left.to_std().ok()).unwrap_or_default();
                let due = AttemptRef { sequence: due.sequence + 1, ..due };
                Some(Self::Retry { due, delay: Delay::at_least(left) })
            }
            State::Dead => {
                let ids = [due.webhook];
                let found = context.retry_until_available(|| context.webhooks.get(&ids)).await?;
                let webhook = found.webhooks.get(&due.webhook).map(AsRef::as_ref);
                Some(Self::Dead(Box::new(dead_delivery(due, last, &history, webhook))))
            }
            State::Pending | State::Delivered | State::Dropped => None,
        })
    }
}

/// Reads the history of a delivery with its notifications, however large they are.
async fn read_whole(context: &Context, due: AttemptRef) -> Result<DeliveryHistory, WorkerError> {
    let store = &context.config.store;
    let mut found = context
        .retry_until_available(|| store.delivery_histories(std::slice::from_ref(&due), usize::MAX))
        .await?;
    // The statement returns one history for each delivery.
    found.pop().ok_or(WorkerError::Incomplete)
}
