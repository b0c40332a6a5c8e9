//! Erasure: whose payloads a person wants to be erased, and where they are recognised.
//!
//! Only payloads and messages are searched. What a directory document says about a user is not
//! searched: the report server owns it.

mod search;

use std::collections::BTreeMap;

use serde_json::value::RawValue;

use crate::event::{AttributeValue, EventMessage};
use crate::json;
use crate::name::{Name, fold};
use crate::resource::Resource;
use search::{names_user, names_user_in};

/// What is erased.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ErasureTarget {
    /// The payloads of events whose data names this user, and the answers of the user's webhooks.
    User(Name),
    /// The payloads of the events about a resource, and about what is below it.
    Resource(Resource),
}

/// What is left of a message without the events that are erased.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stripped {
    /// Everything: it has none of these events.
    Untouched,
    /// Nothing.
    Nothing,
    /// The other events of a batch: a JSON array.
    Rest(String),
}

impl ErasureTarget {
    /// The path of the resource; `None` for a user.
    #[must_use]
    pub fn path(&self) -> Option<String> {
        match self {
            Self::User(_) => None,
            Self::Resource(resource) => Some(resource.to_string()),
        }
    }

    /// Text that is, in upper case of ASCII, in every notification that names the user and has no
    /// escapes. So the database need not return all notifications. `None` if there is no such text.
    #[must_use]
    pub fn needle(&self) -> Option<String> {
        let Self::User(name) = self else { return None };
        let plain = |c: char| !c.is_ascii_graphic() || matches!(c, '"' | '\\' | '/');
        let longest = name.as_str().split(plain).max_by_key(|part| part.len())?;
        (!longest.is_empty()).then(|| longest.to_ascii_uppercase())
    }

    /// Whether a notification, which is JSON, names the user. One that is nested too deeply to be read
    /// is searched as text. It is never so for a resource, which the event's subject names.
    #[must_use]
    pub fn is_named_in(&self, notification: &str) -> bool {
        match self {
            Self::User(name) => {
                names_user(notification, name).unwrap_or_else(|_| self.is_in_text(notification))
            }
            Self::Resource(_) => false,
        }
    }

    /// What is left of a message of the report server. A message that is not JSON is searched as text.
    #[must_use]
    pub fn strip(&self, message: &EventMessage<'_>) -> Stripped {
        if !message.names_event_format() && !message.attributes.is_empty() {
            return if self.is_in_binary(message) {
                Stripped::Nothing
            } else {
                Stripped::Untouched
            };
        }
        let Ok(text) = std::str::from_utf8(json::without_byte_order_mark(message.body)) else {
            let text = String::from_utf8_lossy(message.body);
            return if self.is_in_text(&text) { Stripped::Nothing } else { Stripped::Untouched };
        };
        let Ok(entries) = serde_json::from_str::<Vec<&RawValue>>(text) else {
            return if self.is_in_entry(text) { Stripped::Nothing } else { Stripped::Untouched };
        };
        let left: Vec<&str> =
            entries.iter().map(|entry| entry.get()).filter(|it| !self.is_in_entry(it)).collect();
        match left.len() {
            left if left == entries.len() => Stripped::Untouched,
            0 => Stripped::Nothing,
            _ => Stripped::Rest(format!("[{}]", left.join(","))),
        }
    }

    /// Whether an entry of a message is one of the events.
    fn is_in_entry(&self, entry: &str) -> bool {
        let Ok(attributes) = serde_json::from_str::<BTreeMap<String, &RawValue>>(entry) else {
            return self.is_in_text(entry);
        };
        // A wrong case is a reason for a dead letter, and names the attribute all the same.
        let text = |name: &str| {
            let found = attributes.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
            found.and_then(|(_, raw)| serde_json::from_str::<String>(raw.get()).ok())
        };
        if is_document(text("type").as_deref()) {
            return false;
        }
        match self {
            Self::User(name) => names_user(entry, name).unwrap_or_else(|_| self.is_in_text(entry)),
            Self::Resource(_) => text("subject").is_some_and(|subject| self.covers(&subject)),
        }
    }

    fn is_in_binary(&self, message: &EventMessage<'_>) -> bool {
        let text = |wanted: &str| {
            let mut named = message.attributes.iter();
            let found = named.find(|(name, _)| name.eq_ignore_ascii_case(wanted));
            found.and_then(|(_, value)| as_text(value))
        };
        if is_document(text("type")) {
            return false;
        }
        match self {
            Self::User(name) => {
                let body = String::from_utf8_lossy(json::without_byte_order_mark(message.body));
                let texts = message.attributes.iter();
                let mut texts = texts.filter_map(|(key, value)| Some((*key, as_text(value)?)));
                names_user(&body, name).unwrap_or_else(|_| self.is_in_text(&body))
                    || texts.any(|(key, value)| names_user_in(key, value, name))
            }
            Self::Resource(_) => text("subject").is_some_and(|subject| self.covers(subject)),
        }
    }

    /// Whether text that can't be read otherwise may be about the target.
    fn is_in_text(&self, text: &str) -> bool {
        match self {
            Self::User(name) => fold(text).contains(name.key()),
            Self::Resource(resource) => text.contains(&resource.to_string()),
        }
    }

