//! A message as it was received from a queue: without its envelope, and as far as it can be
//! decoded.

use crate::message::Message;
use crate::wire::envelope::{self, Names};
use crate::wire::properties::{byte_array, decode, salvage};
use bytes::Bytes;
use lapin::BasicProperties;
use lapin::types::ShortString;

/// The header for the bytes of properties that can't be decoded.
pub(crate) const RAW_PROPERTIES: &str = "x-fanfare-raw-properties";
/// The header for the bytes of a routing key that is not UTF-8.
pub(crate) const RAW_ROUTING_KEY: &str = "x-fanfare-raw-routing-key";

/// A message that the broker delivered.
pub(crate) struct Received {
    pub(crate) message: Message,
    /// How often it was returned unsettled.
    pub(crate) delivery_count: u64,
    pub(crate) exchange: String,
    /// Without the bytes that can't be decoded.
    pub(crate) routing_key: String,
    /// A sentence about the parts that can't be decoded; the message holds the others.
    pub(crate) unreadable: Option<String>,
}

impl Received {
    pub(crate) fn read(
        body: Vec<u8>,
        properties: &BasicProperties,
        exchange: &ShortString,
        routing_key: &ShortString,
    ) -> Self {
        let body = Bytes::from(body);
        let Some(opened) = envelope::open(properties, &body) else {
            let (message, delivery_count) = Message::from_delivery(body, properties);
            return Self {
                message,
                delivery_count,
                exchange: exchange.to_string(),
                routing_key: routing_key.to_string(),
                unreadable: None,
            };
        };
        let mut flaws = Vec::new();
        let whole = decode(opened.properties);
        let is_whole = whole.is_some();
        let properties = whole.unwrap_or_else(|| {
            let (properties, flaw) = salvage(opened.properties);
            flaws.push(flaw);
            properties
        });
        let (mut message, delivery_count) =
            Message::from_delivery(body.slice_ref(opened.body), &properties);
        if !is_whole {
            message.headers.set_value(RAW_PROPERTIES, byte_array(opened.properties));
        }
        let (exchange, routing_key) = match &opened.names {
            None => (exchange.to_string(), routing_key.to_string()),
            Some(Names { exchange, routing_key }) => {
                flaws.push("the routing key is not UTF-8".to_owned());
                message.headers.set_value(RAW_ROUTING_KEY, byte_array(routing_key));
                (lossy(exchange), lossy(routing_key))
            }
        };
        let unreadable = Some(flaws.join("; ")).filter(|flaws| !flaws.is_empty());
        Self { message, delivery_count, exchange, routing_key, unreadable }
    }
}

/// The text without invalid bytes, cut to the 255 bytes that the protocol allows.
fn lossy(bytes: &[u8]) -> String {
    let mut text = String::from_utf8_lossy(bytes).into_owned();
    text.truncate(text.floor_char_boundary(255));
    text
}
