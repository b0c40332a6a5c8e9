//! Events in: from the bytes of an AMQP message to what Fanfare works with, or to a refusal.
//!
//! The form is `CloudEvents` 1.0 in JSON (structured mode), one event or an array of them. After
//! [`parse`] nobody asks whether an event is valid. A batch is taken apart here, so that one bad
//! event in it does not take the others with it.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use serde_json::value::RawValue;

use crate::access::Resource;
use crate::directory::{Document, Kind};
use crate::filter::{Action, Filter};
use crate::ids::EventKey;
use crate::json;
use crate::mask::MaskPolicy;
use crate::reject::{Reason, Reject};

/// The largest message, in bytes.
pub const MAX_MESSAGE: usize = 1024 * 1024;
/// The most events in a batch.
pub const MAX_BATCH: usize = 1000;
/// The longest `id`, `source`, `type` or `subject`, in bytes.
pub const MAX_ATTRIBUTE: usize = 1024;
/// The content type of a message with one event.
pub const CONTENT_TYPE: &str = "application/cloudevents+json";
/// The content type of a message with an array of events.
pub const BATCH_CONTENT_TYPE: &str = "application/cloudevents-batch+json";

/// What one message held.
#[derive(Debug)]
pub struct Published {
    /// Whether it was an array, whose events go out together.
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
    /// An entry that can't be taken, with its own JSON as it was.
    Rejected {
        /// Why not.
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
    /// What it happened to.
    pub resource: Resource,
    /// When it happened, if the publisher said so.
    pub time: Option<DateTime<Utc>>,
    /// The directory revision to judge it by; the newest when absent.
    pub access_revision: Option<i64>,
    /// The W3C trace context to hand on.
    pub traceparent: Option<String>,
    /// The notification that receivers get: flat, compact JSON.
    pub notification: String,
}

/// Takes a message apart. `traceparent` is the message's own header, for events without one;
/// what `mask` names is in no event that comes out.
///
/// # Errors
/// When the message as a whole can't be taken; single bad entries of a batch come back as
/// [`Entry::Rejected`].
pub fn parse(
    body: &[u8],
    traceparent: Option<&str>,
    mask: &MaskPolicy,
) -> Result<Published, Reject> {
    if body.len() > MAX_MESSAGE {
        let detail = format!("the message has {} bytes, the limit is {MAX_MESSAGE}", body.len());
        return Err(Reject::new(Reason::TooLarge, detail));
    }
    let text = std::str::from_utf8(body)
        .map_err(|error| Reject::new(Reason::NotJson, format!("the body is not UTF-8: {error}")))?;
    let whole: &RawValue = serde_json::from_str(text)
        .map_err(|error| Reject::new(Reason::NotJson, format!("the body is not JSON: {error}")))?;
    if whole.get().starts_with('[') {
        let entries = parse_batch(whole, traceparent, mask)?;
        return Ok(Published { batch: true, entries });
    }
    let entry = parse_entry(whole, traceparent, mask)?;
    Ok(Published { batch: false, entries: vec![entry] })
}

fn parse_batch(
    whole: &RawValue,
    traceparent: Option<&str>,
    mask: &MaskPolicy,
) -> Result<Vec<Entry>, Reject> {
    let items: Vec<&RawValue> = serde_json::from_str(whole.get())
        .map_err(|error| Reject::new(Reason::NotJson, format!("the body is not JSON: {error}")))?;
    if items.len() > MAX_BATCH {
        let detail = format!("the batch has {} events, the limit is {MAX_BATCH}", items.len());
        return Err(Reject::new(Reason::TooLarge, detail));
    }
    let entry = |item: &RawValue| {
        parse_entry(item, traceparent, mask)
            .unwrap_or_else(|reject| Entry::Rejected { reject, raw: item.get().to_owned() })
    };
    Ok(items.into_iter().map(entry).collect())
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
        let kind = Kind::parse(&event_type)?;
        let data = attributes.data()?;
        let revision = attributes.revision()?.ok_or_else(|| missing("accessrevision"))?;
        return Ok(Entry::Directory(Box::new(Document::parse(kind, revision, data)?)));
    }
    if attributes.text("specversion")?.as_deref() != Some("1.0") {
        let detail = "specversion must be \"1.0\"; publish CloudEvents 1.0 in JSON format";
        return Err(Reject::new(Reason::NotCloudEvents, detail));
    }
    parse_event(&attributes, event_type, traceparent, mask)
        .map(|event| Entry::Event(Box::new(event)))
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
    let own_traceparent = attributes.text("traceparent")?;
    Ok(Event {
        key: EventKey::of(&source, &id),
        source,
        id,
        filter,
        action,
        resource,
        time: attributes.time()?,
        access_revision: attributes.revision()?,
        traceparent: own_traceparent
            .as_deref()
            .or(traceparent)
            .filter(|text| is_traceparent(text))
            .map(str::to_owned),
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

/// Makes the notification: the action's two keys, then the data's in order, masked.
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

/// Whether a text is a W3C trace context header, such as
/// `00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01` (Trace Context, section 3.2).
fn is_traceparent(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let hex = |part: &&str| part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    parts.len() == 4
        && parts.iter().map(|part| part.len()).eq([2, 32, 16, 2])
        && parts.iter().all(hex)
}

/// An entry's attributes, not yet looked into.
struct Attributes<'a>(HashMap<Cow<'a, str>, &'a RawValue>);

impl<'a> Attributes<'a> {
    fn parse(raw: &'a RawValue) -> Result<Self, Reject> {
        let attributes = serde_json::from_str(raw.get()).map_err(|_| {
            let detail = "an event must be a JSON object with the CloudEvents attributes";
            Reject::new(Reason::NotCloudEvents, detail)
        })?;
        Ok(Self(attributes))
    }

    /// A text attribute; `CloudEvents` allows no control characters in one (1.0.2, "Type System").
    fn text(&self, name: &str) -> Result<Option<String>, Reject> {
        let Some(raw) = self.present(name) else {
            return Ok(None);
        };
        match serde_json::from_str::<String>(raw.get()) {
            Ok(text) if !text.chars().any(char::is_control) => Ok(Some(text)),
            _ => Err(not_cloudevents(name, "a text without control characters")),
        }
    }

    fn required(&self, name: &str) -> Result<String, Reject> {
        let text = self.text(name)?.filter(|text| !text.is_empty()).ok_or_else(|| missing(name))?;
        if text.len() > MAX_ATTRIBUTE {
            let detail = format!(
                "the attribute {name} has {} bytes, the limit is {MAX_ATTRIBUTE}",
                text.len()
            );
            return Err(Reject::new(Reason::TooLarge, detail));
        }
        Ok(text)
    }

    fn revision(&self) -> Result<Option<i64>, Reject> {
        let Some(raw) = self.present("accessrevision") else {
            return Ok(None);
        };
        match raw.get().parse::<i64>() {
            Ok(revision) if revision >= 0 => Ok(Some(revision)),
            _ => Err(not_cloudevents("accessrevision", "an integer that is not negative")),
        }
    }

    fn time(&self) -> Result<Option<DateTime<Utc>>, Reject> {
        let Some(text) = self.text("time")? else {
            return Ok(None);
        };
        DateTime::parse_from_rfc3339(&text)
            .map(|time| Some(time.to_utc()))
            .map_err(|_| not_cloudevents("time", "an RFC 3339 time"))
    }

    fn data(&self) -> Result<&'a RawValue, Reject> {
        self.present("data")
            .filter(|raw| raw.get().starts_with('{'))
            .ok_or_else(|| Reject::new(Reason::BadData, "data is missing or not a JSON object"))
    }

    /// An attribute that is there and not null; `CloudEvents` JSON 3.1 treats null as absent.
    fn present(&self, name: &str) -> Option<&'a RawValue> {
        self.0.get(name).copied().filter(|raw| raw.get() != "null")
    }
}

fn missing(name: &str) -> Reject {
    Reject::new(Reason::MissingAttribute, format!("the attribute {name} is missing or empty"))
}

fn not_cloudevents(name: &str, expected: &str) -> Reject {
    Reject::new(Reason::NotCloudEvents, format!("the attribute {name} must be {expected}"))
}

#[cfg(test)]
#[path = "event_tests.rs"]
mod tests;
