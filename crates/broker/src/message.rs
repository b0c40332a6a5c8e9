//! A message, its headers, and its destination.

use crate::ladder::{BackTo, Delay};
use crate::topology::Queue;
use bytes::Bytes;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// The broker's count of how often a message was returned unsettled.
const DELIVERY_COUNT: &str = "x-delivery-count";
/// The broker's count of how often a message was delivered.
const ACQUIRED_COUNT: &str = "x-acquired-count";
/// AMQP's delivery mode of a message that need not be written to disk.
pub(crate) const TRANSIENT: u8 = 1;

/// The header that routes copies of a message to other queues, and the name under which it is kept.
const COPIES: &str = "CC";
const KEPT_COPIES: &str = "x-fanfare-cc";

/// A message as Fanfare sees it. Every published message is persistent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Message {
    pub body: Bytes,
    /// The media type of the body, such as `application/json`.
    pub content_type: Option<String>,
    /// The sender's identifier of this message.
    pub message_id: Option<String>,
    pub headers: Headers,
    /// Properties that Fanfare passes on. It reads only the encoding.
    pub properties: Properties,
}

/// The properties of AMQP other than content type, id and headers.
///
/// Two properties are left out, because Fanfare must not publish them again: the broker compares
/// `user_id` with the user that publishes, and `expiration` would let the message expire.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties {
    /// Such as `gzip`.
    pub content_encoding: Option<String>,
    /// The sender's name for messages of this kind: `type` in AMQP.
    pub kind: Option<String>,
    pub correlation_id: Option<String>,
    /// The queue for an answer.
    pub reply_to: Option<String>,
    /// The sender's program.
    pub app_id: Option<String>,
    /// Without a meaning since AMQP 0-9-1; some clients send it.
    pub cluster_id: Option<String>,
    /// When it was sent, in seconds since 1970.
    pub timestamp: Option<u64>,
    /// From 0 to 9.
    pub priority: Option<u8>,
    /// `TRANSIENT`, or `None` for a persistent message.
    pub delivery_mode: Option<u8>,
}

impl Message {
    /// A message without headers.
    #[must_use]
    pub fn new(body: impl Into<Bytes>, content_type: &str) -> Self {
        Self { body: body.into(), content_type: Some(content_type.to_owned()), ..Self::default() }
    }

    /// The most bytes that the properties take on the wire, headers included.
    pub(crate) fn properties_size(&self) -> usize {
        let Properties {
            content_encoding, kind, correlation_id, reply_to, app_id, cluster_id, ..
        } = &self.properties;
        let texts = [
            &self.content_type,
            &self.message_id,
            content_encoding,
            kind,
            correlation_id,
            reply_to,
            app_id,
            cluster_id,
        ];
        let texts = texts.into_iter().flatten().map(|text| 1 + text.len()).sum::<usize>();
        // Flags, timestamp, priority and delivery mode, and CC under its longer name.
        2 + 8 + 1 + 1 + KEPT_COPIES.len() + texts + table_size(&self.headers.0)
    }

    /// The message of a delivery, and how often it was returned unsettled.
    pub(crate) fn from_delivery(body: Bytes, properties: &BasicProperties) -> (Self, u64) {
        let mut headers = Headers::from_table(properties.headers().as_ref());
        let delivery_count = headers.int(DELIVERY_COUNT).unwrap_or(0);
        // The broker sets these for each delivery, so a copy would mislead.
        for name in [DELIVERY_COUNT, ACQUIRED_COUNT] {
            headers.remove(name);
        }
        let message = Self {
            body,
            content_type: text(properties.content_type().as_ref()),
            message_id: text(properties.message_id().as_ref()),
            headers,
            properties: Properties {
                content_encoding: text(properties.content_encoding().as_ref()),
                kind: text(properties.kind().as_ref()),
                correlation_id: text(properties.correlation_id().as_ref()),
                reply_to: text(properties.reply_to().as_ref()),
                app_id: text(properties.app_id().as_ref()),
                cluster_id: text(properties.cluster_id().as_ref()),
                timestamp: *properties.timestamp(),
                priority: *properties.priority(),
                delivery_mode: properties.delivery_mode().filter(|mode| *mode == TRANSIENT),
            },
        };
        (message, u64::try_from(delivery_count).unwrap_or(0))
    }
}

fn text(property: Option<&ShortString>) -> Option<String> {
    property.map(ToString::to_string)
}

/// The headers of a message, by name.
///
/// Fanfare reads and writes texts, whole numbers and flags. Values of other types that came with a
/// message are kept as they are.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Headers(BTreeMap<ShortString, AMQPValue>);

/// A header's value, in the types that Fanfare writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderValue {
    /// A text.
    Text(String),
    /// A whole number.
    Int(i64),
    /// A flag.
    Bool(bool),
}

