//! The attributes of a `CloudEvent` in binary mode: headers with a prefix (AMQP Protocol Binding
//! for `CloudEvents` 1.0.2, section 3.1).

use chrono::{DateTime, SecondsFormat};
use fanfare_core::event::{AttributeValue, EventMessage};
use fanfare_core::reject::{Reason, Reject};
use lapin::types::{AMQPValue, ShortString};

use crate::message::{Headers, Message, as_int, as_text};

/// The prefixes. They are compared without case: a header that is ignored for the case of its
/// prefix could be the one that decides about access.
const PREFIXES: [&str; 2] = ["cloudEvents:", "cloudEvents_"];

impl Message {
    /// The parts of the message that its events are parsed from.
    #[must_use]
    pub fn as_event(&self) -> EventMessage<'_> {
        EventMessage {
            body: &self.body,
            content_type: self.content_type.as_deref(),
            content_encoding: self.properties.content_encoding.as_deref(),
            attributes: self.headers.attributes(),
            traceparent: self.headers.text("traceparent"),
        }
    }
}

impl Headers {
    /// Adds an attribute, for an event in binary mode.
    ///
    /// # Errors
    /// The attribute is there already, or its name is too long for a header.
    pub fn add_attribute(&mut self, name: &str, value: String) -> Result<(), Reject> {
        let not_cloudevents = |detail: String| Reject::new(Reason::NotCloudEvents, detail);
        let header = ShortString::try_new(format!("{}{name}", PREFIXES[0]))
            .map_err(|_| not_cloudevents(format!("the attribute name {name:?} is too long")))?;
        if self.has(&header) {
            return Err(not_cloudevents(format!("the attribute {name} is there more than once")));
        }
        self.insert(header, AMQPValue::LongString(value.into()));
        Ok(())
    }

    /// The attributes, by their names without the prefix.
    fn attributes(&self) -> Vec<(&str, AttributeValue)> {
        let attribute = |(name, header)| Some((without_prefix(name)?, value(header)));
        self.values().filter_map(attribute).collect()
    }
}

fn without_prefix(name: &str) -> Option<&str> {
    let has = |prefix: &&&str| {
        name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix))
    };
    let prefix = PREFIXES.iter().find(has)?;
    name.get(prefix.len()..)
}

fn value(header: &AMQPValue) -> AttributeValue {
    if let Some(text) = as_text(header) {
        return AttributeValue::Text(text.to_owned());
    }
    if let Some(number) = as_int(header) {
        return AttributeValue::Integer(number);
    }
    match header {
        AMQPValue::Boolean(flag) => AttributeValue::Flag(*flag),
        AMQPValue::Timestamp(seconds) => time(*seconds),
        // Some clients send texts as bytes.
        AMQPValue::ByteArray(bytes) => match std::str::from_utf8(bytes.as_slice()) {
            Ok(text) => AttributeValue::Text(text.to_owned()),
            Err(_) => AttributeValue::Other,
        },
        _ => AttributeValue::Other,
    }
}

/// The text of an AMQP timestamp, which counts seconds since 1970.
fn time(seconds: u64) -> AttributeValue {
    let time = i64::try_from(seconds).ok().and_then(|it| DateTime::from_timestamp(it, 0));
    let text = time.map(|time| time.to_rfc3339_opts(SecondsFormat::Secs, true));
    text.map_or(AttributeValue::Other, AttributeValue::Text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lapin::types::FieldTable;

    #[test]
    fn an_attribute_is_added_once_under_a_name_that_fits() {
        let mut message = Message::default();
        message.headers.add_attribute("id", "1".to_owned()).unwrap();
        let value = AttributeValue::Text("1".to_owned());
        assert_eq!(message.as_event().attributes, [("id", value)]);
        for name in ["id", &"x".repeat(255)] {
            let reject = message.headers.add_attribute(name, String::new()).unwrap_err();
            assert_eq!(reject.reason, Reason::NotCloudEvents);
        }
    }

    #[test]
    fn attributes_are_headers_with_a_prefix_whatever_type_they_have() {
        let text = |text: &str| AttributeValue::Text(text.to_owned());
        let cases = [
            ("cloudEvents:id", AMQPValue::LongString("1".into()), "id", text("1")),
            ("cloudEvents_source", AMQPValue::ShortString("/s".into()), "source", text("/s")),
            ("CLOUDEVENTS:type", AMQPValue::ByteArray(b"a.b".to_vec().into()), "type", text("a.b")),
            ("cloudEvents:aR", AMQPValue::LongLongInt(7), "aR", AttributeValue::Integer(7)),
            ("cloudEvents:b", AMQPValue::ShortShortUInt(7), "b", AttributeValue::Integer(7)),
            ("cloudEvents:c", AMQPValue::Boolean(true), "c", AttributeValue::Flag(true)),
            ("cloudEvents:d", AMQPValue::Double(1.0), "d", AttributeValue::Other),
            ("cloudEvents:e", AMQPValue::Void, "e", AttributeValue::Other),
            ("cloudEvents:f", AMQPValue::LongString(vec![0xff].into()), "f", AttributeValue::Other),
            ("cloudEvents:time", AMQPValue::Timestamp(0), "time", text("1970-01-01T00:00:00Z")),
            ("cloudEvents:t2", AMQPValue::Timestamp(u64::MAX), "t2", AttributeValue::Other),
        ];
        let mut table = FieldTable::default();
        for (name, value, _, _) in &cases {
            table.insert((*name).into(), value.clone());
        }
        for other in ["cloudEvents", "cloudEvents-id", "id", "xcloudEvents:id", "cloudEvént:id"] {
            table.insert(other.into(), AMQPValue::Boolean(true));
        }
        let headers = Headers::from_table(Some(&table));
        let mut found = headers.attributes();
        found.sort_by_key(|(name, _)| *name);
        let mut expected: Vec<(&str, AttributeValue)> =
            cases.iter().map(|(_, _, name, value)| (*name, value.clone())).collect();
        expected.sort_by_key(|(name, _)| *name);
        assert_eq!(found, expected);
    }
}
