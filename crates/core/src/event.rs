//! Parsing: from the bytes of an AMQP message to events and directory documents, or to a refusal.
//!
//! The format is `CloudEvents` 1.0 in JSON: one event or an array of events in structured mode, or
//! one event in binary mode, whose attributes are headers ([`EventMessage`]). After
//! [`parse_message`] an event is valid, and no other code checks it. A batch is split here, so that
//! one bad event does not reject the others.

mod attributes;
mod message;

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::value::RawValue;

use crate::directory::{Document, Kind};
use crate::filter::{Action, Filter};
use crate::ids::EventKey;
use crate::json;
use crate::mask::MaskPolicy;
use crate::reject::{Reason, Reject};
use crate::resource::Resource;
use crate::traceparent;
use attributes::Attributes;
use message::{ContentMode, not_json, read};

pub(crate) use attributes::Members;
pub use attributes::access_revision;
pub use message::{AttributeValue, EventMessage};

/// The largest message, in bytes.
pub const MAX_MESSAGE: usize = 1024 * 1024;
/// The most events in a batch.
pub const MAX_BATCH: usize = 1000;
/// The longest `id`, `source`, `type` or `subject`, in bytes.
pub const MAX_ATTRIBUTE: usize = 1024;
/// The longest wait that is derived from an event's own time.
const MOST_WAITED: TimeDelta = TimeDelta::days(7);
/// A time that is further than this from now is not the time of an event.
const FARTHEST: TimeDelta = TimeDelta::days(3650);
/// The content type of a message with one event.
pub const CONTENT_TYPE: &str = "application/cloudevents+json";
/// The content type of a message with an array of events.
pub const BATCH_CONTENT_TYPE: &str = "application/cloudevents-batch+json";

/// The content of one message.
#[derive(Debug)]
pub struct Published {
    /// Whether the message was an array, whose events are sent in one POST to each webhook.
    pub batch: bool,
    /// Its entries in order.
    pub entries: Vec<Entry>,
}

/// One entry of a message.
#[derive(Debug)]
pub enum Entry {
    /// Something happened to a resource.
    Event(Box<Event>),
    /// A document of the directory.
    Directory(Box<Document>),
    /// An entry that was refused, with its own JSON unchanged.
    Rejected {
        /// Why it was refused.
        reject: Reject,
        /// The entry's JSON, byte for byte.
        raw: String,
    },
}

/// Something that happened to a resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// The digest of `source` and `id`.
    pub key: EventKey,
    /// The `CloudEvents` source.
    pub source: String,
    /// The `CloudEvents` id.
    pub id: String,
    /// The type as published.
    pub event_type: String,
    /// The type's first part.
    pub filter: Filter,
    /// The type's second part.
    pub action: Action,
    /// The resource that it is about.
    pub resource: Resource,
    /// When it happened, if the publisher gave a time.
    pub time: Option<DateTime<Utc>>,
    /// The directory revision to judge it by; the newest when absent.
    pub access_revision: Option<i64>,
    /// The W3C trace context that is passed to receivers.
    pub traceparent: Option<String>,
    /// The notification that receivers get: flat, compact JSON.
    pub notification: String,
}

/// Parses a message, and masks the values that `mask` selects in each event.
///
/// # Errors
/// The message as a whole is refused. A single bad entry of a batch is an [`Entry::Rejected`]
/// instead.
pub fn parse_message(message: &EventMessage<'_>, mask: &MaskPolicy) -> Result<Published, Reject> {
    let size = message.body.len();
    if size > MAX_MESSAGE {
        let detail = format!("the message has {size} bytes, the limit is {MAX_MESSAGE}");
        return Err(Reject::new(Reason::TooLarge, detail));
    }
    message.check_encoding()?;
    let mode = message.mode()?;
    if mode == ContentMode::Binary {
        let event = message.structured()?;
        let entry = parse_entry(&event, message.traceparent, mask)?;
        return Ok(Published { batch: false, entries: vec![entry] });
    }
    let whole = read(message.body)?;
    let is_array = whole.get().starts_with('[');
    if is_array {
        let items = batch_items(whole)?;
        if mode == ContentMode::Single {
            let detail = format!(
                "the content type {CONTENT_TYPE} is for one event, and the body is an array; publish \
                 it as {BATCH_CONTENT_TYPE}"
            );
            return Err(Reject::new(Reason::NotCloudEvents, detail));
        }
        let entries = parse_batch(items, message.traceparent, mask);
        return Ok(Published { batch: true, entries });
    }
    if mode == ContentMode::Batch {
        let detail = format!(
            "the content type {BATCH_CONTENT_TYPE} is for an array of events, and the body is none; \
             publish one event as {CONTENT_TYPE}"
        );
        return Err(Reject::new(Reason::NotCloudEvents, detail));
    }
    let entry = parse_entry(whole, message.traceparent, mask)?;
    Ok(Published { batch: false, entries: vec![entry] })
}

/// Parses the body of a message in structured mode, as [`parse_message`] does.
///
/// # Errors
/// As [`parse_message`].
pub fn parse(
    body: &[u8],
    traceparent: Option<&str>,
    mask: &MaskPolicy,
) -> Result<Published, Reject> {
    parse_message(&EventMessage { body, traceparent, ..EventMessage::default() }, mask)
}

