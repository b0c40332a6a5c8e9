//! The form of a dead letter: the message with its body, its content type and its headers, and
//! headers of Fanfare's own that say why it was given up.

pub(crate) mod fit;

use crate::job::FORMAT_NUMBER;
use crate::message::Message;
use crate::received::{RAW_PROPERTIES, RAW_ROUTING_KEY, Received};
use chrono::{DateTime, SecondsFormat, Utc};
use fanfare_core::job::FORMAT;
use fanfare_core::reject::Reason;
use lapin::message::Delivery;
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use uuid::Uuid;

pub(crate) const REASON: &str = "x-fanfare-reason";
pub(crate) const DETAIL: &str = "x-fanfare-detail";
pub(crate) const ROUTING_KEY: &str = "x-fanfare-routing-key";
pub(crate) const DEAD_AT: &str = "x-fanfare-dead-at";
pub(crate) const ID: &str = "x-fanfare-dead-letter-id";
/// The row of the ledger that keeps the message while it waits, or until it is routed again.
pub(crate) const KEPT_ID: &str = "x-fanfare-kept-id";
pub(crate) const WEBHOOK: &str = "x-fanfare-webhook";
pub(crate) const OWNER: &str = "x-fanfare-owner";
pub(crate) const EVENT: &str = "x-fanfare-event";
pub(crate) const ATTEMPTS: &str = "x-fanfare-attempts";
pub(crate) const LAST_STATUS: &str = "x-fanfare-last-status";
pub(crate) const DELIVERY: &str = "x-fanfare-delivery";
pub(crate) const BATCH: &str = "x-fanfare-batch";

/// The reason of a dead letter without one.
pub const POISON: &str = "poison";

/// The most bytes of a detail: it is for a person to read, and need not repeat the message.
const LONGEST_DETAIL: usize = 1024;

/// The most bytes of a reason or a queue's name that another program wrote.
const LONGEST_NAME: usize = 255;

/// The protocol's limit for a routing key.
const LONGEST_ROUTING_KEY: usize = 255;

/// A message in a dead letter queue.
#[derive(Clone, Debug, PartialEq)]
pub struct DeadLetter {
    /// An id that stays the same whenever the letter is read.
    pub id: String,
    /// Why it was given up: a stable code.
    pub reason: String,
    /// More about the reason, for a person; may be empty.
    pub detail: String,
    /// When it became a dead letter (RFC 3339), if a header says so.
    pub dead_at: Option<String>,
    /// The routing key that it had before.
    pub routing_key: String,
    /// The message, with all its headers.
    pub message: Message,
}

/// Makes the dead letter of a message, to be published to a queue's
/// [dead letters](crate::topology::Queue::dead_letters).
///
/// `reason` is one of the contract's codes; `detail` is cut to 1 KiB. Headers that do not fit in a
/// frame with the additions are left out when it is published, the largest first.
#[must_use]
pub fn reject(
    original: &Message,
    routing_key: &str,
    reason: &str,
    detail: &str,
    at: DateTime<Utc>,
) -> Message {
    let mut message = original.clone();
    message
        .headers
        .set(FORMAT_NUMBER, FORMAT)
        .set(REASON, reason)
        .set(DETAIL, cut(detail, LONGEST_DETAIL))
        .set(ROUTING_KEY, cut(routing_key, LONGEST_ROUTING_KEY))
        .set(DEAD_AT, at.to_rfc3339_opts(SecondsFormat::Millis, true))
        .set(ID, Uuid::new_v4().simple().to_string());
    message
}

impl Message {
    /// The row of the ledger that keeps this message: of one that waits or is replayed, or of a dead
    /// letter that a person moved back by hand. Only a message from one of Fanfare's own queues says
    /// the truth.
    #[must_use]
    pub fn kept_id(&self) -> Option<Uuid> {
        let id = |name| self.headers.text(name).and_then(|id| Uuid::parse_str(id).ok());
        id(KEPT_ID).or_else(|| id(ID))
    }

    /// Names the row of the ledger that keeps this message while it waits.
    pub fn set_kept_id(&mut self, id: Uuid) {
        self.headers.set(KEPT_ID, id.simple().to_string());
    }

