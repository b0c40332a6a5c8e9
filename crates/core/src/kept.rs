//! What can be read of a message that is kept, by which a person or an erasure finds it.
//!
//! The message need not hold valid events, so this reads what it can and refuses nothing.

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::value::RawValue;

use crate::event::{AttributeValue, EventMessage, MAX_ATTRIBUTE, MAX_BATCH, Members};
use crate::ids::EventKey;
use crate::json::without_byte_order_mark;
use crate::name::fold;

/// The parts of a message by which it is found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Contents {
    /// The `source` of its first event.
    pub source: Option<String>,
    /// The `id` of its first event.
    pub event_id: Option<String>,
    /// The keys of its events, each of which has a `source` and an `id`.
    pub keys: BTreeSet<EventKey>,
    /// The subjects of its events.
    pub subjects: BTreeSet<String>,
    /// The folded names of the users whose documents it holds.
    pub users: BTreeSet<String>,
}

impl Contents {
    /// Reads what can be read of a message.
    #[must_use]
    pub fn of(message: &EventMessage<'_>) -> Self {
        let mut contents = Self::default();
        let body = without_byte_order_mark(message.body);
        if message.is_binary() {
            let text = |name: &str| message.attribute(name).and_then(AttributeValue::to_text);
            let data = serde_json::from_slice(body).ok();
            contents.add(text, data);
        } else if let Ok(entries) = serde_json::from_slice::<Vec<&RawValue>>(body) {
            entries.iter().take(MAX_BATCH).for_each(|entry| contents.add_entry(entry.get()));
        } else if let Ok(entry) = std::str::from_utf8(body) {
            contents.add_entry(entry);
        }
        contents
    }

    fn add_entry(&mut self, entry: &str) {
        let Ok(Members(members)) = serde_json::from_str(entry) else { return };
        let value =
            |wanted: &str| members.iter().find(|(name, _)| name == wanted).map(|(_, value)| *value);
        let text = |name: &str| value(name).and_then(text_of);
        self.add(text, value("data"));
    }

    fn add(&mut self, text: impl Fn(&str) -> Option<String>, data: Option<&RawValue>) {
        let readable = |name: &str| text(name).filter(|text| text.len() <= MAX_ATTRIBUTE);
        let (source, id) = (readable("source"), readable("id"));
        if let (Some(source), Some(id)) = (&source, &id) {
            self.keys.insert(EventKey::of(source, id));
        }
        self.subjects.extend(readable("subject"));
        let event_type = readable("type").unwrap_or_default();
        if event_type.eq_ignore_ascii_case("directory.user") {
            let members =
                data.and_then(|data| serde_json::from_str::<Members<'_>>(data.get()).ok());
            let name = members.as_ref().and_then(|it| it.0.iter().find(|(name, _)| name == "name"));
            self.users.extend(name.and_then(|(_, value)| text_of(value)).map(|name| fold(&name)));
        }
        self.source = self.source.take().or(source);
        self.event_id = self.event_id.take().or(id);
    }
}

fn text_of(value: &RawValue) -> Option<String> {
    serde_json::from_str(value.get()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(body: &str) -> Contents {
        Contents::of(&EventMessage { body: body.as_bytes(), ..EventMessage::default() })
    }

    #[test]
    fn whatever_can_be_read_is_read() {
        let batch = of(r#"[7, {"source":"/s","id":"1","subject":"tasks/t1"},
            {"type":"Directory.User","source":"/s","id":"2","data":{"name":"Anna"}}]"#);
        let keys = ["1", "2"].map(|id| EventKey::of("/s", id));
        assert_eq!(batch.source.as_deref(), Some("/s"));
        assert_eq!(batch.event_id.as_deref(), Some("1"));
        assert_eq!(batch.keys, BTreeSet::from(keys));
        assert_eq!(batch.subjects, BTreeSet::from(["tasks/t1".to_owned()]));
        assert_eq!(batch.users, BTreeSet::from([fold("anna")]));
        assert_eq!(of("oops"), Contents::default());
        assert_eq!(of(r#"{"id":7,"source":"/s"}"#).event_id, None);
    }

    #[test]
    fn attributes_in_binary_mode_are_read_from_headers() {
        let text = |text: &str| AttributeValue::Text(text.to_owned());
        let attributes = vec![("id", text("1")), ("source", text("/s"))];
        let message = EventMessage { body: b"{}", attributes, ..EventMessage::default() };
        assert_eq!(Contents::of(&message).keys, BTreeSet::from([EventKey::of("/s", "1")]));
    }
}
