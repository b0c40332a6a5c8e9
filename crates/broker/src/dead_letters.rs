//! Dead letters: how a message becomes one, and how a person looks through them.
//!
//! A dead letter keeps its body, its content type and its headers; what Fanfare has to say about it
//! is added in headers of its own. Looking takes every letter without acknowledging it, and returns
//! all but the taken ones by closing the channel. So a look costs the broker a little and loses
//! nothing, even when the process dies in the middle of it.

mod choice;
mod replay;

use crate::error::BrokerError;
use crate::message::{Headers, Message};
use crate::publisher::LARGEST_HEADERS;
use crate::session::Session;
use crate::topology::Queue;
use chrono::{DateTime, SecondsFormat, Utc};
use lapin::options::{BasicAckOptions, BasicGetOptions};
use lapin::{Channel, message::BasicGetMessage};
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

pub use choice::{Choice, Kind, Look};
pub use replay::{Replay, replay};

const REASON: &str = "x-fanfare-reason";
const DETAIL: &str = "x-fanfare-detail";
const ROUTING_KEY: &str = "x-fanfare-routing-key";
const DEAD_AT: &str = "x-fanfare-dead-at";
const ID: &str = "x-fanfare-dead-letter-id";

/// The reason of a letter that the broker put there itself, after too many redeliveries.
pub const POISON: &str = "poison";

/// A detail is for a person to read, not to hold the message a second time.
const LONGEST_DETAIL: usize = 1024;

/// How long a finished look waits for the broker to have everything back.
const RETURN_TIMEOUT: Duration = Duration::from_secs(5);

/// A message in a dead letter queue.
#[derive(Clone, Debug, PartialEq)]
pub struct DeadLetter {
    /// A name for it that stays the same in every look.
    pub id: String,
    /// Why it is here: a stable code, [`POISON`] when the broker moved it.
    pub reason: String,
    /// More about the reason, for a person; may be empty.
    pub detail: String,
    /// When it came here (RFC 3339), if that was written down.
    pub dead_at: Option<String>,
    /// The routing key that it had before.
    pub routing_key: String,
    /// The message, with all its headers.
    pub message: Message,
}

/// What becomes of a letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It stays.
    Keep,
    /// It leaves the queue.
    Take,
    /// It stays, and the walk is over.
    Stop,
}

/// What a walk did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Walked {
    /// Letters that were looked at.
    pub seen: u64,
    /// Letters that left the queue.
    pub taken: u64,
}

/// Makes the dead letter of a message, to be published to a queue's
/// [dead letters](Queue::dead_letters).
///
/// `reason` is one of the contract's codes; `detail` is cut to 1 KiB. Headers that are too large to
/// travel with the additions are left out.
#[must_use]
pub fn reject(
    original: &Message,
    routing_key: &str,
    reason: &str,
    detail: &str,
    at: DateTime<Utc>,
) -> Message {
    let mut message = original.clone();
    // Room for the five headers below, whose values are all short.
    if message.headers.size() > LARGEST_HEADERS - 4 * LONGEST_DETAIL {
        message.headers = Headers::default();
    }
    message
        .headers
        .set(REASON, reason)
        .set(DETAIL, cut(detail, LONGEST_DETAIL))
        .set(ROUTING_KEY, routing_key)
        .set(DEAD_AT, at.to_rfc3339_opts(SecondsFormat::Millis, true))
        .set(ID, Uuid::new_v4().simple().to_string());
    message
}

/// Goes once through a dead letter queue, as long as it was at the start, and asks `visit` about
/// each letter, the oldest first. A taken letter leaves the queue when `visit` has answered, so that
/// what `visit` does with it (such as publishing it again) is done before.
///
/// Letters are hidden from others during the walk; the broker ends a walk of more than its consumer
/// timeout (30 minutes by default).
///
/// # Errors
///
/// Those of `visit`, and the connection's. Taken letters stay taken; all others are back.
pub async fn walk<E: From<BrokerError>>(
    session: &Session,
    queue: Queue,
    mut visit: impl AsyncFnMut(&DeadLetter) -> Result<Verdict, E>,
) -> Result<Walked, E> {
    let mut walk = Walk::begin(session, queue).await?;
    while let Some(letter) = walk.next().await? {
        match visit(&letter).await? {
            Verdict::Keep => {}
            Verdict::Take => walk.take().await?,
            Verdict::Stop => break,
        }
    }
    Ok(walk.end().await?)
}

/// The same step by step.
pub struct Walk {
    session: Session,
    channel: Channel,
    queue: Queue,
    length: u64,
    walked: Walked,
    /// The letter that was shown last, until it is taken.
    shown: Option<BasicGetMessage>,
}

impl Walk {
    /// Begins a walk through a queue. One that is dropped in the middle gives its letters back too.
    pub async fn begin(session: &Session, queue: Queue) -> Result<Self, BrokerError> {
        let length = u64::from(session.depth(queue).await?.ready);
        let channel = session.channel().await?;
        let (session, walked) = (session.clone(), Walked::default());
        Ok(Self { session, channel, queue, length, walked, shown: None })
    }