    /// Removes the name of a row of the ledger.
    pub fn remove_kept_id(&mut self) {
        self.headers.remove(KEPT_ID);
        self.headers.remove(ID);
    }

    /// Gives a dead letter the id of the row of the ledger that keeps it.
    pub fn set_letter_id(&mut self, id: Uuid) {
        self.headers.remove(KEPT_ID);
        self.headers.set(ID, id.simple().to_string());
    }

    /// The digest of a message without the headers that differ each time it is refused or held, and
    /// without `other` ones: it is the same when the broker delivers the message again.
    #[must_use]
    pub fn stable_digest(&self, other: &[&str]) -> Uuid {
        let mut stable = self.clone();
        for name in [DETAIL, DEAD_AT, ID, KEPT_ID].iter().chain(other) {
            stable.headers.remove(name);
        }
        let mut hash = Sha256::new();
        // What can't be encoded can't be published either, so its digest is never compared.
        hash.update(stable.encode_properties().unwrap_or_default());
        hash.update(&stable.body);
        let mut digest = [0; 16];
        digest.iter_mut().zip(hash.finalize()).for_each(|(to, from)| *to = from);
        Uuid::from_bytes(digest)
    }
}

impl DeadLetter {
    /// The message as it was before, without the headers of the dead letter, for publishing it
    /// again with [`Self::routing_key`] or to its queue.
    #[must_use]
    pub fn original(&self) -> Message {
        let mut message = self.message.clone();
        let added = [FORMAT_NUMBER, REASON, DETAIL, ROUTING_KEY, DEAD_AT, ID, KEPT_ID];
        for name in added.into_iter().chain([RAW_PROPERTIES, RAW_ROUTING_KEY]) {
            message.headers.remove(name);
        }
        message
    }

    /// The row of the ledger that keeps a dead event: they have the same id. The letters of the broker,
    /// and of workers, have none.
    #[must_use]
    pub fn kept_id(&self) -> Option<Uuid> {
        let own = self.message.headers.text(ID).is_some_and(|id| id == self.id);
        Uuid::parse_str(&self.id).ok().filter(|_| own)
    }

    /// The dead letter in a message of Fanfare's, such as the ledger keeps.
    #[must_use]
    pub fn of_message(message: Message) -> Self {
        Self::of(Received {
            message,
            delivery_count: 0,
            exchange: String::new(),
            routing_key: String::new(),
            unreadable: None,
        })
    }

    pub(crate) fn read(delivery: Delivery) -> Self {
        Self::of(Received::read(
            delivery.data,
            &delivery.properties,
            &delivery.exchange,
            &delivery.routing_key,
        ))
    }

    pub(crate) fn of(received: Received) -> Self {
        let Received { message, routing_key, unreadable, .. } = received;
        let headers = &message.headers;
        // Messages that Fanfare publishes have no trace of an earlier death. So if there is one,
        // the broker moved the message, and its other headers are not Fanfare's.
        let moved = headers.moved_by_broker();
        let own = |name: &str| headers.text(name).filter(|_| moved.is_none()).map(str::to_owned);
        let (reason, detail) = match (moved, &unreadable) {
            (Some((reason, queue)), _) => (code(reason).to_owned(), moved_detail(reason, queue)),
            (None, None) => {
                (own(REASON).unwrap_or_else(|| POISON.to_owned()), own(DETAIL).unwrap_or_default())
            }
            (None, Some(why)) => (
                own(REASON).unwrap_or_else(|| Reason::Unreadable.code().to_owned()),
                own(DETAIL).unwrap_or_else(|| why.clone()),
            ),
        };
        Self {
            id: own(ID).filter(|id| is_id(id)).unwrap_or_else(|| digest(&message)),
            reason: cut(&reason, LONGEST_NAME).to_owned(),
            detail: cut(&detail, 2 * LONGEST_DETAIL).to_owned(),
            dead_at: own(DEAD_AT).filter(|at| DateTime::parse_from_rfc3339(at).is_ok()),
            routing_key: cut(&own(ROUTING_KEY).unwrap_or(routing_key), LONGEST_NAME).to_owned(),
            message,
        }
    }
}

