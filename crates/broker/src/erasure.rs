//! Erasure: finds the messages with payloads that a person wants to be erased, in all queues that may
//! have them, and removes or replaces these.
//!
//! A queue is read like dead letters are ([`Walk`]): while it is read its messages are hidden from
//! other consumers, and those that stay return to its front. A message that another process has
//! received and not settled is not seen.

use fanfare_core::erasure::{ErasureTarget, Stripped};
use fanfare_core::ids::BatchKey;
use fanfare_core::job::Job;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::dead_letters::{EncodedLetter, Kind, Walk, event, queue_of, without_data};
use crate::error::BrokerError;
use crate::ladder::HELD_NAMES;
use crate::letter::{BATCH, DeadLetter};
use crate::message::Message;
use crate::session::Session;
use crate::topology::Queue;

/// The queues that are searched, by what their messages are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Events that no router has taken, and those that wait until they can be decided.
    Waiting,
    /// Jobs of workers.
    Jobs,
    /// Dead letters of this kind.
    Dead(Kind),
}

/// A message that may have to be erased.
pub struct Found {
    queue: Queue,
    /// The message, as it would be read as a dead letter.
    pub letter: DeadLetter,
    /// What is left of it.
    left: Left,
    /// Whether its own content says that it is one to be erased.
    pub is_target: bool,
    /// The batches whose data it carries: it is to be erased if one of their events is.
    pub batches: Vec<BatchKey>,
}

impl Found {
    /// Whether nothing of it is left.
    #[must_use]
    pub fn goes(&self) -> bool {
        matches!(self.left, Left::Nothing)
    }
}

/// What is left of a message that is kept outside of the broker.
#[must_use]
pub fn strip(target: &ErasureTarget, kept: EncodedLetter) -> Stripped {
    kept.decode().map_or(Stripped::Untouched, |message| target.strip(&message.as_event()))
}

/// What takes the place of a message.
enum Left {
    Nothing,
    Message(Box<Message>),
}

/// Searches queues, message by message.
pub struct Search {
    session: Session,
    target: ErasureTarget,
    place: Place,
    /// The queues that follow.
    queues: Vec<(&'static str, Queue)>,
    walk: Option<(Queue, Walk)>,
}

impl Search {
    /// Begins a search.
    #[must_use]
    pub fn begin(session: &Session, target: &ErasureTarget, place: Place) -> Self {
        let named = |queue: Queue| (queue.name(), queue);
        let mut queues: Vec<(&'static str, Queue)> = match place {
            Place::Waiting => {
                let held = HELD_NAMES.into_iter().map(|name| (name, Queue::Events));
                held.chain([named(Queue::Events)]).collect()
            }
            Place::Jobs => {
                let carries_jobs =
                    |queue: &Queue| matches!(queue, Queue::Deliveries(_) | Queue::Retries);
                let all = Queue::all(session.config().delivery_queues());
                all.filter(carries_jobs).map(named).collect()
            }
            Place::Dead(kind) => vec![named(queue_of(kind))],
        };
        queues.reverse();
        Self { session: session.clone(), target: target.clone(), place, queues, walk: None }
    }

    /// The next message that may have to be erased; `None` at the end. The one before it stays unless
    /// it was [erased](Self::erase).
    ///
    /// # Errors
    ///
    /// The connection's. All messages that were not erased are back in their queues.
    pub async fn next(&mut self) -> Result<Option<Found>, BrokerError> {
        loop {
            let Some((queue, walk)) = &mut self.walk else {
                let Some((name, queue)) = self.queues.pop() else { return Ok(None) };
                self.walk = Some((queue, Walk::begin_named(&self.session, name).await?));
                continue;
            };
            let queue = *queue;
            let Some(letter) = walk.next().await? else {
                if let Some((_, walk)) = self.walk.take() {
                    walk.end().await?;
                }
                continue;
            };
            if let Some(found) = self.read(queue, letter)? {
                return Ok(Some(found));
            }
        }
    }

    /// Removes the message that was returned last, after what is left of it is published.
    ///
    /// # Errors
    ///
    /// The message stays, or is there once more without the data: search again.
    pub async fn erase(&mut self, found: Found) -> Result<(), BrokerError> {
        if let Left::Message(message) = found.left {
            self.session.publisher().publish(&found.queue.into(), *message).await?;
        }
        if let Some((_, walk)) = &mut self.walk {
            walk.take().await?;
        }
        Ok(())
    }

    fn read(&self, queue: Queue, letter: DeadLetter) -> Result<Option<Found>, BrokerError> {
        match self.place {
            Place::Waiting | Place::Dead(Kind::Events) => Ok(self.read_event(queue, letter)),
            Place::Jobs => self.read_job(queue, letter),
            Place::Dead(Kind::Deliveries) => Ok(Some(self.read_delivery(queue, letter))),
        }
    }

    fn read_event(&self, queue: Queue, letter: DeadLetter) -> Option<Found> {
        let left = match self.target.strip(&letter.message.as_event()) {
            Stripped::Untouched => return None,
            Stripped::Nothing => Left::Nothing,
            Stripped::Rest(body) => {
                let is_dead = self.place != Place::Waiting;
                let mut message = if is_dead { letter.message.clone() } else { event(&letter) };
                message.body = body.into();
                Left::Message(Box::new(message))
            }
        };
        Some(Found { queue, letter, left, is_target: true, batches: Vec::new() })
    }

    fn read_job(&self, queue: Queue, letter: DeadLetter) -> Result<Option<Found>, BrokerError> {
        let Some(message) = without_data(letter.message.clone())? else { return Ok(None) };
        let (is_target, batches) = self.read_content(&letter);
        let left = Left::Message(Box::new(message));
        Ok(Some(Found { queue, letter, left, is_target, batches }))
    }

    fn read_delivery(&self, queue: Queue, letter: DeadLetter) -> Found {
        let (is_target, batches) = self.read_content(&letter);
        Found { queue, letter, left: Left::Nothing, is_target, batches }
    }

    /// Whether the notifications of a job or a dead delivery name the target, and their batches.
    fn read_content(&self, letter: &DeadLetter) -> (bool, Vec<BatchKey>) {
        #[derive(Deserialize)]
        struct Body<'a> {
            #[serde(rename = "Notifications", borrow)]
            notifications: Vec<&'a RawValue>,
        }
        if let Ok(Job::FirstInline(groups)) = Job::from_bytes(&letter.message.body) {
            let mut all = groups.iter().flat_map(|group| &group.notifications);
            let is_target = all.any(|it| self.target.is_named_in(it.get()));
            return (is_target, groups.iter().map(|group| group.batch).collect());
        }
        let batch = letter.message.headers.text(BATCH).and_then(|batch| batch.parse().ok());
        let is_target = serde_json::from_slice(&letter.message.body).is_ok_and(|body: Body<'_>| {
            body.notifications.iter().any(|it| self.target.is_named_in(it.get()))
        });
        (is_target, batch.into_iter().collect())
    }
}
