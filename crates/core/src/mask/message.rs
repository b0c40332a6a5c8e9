//! Masking of whole messages, which need not hold valid events: dead letters, and events that wait.
//!
//! The data of an event is masked as routing masks it, so the masked message is routed as the original
//! is. Other attributes that the ledger has in clear stay too. Everything else may hold a secret that
//! no rule names, so connection strings are masked in all of it.

use std::borrow::Cow;

use serde_json::value::RawValue;

use super::path::Path;
use super::{MaskPolicy, text, walk};
use crate::event::{AttributeValue, EventMessage, Members};
use crate::filter::Filter;
use crate::json::without_byte_order_mark;

/// The attributes that the ledger keeps in clear, or that have no room for a secret.
const CLEAR: [&str; 9] = [
    "specversion",
    "id",
    "source",
    "type",
    "subject",
    "time",
    "accessrevision",
    "traceparent",
    "datacontenttype",
];

/// What an entry's type says about its data.
#[derive(Clone, Copy, PartialEq, Eq)]
enum DataKind {
    /// The data of an event.
    Event(Filter),
    /// A directory document, which has no secrets.
    Document,
    /// Nothing is known.
    Unknown,
}

impl DataKind {
    fn of(event_type: Option<&str>) -> Self {
        let first = event_type.and_then(|it| it.split('.').next()).unwrap_or_default();
        match Filter::parse(first) {
            Some(filter) => Self::Event(filter),
            None if first.eq_ignore_ascii_case("directory") => Self::Document,
            None => Self::Unknown,
        }
    }
}

impl MaskPolicy {
    /// Masks the body of a message, whether or not it holds valid events. Every byte that is not
    /// masked stays as it is.
    #[must_use]
    pub fn apply_to_message<'a>(&self, message: &EventMessage<'a>) -> Cow<'a, [u8]> {
        let body = message.body;
        if *self == Self::off() {
            return Cow::Borrowed(body);
        }
        let json = without_byte_order_mark(body);
        let Some(whole) = serde_json::from_slice::<&RawValue>(json).ok().map(RawValue::get) else {
            return self.text(body);
        };
        let mut edits = Edits::new(body);
        if message.is_binary() {
            let event_type = message.attribute("type").and_then(AttributeValue::to_text);
            edits.replace(whole, &self.data(DataKind::of(event_type.as_deref()), whole));
        } else if let Ok(entries) = serde_json::from_str::<Vec<&RawValue>>(whole) {
            for entry in entries {
                self.entry(entry.get(), &mut edits);
            }
        } else {
            self.entry(whole, &mut edits);
        }
        edits.finish()
    }

    /// Masks an entry in structured mode.
    fn entry(&self, entry: &str, edits: &mut Edits<'_>) {
        let Ok(Members(members)) = serde_json::from_str(entry) else {
            return edits.replace(entry, &self.data(DataKind::Unknown, entry));
        };
        let event_type = members.iter().find(|(name, _)| name == "type");
        let event_type =
            event_type.and_then(|(_, value)| serde_json::from_str::<String>(value.get()).ok());
        let kind = DataKind::of(event_type.as_deref());
        for (name, value) in members {
            let value = value.get();
            if name == "data" {
                edits.replace(value, &self.data(kind, value));
            } else if !CLEAR.contains(&name.as_ref()) {
                edits.replace(value, &self.data(DataKind::Unknown, value));
            }
        }
    }

    /// Masks data. What is not known to be of one kind is masked as data of every kind.
    fn data<'a>(&self, kind: DataKind, data: &'a str) -> Cow<'a, str> {
        match kind {
            DataKind::Event(filter) => self.apply(filter, data),
            DataKind::Document => Cow::Borrowed(data),
            DataKind::Unknown => {
                let paths: Vec<Path> = self.paths.values().flatten().cloned().collect();
                walk::mask(data, &paths, self.connection_strings, text::NESTING)
            }
        }
    }

    /// Masks what is no JSON: the texts between the bytes that are not UTF-8.
    fn text<'a>(&self, body: &'a [u8]) -> Cow<'a, [u8]> {
        if !self.connection_strings {
            return Cow::Borrowed(body);
        }
        let mut masked = Vec::with_capacity(body.len());
        for chunk in body.utf8_chunks() {
            masked.extend_from_slice(text::mask(chunk.valid(), text::NESTING).as_bytes());
            masked.extend_from_slice(chunk.invalid());
        }
        Cow::Owned(masked)
    }
}

/// Replacements in a body, in the order of its bytes.
struct Edits<'a> {
    body: &'a [u8],
    masked: Vec<u8>,
    /// How much of the body is copied, or replaced.
    copied: usize,
}

impl<'a> Edits<'a> {
    fn new(body: &'a [u8]) -> Self {
        Self { body, masked: Vec::new(), copied: 0 }
    }

    /// Replaces a part of the body. It lies behind the part that was replaced before.
    fn replace(&mut self, part: &str, by: &str) {
        if part == by {
            return;
        }
        let start = part.as_ptr().addr().wrapping_sub(self.body.as_ptr().addr());
        if let Some(before) = self.body.get(self.copied..start) {
            self.masked.extend_from_slice(before);
            self.masked.extend_from_slice(by.as_bytes());
            self.copied = start + part.len();
        }
    }