/// How long an event has waited, from its own time until `now`: at least zero, since clocks differ,
/// and at most a week, since an event with an older time was published late or again. Returns
/// `None` for an event without a time, or with a time that is years off, such as the year 1, which
/// stands for no time in .NET.
#[must_use]
pub fn waited(happened: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Option<Duration> {
    let waited = now - happened?;
    if waited.abs() > FARTHEST {
        return None;
    }
    Some(waited.min(MOST_WAITED).to_std().unwrap_or_default())
}

/// The entries of a batch, at most [`MAX_BATCH`].
fn batch_items(whole: &RawValue) -> Result<Vec<&RawValue>, Reject> {
    let items: Vec<&RawValue> = serde_json::from_str(whole.get())
        .map_err(|error| not_json(whole.get().as_bytes(), &error))?;
    if items.len() > MAX_BATCH {
        let detail = format!("the batch has {} events, the limit is {MAX_BATCH}", items.len());
        return Err(Reject::new(Reason::TooLarge, detail));
    }
    Ok(items)
}

fn parse_batch(items: Vec<&RawValue>, traceparent: Option<&str>, mask: &MaskPolicy) -> Vec<Entry> {
    let entry = |item: &RawValue| {
        parse_entry(item, traceparent, mask)
            .unwrap_or_else(|reject| Entry::Rejected { reject, raw: item.get().to_owned() })
    };
    items.into_iter().map(entry).collect()
}

fn parse_entry(
    raw: &RawValue,
    traceparent: Option<&str>,
    mask: &MaskPolicy,
) -> Result<Entry, Reject> {
    let attributes = Attributes::parse(raw)?;
    let event_type = attributes.required("type")?;
    let first = event_type.split('.').next().unwrap_or_default();
    if first.eq_ignore_ascii_case("directory") {
        return document(&attributes, &event_type).map(|it| Entry::Directory(Box::new(it)));
    }
    if attributes.text("specversion")?.as_deref() != Some("1.0") {
        let detail = "specversion must be \"1.0\"; publish CloudEvents 1.0 in JSON format";
        return Err(Reject::new(Reason::NotCloudEvents, detail));
    }
    parse_event(&attributes, event_type, traceparent, mask)
        .map(|event| Entry::Event(Box::new(event)))
}

/// Parses a directory document with its envelope. The size limit of messages does not apply, since
/// `fanfare directory import` reads files.
///
/// # Errors
/// The document is malformed, or its revision is missing.
pub fn parse_document(raw: &RawValue) -> Result<Document, Reject> {
    let attributes = Attributes::parse(raw)?;
    document(&attributes, &attributes.required("type")?)
}

fn document(attributes: &Attributes<'_>, event_type: &str) -> Result<Document, Reject> {
    let kind = Kind::parse(event_type)?;
    let data = attributes.data()?;
    let revision = attributes.revision()?.ok_or_else(|| missing("accessrevision"))?;
    Document::parse(kind, revision, data)
}

fn parse_event(
    attributes: &Attributes<'_>,
    event_type: String,
    traceparent: Option<&str>,
    mask: &MaskPolicy,
) -> Result<Event, Reject> {
    let id = attributes.required("id")?;
    let source = attributes.required("source")?;
    let (filter, action) = parse_type(&event_type)?;
    let resource = Resource::parse(&attributes.required("subject")?)?;
    if resource.filter() != filter {
        let kind = resource.filter();
        let detail = format!("the type is of {filter} but the subject names one of {kind}");
        return Err(Reject::new(Reason::SubjectMismatch, detail));
    }
    let notification = flatten(filter, &action, attributes.data()?, mask)?;
    let header = || traceparent.filter(|text| traceparent::is_valid(text)).map(str::to_owned);
    Ok(Event {
        key: EventKey::of(&source, &id),
        source,
        id,
        filter,
        action,
        resource,
        time: attributes.time(),
        access_revision: attributes.revision()?,
        traceparent: attributes.traceparent().or_else(header),
        notification,
        event_type,
    })
}

/// Splits `<filter>.<action>`.
fn parse_type(event_type: &str) -> Result<(Filter, Action), Reject> {
    let bad = || {
        let detail = format!("the type {event_type:?} is not of the form <filter>.<action>");
        Reject::new(Reason::BadType, detail)
    };
    let (filter, action) = event_type.split_once('.').ok_or_else(bad)?;
    let action = Action::parse(action).ok_or_else(bad)?;
    if filter.is_empty() {
        return Err(bad());
    }
    let filter = Filter::parse(filter).ok_or_else(|| {
        let known = Filter::ALL.map(Filter::name).join(", ");
        let detail = format!("there is no filter {filter:?}; the filters are {known}");
        Reject::new(Reason::UnknownFilter, detail)
    })?;
    Ok((filter, action))
}

/// Builds the notification: the two keys of the action, then the masked members of the data in
/// order.
fn flatten(
    filter: Filter,
    action: &Action,
    data: &RawValue,
    mask: &MaskPolicy,
) -> Result<String, Reject> {
    let object: HashMap<Cow<'_, str>, &RawValue> =
        serde_json::from_str(data.get()).map_err(|error| {
            Reject::new(Reason::BadData, format!("data must be a JSON object: {error}"))
        })?;
    let keys: HashSet<&str> = object.keys().map(AsRef::as_ref).collect();
    for reserved in ["Action", "UserAction"] {
        if keys.contains(reserved) {
            let detail = format!("data may not hold the key {reserved}: notifications use it");
            return Err(Reject::new(Reason::ReservedKey, detail));
        }
    }
    let data = json::compact(data);
    let data = mask.apply(filter, &data);
    let rest = data.strip_prefix('{').unwrap_or_default();
    let comma = if keys.is_empty() { "" } else { "," };
    let action = action.as_str();
    Ok(format!(r#"{{"Action":"{filter}","UserAction":"{action}"{comma}{rest}"#))
}

fn missing(name: &str) -> Reject {
    Reject::new(Reason::MissingAttribute, format!("the attribute {name} is missing or empty"))
}

#[cfg(test)]
#[path = "event_tests.rs"]
mod tests;
