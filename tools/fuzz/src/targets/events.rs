//! Messages with events, as the report server or any other client of the broker publishes them.

use fanfare_core::directory::refused;
use fanfare_core::event::{
    AttributeValue, Entry, Event, EventMessage, MAX_ATTRIBUTE, MAX_BATCH, parse_message,
};
use fanfare_core::ids::EventKey;
use fanfare_core::mask::MaskPolicy;
use fanfare_core::reject::Reject;
use fanfare_core::resource::Resource;
use fanfare_core::{json, traceparent};
use serde_json::value::RawValue;

use super::{check_sentence, directory};
use crate::Target;
use crate::input::Input;

pub(super) const MESSAGE: Target = Target {
    name: "message",
    about: "a message with events or documents, structured, binary or a batch: what is accepted \
            keeps every limit and is compact JSON, and what is refused says why",
    check: message,
};

/// Content type, encoding, trace context, routing key and headers, one a line; then the body.
fn message(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let content_type = input.text();
    let content_encoding = input.text();
    let traceparent = input.text();
    let routing_key = input.text().unwrap_or_default();
    let headers = input.text().unwrap_or_default();
    let attributes = headers.split('\t').filter_map(attribute).collect();
    let body = input.rest();
    let message = EventMessage { body, content_type, content_encoding, attributes, traceparent };
    let _ = (message.id(), message.is_directory_document());
    match parse_message(&message, &MaskPolicy::default()) {
        Ok(published) => {
            let most = if published.batch { MAX_BATCH } else { 1 };
            assert!(published.entries.len() <= most);
            published.entries.iter().for_each(check_entry);
        }
        Err(reject) => check_reject(&reject),
    }
    let void = refused::in_message(&message, routing_key, "why");
    assert!(void.len() <= MAX_BATCH + 1);
    for document in void {
        assert!(document.content.is_void() && document.revision >= 0);
        check_sentence(&document.consequence());
    }
}

/// A header such as `id=text`, or with a type: `accessrevision:i=7`, `draft:f=1`, `other:o=`.
fn attribute(text: &str) -> Option<(&str, AttributeValue)> {
    let (name, value) = text.split_once('=')?;
    Some(match name.rsplit_once(':') {
        Some((name, "i")) => (name, AttributeValue::Integer(value.parse().ok()?)),
        Some((name, "f")) => (name, AttributeValue::Flag(value == "1")),
        Some((name, "o")) => (name, AttributeValue::Other),
        _ => (name, AttributeValue::Text(value.to_owned())),
    })
}

fn check_entry(entry: &Entry) {
    match entry {
        Entry::Event(event) => check_event(event),
        Entry::Directory(document) => directory::check(document),
        Entry::Rejected { reject, raw } => {
            check_reject(reject);
            assert!(serde_json::from_str::<&RawValue>(raw).is_ok());
        }
    }
}

fn check_event(event: &Event) {
    for text in [&event.id, &event.source, &event.event_type] {
        assert!((1..=MAX_ATTRIBUTE).contains(&text.len()), "{text:?}");
        assert!(!text.chars().any(char::is_control), "{text:?}");
    }
    assert_eq!(event.key, EventKey::of(&event.source, &event.id));
    assert_eq!(event.resource.filter(), event.filter);
    assert_eq!(Resource::parse(&event.resource.to_string()).as_ref(), Ok(&event.resource));
    assert!(event.access_revision.is_none_or(|revision| revision >= 0));
    assert!(event.traceparent.as_deref().is_none_or(traceparent::is_valid));
    let (filter, action) = (event.filter, event.action.as_str());
    let type_of = format!("{filter}.{action}");
    assert!(event.event_type.eq_ignore_ascii_case(&type_of), "{} {type_of}", event.event_type);
    let beginning = format!(r#"{{"Action":"{filter}","UserAction":"{action}""#);
    assert!(event.notification.starts_with(&beginning), "{}", event.notification);
    let whole: &RawValue = serde_json::from_str(&event.notification)
        .unwrap_or_else(|error| panic!("{error}: {}", event.notification));
    assert_eq!(json::compact(whole), event.notification);
}

fn check_reject(reject: &Reject) {
    check_sentence(&reject.detail);
    assert!(!reject.detail.contains('\0'));
}