    /// Whether a subject is the resource's path, or below it.
    fn covers(&self, subject: &str) -> bool {
        let Self::Resource(resource) = self else { return false };
        let path = resource.to_string();
        subject.strip_prefix(&path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

fn as_text(value: &AttributeValue) -> Option<&str> {
    match value {
        AttributeValue::Text(text) => Some(text),
        AttributeValue::Integer(_) | AttributeValue::Flag(_) | AttributeValue::Other => None,
    }
}

/// Whether an event type is that of a directory document.
fn is_document(event_type: Option<&str>) -> bool {
    event_type.is_some_and(|it| it.to_ascii_lowercase().starts_with("directory."))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> ErasureTarget {
        ErasureTarget::User(Name::parse(name).unwrap())
    }

    fn resource(path: &str) -> ErasureTarget {
        ErasureTarget::Resource(Resource::parse(path).unwrap())
    }

    fn structured(body: &str) -> EventMessage<'_> {
        EventMessage { body: body.as_bytes(), ..EventMessage::default() }
    }

    #[test]
    fn a_notification_names_a_user_below_a_key_about_users() {
        for named in [
            r#"{"UserName":"Anna"}"#,
            r#"{"CreatedByUserId":"anna"}"#,
            r#"{"ModifiedBy":"ANNA"}"#,
            r#"{"Owner":{"Id":7,"Name":"anna"}}"#,
            r#"{"Report":{"Actors":["bob","anna"]}}"#,
            r#"{"UserName":"\u0061nna"}"#,
            r#"{"Details":"{\"UserName\":\"anna\"}"}"#,
            r#"{"UserName":"anna","UserName":"bob"}"#,
        ] {
            assert!(user("anna").is_named_in(named), "{named}");
        }
        for other in [
            r#"{"UserName":"anna2"}"#,
            r#"{"Name":"anna"}"#,
            r#"{"Action":"tasks","UserAction":"anna"}"#,
            "null",
        ] {
            assert!(!user("anna").is_named_in(other), "{other}");
        }
        let deep = format!(r#"{{"A":{}"Anna"{}}}"#, "[".repeat(500), "]".repeat(500));
        assert!(user("anna").is_named_in(&deep) && !user("bob").is_named_in(&deep));
        assert!(user("7").is_named_in(r#"{"UserId":7}"#));
        assert!(user("Änne").is_named_in(r#"{"UserName":"äNNE"}"#));
        assert!(!resource("tasks/t1").is_named_in(r#"{"UserName":"tasks/t1"}"#));
    }

    #[test]
    fn the_needle_is_in_each_notification_without_escapes() {
        assert_eq!(user("anna").needle().as_deref(), Some("ANNA"));
        assert_eq!(user("Jö Müller").needle().as_deref(), Some("LLER"));
        assert_eq!(user("äöü").needle(), None);
        assert_eq!(resource("tasks/t1").needle(), None);
    }

    #[test]
    fn a_resource_covers_what_is_below_it() {
        let event = |subject: &str| format!(r#"{{"type":"reports.edit","subject":"{subject}"}}"#);
        let category = resource("categories/c1");
        for (subject, stripped) in [
            ("categories/c1", Stripped::Nothing),
            ("categories/c1/reports/r1", Stripped::Nothing),
            ("categories/c10", Stripped::Untouched),
            ("categories/c10/reports/r1", Stripped::Untouched),
        ] {
            assert_eq!(category.strip(&structured(&event(subject))), stripped, "{subject}");
        }
    }

    #[test]
    fn the_other_events_of_a_batch_are_left() {
        let of = |name: &str| format!(r#"{{"type":"tasks.edit","data":{{"UserName":"{name}"}}}}"#);
        let batch = format!("\u{feff} [{}, {}]", of("anna"), of("bob"));
        let rest = format!("[{}]", of("bob"));
        assert_eq!(user("anna").strip(&structured(&batch)), Stripped::Rest(rest));
        assert_eq!(user("eve").strip(&structured(&batch)), Stripped::Untouched);
        let all = format!("[{}]", of("Anna"));
        assert_eq!(user("anna").strip(&structured(&all)), Stripped::Nothing);
    }

    #[test]
    fn directory_documents_are_left_and_broken_messages_are_searched_as_text() {
        let document = r#"{"type":"directory.user","data":{"name":"anna","user":"anna"}}"#;
        assert_eq!(user("anna").strip(&structured(document)), Stripped::Untouched);
        assert_eq!(user("anna").strip(&structured("{oops: Anna")), Stripped::Nothing);
        assert_eq!(user("anna").strip(&structured("{oops: bob")), Stripped::Untouched);
        let broken = r#"{"subject": tasks/t1"#;
        assert_eq!(resource("tasks/t1").strip(&structured(broken)), Stripped::Nothing);
        let not_utf8 = EventMessage { body: b"\xff anna", ..EventMessage::default() };
        assert_eq!(user("anna").strip(&not_utf8), Stripped::Nothing);
    }

    #[test]
    fn attributes_of_binary_mode_are_searched() {
        let text = |text: &str| AttributeValue::Text(text.to_owned());
        let message = EventMessage {
            body: br#"{"UserName":"anna"}"#,
            attributes: vec![("type", text("tasks.edit")), ("subject", text("tasks/t1"))],
            ..EventMessage::default()
        };
        for target in [user("anna"), resource("tasks/t1")] {
            assert_eq!(target.strip(&message), Stripped::Nothing, "{target:?}");
        }
        for target in [user("tasks/t1"), resource("tasks/t2")] {
            assert_eq!(target.strip(&message), Stripped::Untouched, "{target:?}");
        }
    }
}