/// Whether an id has the form of Fanfare's own ids, so that it can be shown and typed.
fn is_id(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// The code for the broker's own reason for moving a message.
fn code(reason: &str) -> &'static str {
    match reason {
        "expired" => Reason::MessageExpired.code(),
        "maxlen" => Reason::QueueOverflow.code(),
        "delivery_limit" => Reason::DeliveryLimit.code(),
        _ => POISON,
    }
}

fn moved_detail(reason: &str, queue: &str) -> String {
    let (reason, queue) = (cut(reason, LONGEST_NAME), cut(queue, LONGEST_NAME));
    format!("moved here by the broker from {queue} ({reason})")
}

/// The id of a letter without one. Equal letters have equal ids.
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

pub(crate) fn cut(text: &str, longest: usize) -> &str {
    text.get(..text.floor_char_boundary(longest)).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Headers;
    use lapin::types::{AMQPValue, DecimalValue, FieldTable};

    #[test]
    fn a_rejected_message_keeps_its_content_and_gets_a_reason() {
        let mut original = Message::new("{}", "application/json");
        original.headers.set("traceparent", "00-1-2-01");
        let letter = reject(&original, "reports.upload", "bad-data", "no", DateTime::UNIX_EPOCH);
        assert_eq!(letter.body, original.body);
        assert_eq!(letter.headers.text("traceparent"), Some("00-1-2-01"));
        assert_eq!(letter.headers.text(REASON), Some("bad-data"));
        assert_eq!(letter.headers.text(DEAD_AT), Some("1970-01-01T00:00:00.000Z"));
    }

    #[test]
    fn a_long_detail_is_cut_between_characters() {
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

    fn letter(headers: Headers) -> DeadLetter {
        let message = Message { headers, ..Message::new("{}", "application/json") };
        DeadLetter::of(Received {
            message,
            delivery_count: 0,
            exchange: String::new(),
            routing_key: "tasks.edit".to_owned(),
            unreadable: None,
        })
    }

    fn died(reason: &str, queue: &str) -> AMQPValue {
        let mut death = FieldTable::default();
        for (name, value) in [("reason", reason), ("queue", queue)] {
            death.insert(name.into(), AMQPValue::LongString(value.into()));
        }
        AMQPValue::FieldTable(death)
    }

    #[test]
    fn a_message_that_the_broker_moved_has_the_reason_of_its_latest_death() {
        for (word, code) in [
            ("expired", "message-expired"),
            ("maxlen", "queue-overflow"),
            ("delivery_limit", "delivery-limit"),
            ("rejected", "poison"),
        ] {
            let mut headers = Headers::default();
            let deaths = vec![died(word, "fanfare.events"), died("expired", "fanfare.delay.00")];
            headers.set_value("x-death", AMQPValue::FieldArray(deaths.into()));
            headers.set("x-first-death-reason", "expired");
            headers.set("x-first-death-queue", "fanfare.delay.00");
            // Headers that another program wrote, which do not count here.
            headers.set(REASON, "made-up").set(ID, "made-up");
            let letter = letter(headers);
            assert_eq!(letter.reason, code);
            assert_eq!(
                letter.detail,
                format!("moved here by the broker from fanfare.events ({word})")
            );
            assert_ne!(letter.id, "made-up");
        }
        assert_eq!(letter(Headers::default()).reason, POISON);
    }

    #[test]
    fn equal_letters_have_equal_ids_whatever_types_their_headers_have() {
        let values = vec![
            AMQPValue::Void,
            AMQPValue::Float(f32::NAN),
            AMQPValue::Double(f64::NEG_INFINITY),
            AMQPValue::Timestamp(u64::MAX),
            AMQPValue::DecimalValue(DecimalValue { scale: 255, value: u32::MAX }),
            AMQPValue::ByteArray(vec![0xff, 0].into()),
            AMQPValue::LongString(vec![0xfe].into()),
            died("a", "b"),
        ];
        let named = |values: &[AMQPValue]| {
            let mut headers = Headers::default();
            headers.set_value("values", AMQPValue::FieldArray(values.to_vec().into()));
            letter(headers).id
        };
        assert_eq!(named(&values), named(&values));
        for cut in 0..values.len() {
            assert_ne!(named(values.get(..cut).unwrap()), named(&values));
        }
    }
}