    fn finish(mut self) -> Cow<'a, [u8]> {
        if self.copied == 0 {
            return Cow::Borrowed(self.body);
        }
        self.masked.extend_from_slice(self.body.get(self.copied..).unwrap_or_default());
        Cow::Owned(self.masked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Entry, parse_message};
    use proptest::prelude::*;
    use serde_json::json;

    fn structured(body: &[u8]) -> EventMessage<'_> {
        EventMessage { body, ..EventMessage::default() }
    }

    fn masked(policy: &str, body: &str) -> String {
        let policy = MaskPolicy::parse(policy).unwrap();
        let masked = policy.apply_to_message(&structured(body.as_bytes())).into_owned();
        String::from_utf8(masked).unwrap()
    }

    #[test]
    fn data_is_masked_by_its_filter_and_attributes_stay() {
        let policy = "connection-strings,reports:$.Owner";
        for (given, expected) in [
            (
                r#" {"type":"connections.edit","source":"a;pwd=x","data":{ "C":"Pwd=hidden" } } "#,
                r#" {"type":"connections.edit","source":"a;pwd=x","data":{ "C":"Pwd=***" } } "#,
            ),
            (
                r#"[{"type":"reports.edit","data":{"Owner":"me","C":"Pwd=shown"}},{"type":"tasks.x","data":{"Owner":"me"}}]"#,
                r#"[{"type":"reports.edit","data":{"Owner":"***","C":"Pwd=shown"}},{"type":"tasks.x","data":{"Owner":"me"}}]"#,
            ),
            // The filter is not known, so everything is masked that any filter masks.
            (
                r#"{"type":"other.edit","data":{"Owner":"me","C":"Pwd=hidden"}}"#,
                r#"{"type":"other.edit","data":{"Owner":"***","C":"Pwd=***"}}"#,
            ),
            // A misspelt attribute.
            (
                r#"{"type":"connections.edit","Data":{"C":"Pwd=hidden"}}"#,
                r#"{"type":"connections.edit","Data":{"C":"Pwd=***"}}"#,
            ),
            (
                r#"{"type":"directory.user","data":{"name":"Pwd=name"}}"#,
                r#"{"type":"directory.user","data":{"name":"Pwd=name"}}"#,
            ),
            ("{ oops Pwd=hidden;x=1", "{ oops Pwd=***;x=1"),
            ("\"Pwd=hidden\"", "\"Pwd=***\""),
        ] {
            assert_eq!(masked(policy, given), expected);
        }
        assert_eq!(masked("off", "Pwd=shown"), "Pwd=shown");
    }

    #[test]
    fn bytes_that_are_no_text_stay_and_text_between_them_is_masked() {
        let body = b"\xff\xfePwd=hidden;x\xff".as_slice();
        let masked = MaskPolicy::default().apply_to_message(&structured(body)).into_owned();
        assert_eq!(masked, b"\xff\xfePwd=***;x\xff");
    }

    #[test]
    fn data_in_binary_mode_is_the_body() {
        let attributes = vec![("type", AttributeValue::Text("connections.edit".to_owned()))];
        let body = b"\xEF\xBB\xBF{\"C\":\"Pwd=hidden\"}".as_slice();
        let message = EventMessage { body, attributes, ..EventMessage::default() };
        let masked = MaskPolicy::default().apply_to_message(&message).into_owned();
        assert_eq!(masked, b"\xEF\xBB\xBF{\"C\":\"Pwd=***\"}");
    }

    proptest! {
        /// The notification of a masked event is that of the event, and masking changes nothing
        /// more the second time.
        #[test]
        fn masked_event_is_routed_as_the_event_is(
            text in "[A-Za-z;='\"{}@:/ ]{0,24}|Server=a;Password=[a-z'; ]{0,8};x=[a-z]{0,3}",
            filter in prop::sample::select(vec!["connections", "reports"]),
        ) {
            let policy = MaskPolicy::parse("connection-strings,reports:$.A.B").unwrap();
            let subject = match filter {
                "connections" => "connections/c1",
                _ => "categories/c1/reports/r1",
            };
            let event = json!({
                "specversion": "1.0", "id": "1", "source": text, "type": format!("{filter}.edit"),
                "subject": subject, "data": { "Id": "c1", "A": { "B": 7, "C": text } }
            }).to_string();
            let once = policy.apply_to_message(&structured(event.as_bytes())).into_owned();
            let entries = |body: &[u8]| parse_message(&structured(body), &policy).map(|it| it.entries);
            match (entries(event.as_bytes()), entries(&once)) {
                (Ok(before), Ok(after)) => match (before.as_slice(), after.as_slice()) {
                    ([Entry::Event(before)], [Entry::Event(after)]) => prop_assert_eq!(before, after),
                    _ => prop_assert!(false, "no event"),
                },
                (Err(before), Err(after)) => prop_assert_eq!(before.reason, after.reason),
                (before, after) => prop_assert!(false, "{before:?} {after:?}"),
            }
            let twice = policy.apply_to_message(&structured(&once)).into_owned();
            prop_assert_eq!(once, twice);
        }
    }
}
