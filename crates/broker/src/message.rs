//! What travels: a message, its headers, and the places it can be sent to.

use crate::ladder::{BackTo, Delay};
use crate::topology::Queue;
use bytes::Bytes;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// The broker's count of how often a message came back unsettled.
const DELIVERY_COUNT: &str = "x-delivery-count";
/// And of how often it was handed out.
const ACQUIRED_COUNT: &str = "x-acquired-count";
/// AMQP's mark for a message that need not be written to disk.
pub(crate) const TRANSIENT: u8 = 1;

/// The header that sends copies of a message elsewhere, and the name under which it is kept.
const COPIES: &str = "CC";
const KEPT_COPIES: &str = "x-fanfare-cc";

/// A message as Fanfare sees it. What is published is always persistent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Message {
    /// The bytes, as they are.
    pub body: Bytes,
    /// What the bytes are, such as `application/json`.
    pub content_type: Option<String>,
    /// The sender's name for this message, if it has one.
    pub message_id: Option<String>,
    /// Everything else that is said about the message.
    pub headers: Headers,
    /// Properties that Fanfare passes on and does not read, but for the encoding.
    pub properties: Properties,
}

/// The properties of AMQP beside content type, id and headers.
///
/// Two are left out, because nobody may publish them again for somebody else: `user_id`, which the
/// broker compares with who publishes, and `expiration`, which would let the message vanish.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties {
    /// Such as `gzip`.
    pub content_encoding: Option<String>,
    /// What the sender calls messages of this kind.
    pub kind: Option<String>,
    /// What the message belongs to.
    pub correlation_id: Option<String>,
    /// Where an answer would go.
    pub reply_to: Option<String>,
    /// The sender's program.
    pub app_id: Option<String>,
    /// Of no meaning since AMQP 0-9-1; some send it.
    pub cluster_id: Option<String>,
    /// When it was sent, in seconds since 1970.
    pub timestamp: Option<u64>,
    /// From 0 to 9.
    pub priority: Option<u8>,
    /// `TRANSIENT`, or nothing for a message that is to be kept on disk.
    pub delivery_mode: Option<u8>,
}

impl Message {
    /// A message of these bytes with no headers.
    #[must_use]
    pub fn new(body: impl Into<Bytes>, content_type: &str) -> Self {
        Self { body: body.into(), content_type: Some(content_type.to_owned()), ..Self::default() }
    }

    /// How many bytes the properties take on the wire at most, headers included.
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
        // Flags, timestamp, priority, delivery mode; and CC under its longer name.
        2 + 8 + 1 + 1 + KEPT_COPIES.len() + texts + table_size(&self.headers.0)
    }

    /// Takes apart what the broker delivered: the message, and how often it came back before.
    pub(crate) fn from_delivery(body: Bytes, properties: &BasicProperties) -> (Self, u64) {
        let mut headers = Headers::from_table(properties.headers().as_ref());
        let delivery_count = headers.int(DELIVERY_COUNT).unwrap_or(0);
        // The broker writes these anew each time; a copy would only mislead.
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
    /// The text under this name; `None` when there is none or it is not a text.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        as_text(self.0.get(name)?)
    }

    /// The whole number under this name; `None` when there is none or it is not a number.
    #[must_use]
    pub fn int(&self, name: &str) -> Option<i64> {
        as_int(self.0.get(name)?)
    }

    /// The flag under this name; `None` when there is none or it is not a flag.
    #[must_use]
    pub fn flag(&self, name: &str) -> Option<bool> {
        self.0.get(name)?.as_bool()
    }

    /// Sets a header, in place of an earlier one of that name.
    ///
    /// The name is a constant of the program; the protocol takes at most 255 bytes, and a longer
    /// name sets nothing.
    pub fn set(&mut self, name: &'static str, value: impl Into<HeaderValue>) -> &mut Self {
        debug_assert!(name.len() <= 255, "the header name {name} is too long");
        if let Ok(name) = ShortString::try_new(name) {
            self.0.insert(name, value.into().into_amqp());
        }
        self
    }

    /// Removes a header if it is there.
    pub fn remove(&mut self, name: &str) {
        self.0.remove(name);
    }

    /// The headers that are texts, numbers or flags, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, HeaderValue)> {
        self.0.iter().filter_map(|(name, value)| Some((name.as_str(), readable(value)?)))
    }

    /// The headers with their values of any type.
    pub(crate) fn values(&self) -> impl Iterator<Item = (&str, &AMQPValue)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// The headers without what the broker made of an earlier way of the message.
    ///
    /// `x-death` and its like tell where a message expired before. The broker takes a message that
    /// expires in the same queue again for a cycle and drops it, so a message that is published
    /// again must start without them. `CC` and `BCC` are instructions to route a copy somewhere
    /// else; they were meant for the exchange that the message first came to. What `CC` said is kept
    /// under another name (the broker removes `BCC` itself).
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
            self.0.insert(name, value);
        }
    }

    /// The headers in a form that is the same whenever they are the same.
    pub(crate) fn canonical(&self) -> Vec<u8> {
        // Plain data with names as keys: there is nothing in it that JSON could refuse.
        serde_json::to_vec(&self.0).unwrap_or_default()
    }

    /// The reason in the broker's own note of why it moved the message last, and from where.
    pub(crate) fn moved_by_broker(&self) -> Option<(&str, &str)> {
        self.last_death().or_else(|| {
            let noted = |which: &str| {
                let (reason, queue) = (format!("{which}-reason"), format!("{which}-queue"));
                Some((self.text(&reason)?, self.text(&queue)?))
            };
            noted("x-last-death").or_else(|| noted("x-first-death"))
        })
    }

    /// `x-death` begins with the latest.
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

/// Where a message is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Straight to one of Fanfare's queues.
    Queue(Queue),
    /// To an exchange, as the report server does.
    Exchange {
        /// The exchange's name.
        exchange: String,
        /// The routing key, at most 255 bytes.
        routing_key: String,
    },
    /// Down the delay ladder, to come back later.
    Later {
        /// How long it waits.
        delay: Delay,
        /// Where it comes back.
        back_to: BackTo,
    },
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