impl Headers {
    /// The text of a header; `None` if it is missing or not a text.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        as_text(self.0.get(name)?)
    }

    /// The whole number of a header; `None` if it is missing or not a number.
    #[must_use]
    pub fn int(&self, name: &str) -> Option<i64> {
        as_int(self.0.get(name)?)
    }

    /// The flag of a header; `None` if it is missing or not a flag.
    #[must_use]
    pub fn flag(&self, name: &str) -> Option<bool> {
        self.0.get(name)?.as_bool()
    }

    /// Sets a header and replaces an earlier one of that name.
    ///
    /// The protocol allows names of at most 255 bytes. A longer name sets nothing.
    pub fn set(&mut self, name: &'static str, value: impl Into<HeaderValue>) -> &mut Self {
        debug_assert!(name.len() <= 255, "the header name {name} is too long");
        if let Ok(name) = ShortString::try_new(name) {
            self.0.insert(name, value.into().into_amqp());
        }
        self
    }

    pub fn remove(&mut self, name: &str) {
        self.0.remove(name);
    }

    /// The headers that are texts, numbers or flags, ordered by name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, HeaderValue)> {
        self.0.iter().filter_map(|(name, value)| Some((name.as_str(), readable(value)?)))
    }

    /// The headers with their values of any type.
    pub(crate) fn values(&self) -> impl Iterator<Item = (&str, &AMQPValue)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// The headers for publishing a message again: without those that the broker added, and without
    /// those that route copies.
    ///
    /// `x-death` and similar headers list the queues in which a message expired. If a message
    /// expires in the same queue again, the broker considers it a cycle and drops it, so a message
    /// that is published again must not have them. `CC` and `BCC` route copies; they were meant for
    /// the exchange that the message was first published to. The value of `CC` is kept under
    /// another name (the broker itself removes `BCC`).
    pub(crate) fn to_publish(&self) -> FieldTable {
        let kept = self.0.iter().filter(|(name, _)| !is_trace_of_the_way(name.as_str()));
        let mut table: BTreeMap<_, _> =
            kept.map(|(name, value)| (name.clone(), value.clone())).collect();
        if let (Some(copies), Ok(name)) = (self.0.get(COPIES), ShortString::try_new(KEPT_COPIES)) {
            table.insert(name, copies.clone());
        }
        FieldTable::from(table)
    }

    /// The name and the size on the wire of each header.
    pub(crate) fn sizes(&self) -> impl Iterator<Item = (&str, usize)> {
        self.0.iter().map(|(name, value)| (name.as_str(), entry_size(name, value)))
    }

    /// Sets a header to a value of any type.
    pub(crate) fn set_value(&mut self, name: &'static str, value: AMQPValue) {
        if let Ok(name) = ShortString::try_new(name) {
            self.insert(name, value);
        }
    }

    pub(crate) fn insert(&mut self, name: ShortString, value: AMQPValue) {
        self.0.insert(name, value);
    }

    pub(crate) fn has(&self, name: &ShortString) -> bool {
        self.0.contains_key(name)
    }

    /// The canonical form of the headers: equal headers have equal bytes.
    pub(crate) fn canonical(&self) -> Vec<u8> {
        // Plain data with names as keys, which JSON can always represent.
        serde_json::to_vec(&self.0).unwrap_or_default()
    }

    /// The reason for which the broker itself moved the message last, and the queue it moved it
    /// from.
    pub(crate) fn moved_by_broker(&self) -> Option<(&str, &str)> {
        self.last_death().or_else(|| {
            let noted = |which: &str| {
                let (reason, queue) = (format!("{which}-reason"), format!("{which}-queue"));
                Some((self.text(&reason)?, self.text(&queue)?))
            };
            noted("x-last-death").or_else(|| noted("x-first-death"))
        })
    }

    /// `x-death` begins with the latest death.
    fn last_death(&self) -> Option<(&str, &str)> {
        let deaths = self.0.get("x-death")?.as_array()?;
        let death = deaths.as_slice().first()?.as_field_table()?.inner();
        let of = |name: &str| as_text(death.get(name)?);
        Some((of("reason")?, of("queue")?))
    }

    pub(crate) fn from_table(table: Option<&FieldTable>) -> Self {
        Self(table.map(|table| table.inner().clone()).unwrap_or_default())
    }
}

impl HeaderValue {
    fn into_amqp(self) -> AMQPValue {
        match self {
            Self::Text(text) => AMQPValue::LongString(text.into()),
            Self::Int(number) => AMQPValue::LongLongInt(number),
            Self::Bool(flag) => AMQPValue::Boolean(flag),
        }
    }
}