    /// The next letter; the one before stays, unless it was taken.
    pub async fn next(&mut self) -> Result<Option<DeadLetter>, BrokerError> {
        self.shown = None;
        if self.walked.seen >= self.length {
            return Ok(None);
        }
        let Some(got) = get(&self.channel, self.queue).await? else {
            return Ok(None);
        };
        self.walked.seen += 1;
        let letter = DeadLetter::read(&got);
        self.shown = Some(got);
        Ok(Some(letter))
    }

    /// Takes the letter that was shown last out of the queue.
    pub async fn take(&mut self) -> Result<(), BrokerError> {
        if let Some(got) = self.shown.take() {
            ack(&got, self.queue).await?;
            self.walked.taken += 1;
        }
        Ok(())
    }

    /// Ends the walk: all others are back in the queue.
    pub async fn end(self) -> Result<Walked, BrokerError> {
        let expected = self.length - self.walked.taken;
        give_back(&self.session, &self.channel, self.queue, expected).await?;
        Ok(self.walked)
    }
}

impl DeadLetter {
    /// The message as it was before, to be published again with [`Self::routing_key`] or to its
    /// queue: without what its death added.
    #[must_use]
    pub fn original(&self) -> Message {
        let mut message = self.message.clone();
        for name in [REASON, DETAIL, ROUTING_KEY, DEAD_AT, ID] {
            message.headers.remove(name);
        }
        message
    }

    fn read(got: &BasicGetMessage) -> Self {
        let delivery = &got.delivery;
        let (message, _) = Message::from_delivery(delivery.data.clone(), &delivery.properties);
        let headers = &message.headers;
        let text = |name: &str| headers.text(name).map(str::to_owned);
        Self {
            id: text(ID).unwrap_or_else(|| digest(&message)),
            reason: text(REASON).unwrap_or_else(|| POISON.to_owned()),
            detail: text(DETAIL).unwrap_or_else(|| broker_detail(headers)),
            dead_at: text(DEAD_AT),
            routing_key: text(ROUTING_KEY).unwrap_or_else(|| delivery.routing_key.to_string()),
            message,
        }
    }
}

async fn get(channel: &Channel, queue: Queue) -> Result<Option<BasicGetMessage>, BrokerError> {
    channel
        .basic_get(queue.name().into(), BasicGetOptions::default())
        .await
        .map_err(|error| BrokerError::of(format!("looking through {queue}"), &error))
}

async fn ack(got: &BasicGetMessage, queue: Queue) -> Result<(), BrokerError> {
    let doing = || format!("taking a letter from {queue}");
    match got.delivery.acker.ack(BasicAckOptions::default()).await {
        Ok(true) => Ok(()),
        Ok(false) => Err(BrokerError::Lost { doing: doing(), source: None }),
        Err(error) => Err(BrokerError::of(doing(), &error)),
    }
}

/// Closes the channel and waits until the queue has its letters back, so that a look right after
/// this one sees them all. Another walker may hold some: the wait has an end.
async fn give_back(
    session: &Session,
    channel: &Channel,
    queue: Queue,
    expected: u64,
) -> Result<(), BrokerError> {
    channel
        .close(200, "OK".into())
        .await
        .map_err(|error| BrokerError::of(format!("returning letters to {queue}"), &error))?;
    let until = Instant::now() + RETURN_TIMEOUT;
    while u64::from(session.depth(queue).await?.ready) < expected && Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

fn broker_detail(headers: &Headers) -> String {
    headers.moved_by_broker().map_or_else(String::new, |(reason, queue)| {
        format!("moved here by the broker from {queue} ({reason})")
    })
}

/// A name for a letter that was given none. Equal letters have equal names.
fn digest(message: &Message) -> String {
    let mut hash = Sha256::new();
    hash.update(message.headers.canonical());
    hash.update(&message.body);
    let mut id = String::with_capacity(32);
    for byte in hash.finalize().iter().take(16) {
        let _ = write!(id, "{byte:02x}");
    }
    id
}

fn cut(text: &str, longest: usize) -> &str {
    text.get(..text.floor_char_boundary(longest)).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_message_and_says_why() {
        let mut original = Message::new("{}", "application/json");
        original.headers.set("traceparent", "00-1-2-01");
        let letter = reject(&original, "reports.upload", "bad-data", "no", DateTime::UNIX_EPOCH);
        assert_eq!(letter.body, original.body);
        assert_eq!(letter.headers.text("traceparent"), Some("00-1-2-01"));
        assert_eq!(letter.headers.text(REASON), Some("bad-data"));
        assert_eq!(letter.headers.text(DEAD_AT), Some("1970-01-01T00:00:00.000Z"));
    }

    #[test]
    fn cuts_a_long_detail_between_characters() {
        let detail = "ä".repeat(600) + "x";
        let letter = reject(
            &Message::default(),
            "",
            "bad-data",
            &format!("x{detail}"),
            DateTime::UNIX_EPOCH,
        );
        assert_eq!(letter.headers.text(DETAIL).map(str::len), Some(1023));
    }

    #[test]
    fn leaves_out_headers_that_could_not_travel() {
        let mut original = Message::default();
        original.headers.set("huge", "x".repeat(LARGEST_HEADERS));
        let letter = reject(&original, "", "too-large", "", DateTime::UNIX_EPOCH);
        assert!(letter.headers.size() < LARGEST_HEADERS);
        assert_eq!(letter.headers.text("huge"), None);
    }
}