impl From<&str> for HeaderValue {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for HeaderValue {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for HeaderValue {
    fn from(number: i64) -> Self {
        Self::Int(number)
    }
}

impl From<bool> for HeaderValue {
    fn from(flag: bool) -> Self {
        Self::Bool(flag)
    }
}

/// The destination of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// One of Fanfare's queues, without an exchange in between.
    Queue(Queue),
    /// An exchange, as the report server uses it.
    Exchange {
        /// The exchange's name.
        exchange: String,
        /// The routing key, at most 255 bytes.
        routing_key: String,
    },
    /// The delay ladder, from which the message comes back later.
    Later { delay: Delay, back_to: BackTo },
}

impl Destination {
    /// The exchange and the routing key.
    pub(crate) fn address(&self) -> (Cow<'_, str>, Cow<'_, str>) {
        match self {
            // The default exchange routes by the queue's name.
            Self::Queue(queue) => ("".into(), queue.name().into()),
            Self::Exchange { exchange, routing_key } => (exchange.into(), routing_key.into()),
            Self::Later { delay, back_to: BackTo::Events } => {
                ("".into(), delay.held_queue().into())
            }
            Self::Later { delay, back_to } => {
                (delay.exchange().into(), delay.routing_key(*back_to).into())
            }
        }
    }
}

impl Destination {
    /// The queue, or the exchange that leads there.
    pub(crate) fn describe(&self) -> String {
        let (exchange, routing_key) = self.address();
        if exchange.is_empty() { routing_key.into_owned() } else { exchange.into_owned() }
    }
}

impl From<Queue> for Destination {
    fn from(queue: Queue) -> Self {
        Self::Queue(queue)
    }
}

fn is_trace_of_the_way(name: &str) -> bool {
    name == "x-death"
        || name.starts_with("x-first-death-")
        || name.starts_with("x-last-death-")
        || name == DELIVERY_COUNT
        || name == ACQUIRED_COUNT
        || name == COPIES
        || name == "BCC"
}

pub(crate) fn as_text(value: &AMQPValue) -> Option<&str> {
    match value {
        AMQPValue::LongString(text) => std::str::from_utf8(text.as_bytes()).ok(),
        AMQPValue::ShortString(text) => Some(text.as_str()),
        _ => None,
    }
}

pub(crate) fn as_int(value: &AMQPValue) -> Option<i64> {
    match value {
        AMQPValue::ShortShortInt(number) => Some(i64::from(*number)),
        AMQPValue::ShortShortUInt(number) => Some(i64::from(*number)),
        AMQPValue::ShortInt(number) => Some(i64::from(*number)),
        AMQPValue::ShortUInt(number) => Some(i64::from(*number)),
        AMQPValue::LongInt(number) => Some(i64::from(*number)),
        AMQPValue::LongUInt(number) => Some(i64::from(*number)),
        AMQPValue::LongLongInt(number) => Some(*number),
        _ => None,
    }
}

fn readable(value: &AMQPValue) -> Option<HeaderValue> {
    match value {
        AMQPValue::Boolean(flag) => Some(HeaderValue::Bool(*flag)),
        AMQPValue::LongString(text) => Some(HeaderValue::Text(text.to_string())),
        AMQPValue::ShortString(text) => Some(HeaderValue::Text(text.to_string())),
        other => as_int(other).map(HeaderValue::Int),
    }
}

fn table_size(table: &BTreeMap<ShortString, AMQPValue>) -> usize {
    table.iter().map(|(name, value)| entry_size(name, value)).sum::<usize>() + 4
}

fn entry_size(name: &ShortString, value: &AMQPValue) -> usize {
    1 + name.as_str().len() + value_size(value)
}

fn value_size(value: &AMQPValue) -> usize {
    1 + match value {
        AMQPValue::LongString(text) => 4 + text.len(),
        AMQPValue::ShortString(text) => 4 + text.as_str().len(),
        AMQPValue::ByteArray(bytes) => 4 + bytes.len(),
        AMQPValue::FieldArray(values) => {
            4 + values.as_slice().iter().map(value_size).sum::<usize>()
        }
        AMQPValue::FieldTable(table) => table_size(table.inner()),
        _ => 8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lapin::types::FieldArray;

    #[test]
    fn reads_back_what_was_set() {
        let mut headers = Headers::default();
        headers.set("text", "Größe").set("number", 7).set("flag", true);
        assert_eq!(headers.text("text"), Some("Größe"));
        assert_eq!(headers.int("number"), Some(7));
        assert_eq!(headers.flag("flag"), Some(true));
        assert_eq!(headers.text("number"), None);
        assert_eq!(headers.iter().count(), 3);
    }

    #[test]
    fn keeps_types_that_it_does_not_know_and_strips_the_way() {
        let mut table = FieldTable::default();
        table.insert("list".into(), AMQPValue::FieldArray(FieldArray::from(vec![1.into()])));
        for name in ["x-death", "x-first-death-queue", "x-last-death-reason", "CC", "BCC"] {
            table.insert(name.into(), AMQPValue::LongString("gone".into()));
        }
        let published = Headers::from_table(Some(&table)).to_publish();
        let names: Vec<&str> = published.inner().keys().map(ShortString::as_str).collect();
        assert_eq!(names, ["list", KEPT_COPIES]);
        assert_eq!(published.inner().get("list"), table.inner().get("list"));
    }
}
