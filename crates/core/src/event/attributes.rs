//! The attributes of an event, from its JSON.
//!
//! A required attribute, and one that decides about access, must be well formed. An optional
//! attribute that is malformed counts as absent: it never rejects the event.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use chrono::{DateTime, Datelike as _, NaiveDateTime, Utc};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{MAX_ATTRIBUTE, missing};
use crate::json;
use crate::reject::{Reason, Reject};
use crate::traceparent;

/// The attributes that are read here, or that change the meaning of others.
const USED: [&str; 11] = [
    "specversion",
    "id",
    "source",
    "type",
    "subject",
    "time",
    "accessrevision",
    "traceparent",
    "datacontenttype",
    "data",
    "data_base64",
];

/// An entry's attributes, whose values are not parsed yet.
pub(super) struct Attributes<'a>(HashMap<Cow<'a, str>, &'a RawValue>);

impl<'a> Attributes<'a> {
    /// Splits an event's JSON object into its members.
    ///
    /// A name that differs from a known one only by case is refused, and so is a known name that
    /// occurs twice. If `accessRevision` were ignored, access would be decided by another revision
    /// than the publisher meant.
    pub(super) fn parse(raw: &'a RawValue) -> Result<Self, Reject> {
        let Members(members) = serde_json::from_str(raw.get()).map_err(|_| {
            let detail = "an event must be a JSON object with the CloudEvents attributes";
            Reject::new(Reason::NotCloudEvents, detail)
        })?;
        let mut attributes = HashMap::with_capacity(members.len());
        for (name, value) in members {
            let used = USED.iter().find(|used| used.eq_ignore_ascii_case(&name));
            if let Some(used) = used.filter(|used| **used != name) {
                let detail = format!("the attribute {name:?} must be named {used}, in lower case");
                return Err(Reject::new(Reason::NotCloudEvents, detail));
            }
            if attributes.insert(name, value).is_some()
                && let Some(used) = used
            {
                let detail = format!("the attribute {used} is there more than once");
                return Err(Reject::new(Reason::NotCloudEvents, detail));
            }
        }
        Ok(Self(attributes))
    }

    /// A text attribute; `CloudEvents` allows no control characters in one (1.0.2, "Type System").
    pub(super) fn text(&self, name: &str) -> Result<Option<String>, Reject> {
        let Some(raw) = self.present(name) else {
            return Ok(None);
        };
        match serde_json::from_str::<String>(raw.get()) {
            Ok(text) if !text.chars().any(char::is_control) => Ok(Some(text)),
            _ => Err(not_cloudevents(name, "a text without control characters")),
        }
    }

    /// A text attribute that must be present, with 1 to 1,024 bytes.
    pub(super) fn required(&self, name: &str) -> Result<String, Reject> {
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

    /// The directory revision by which access to the event is decided.
    pub(super) fn revision(&self) -> Result<Option<i64>, Reject> {
        let Some(raw) = self.present("accessrevision") else {
            return Ok(None);
        };
        access_revision(raw).map(Some).ok_or_else(|| {
            let form = "an integer from 0 to 9223372036854775807, as a number or a decimal text";
            not_cloudevents("accessrevision", form)
        })
    }

    /// When the event happened. A time without an offset is UTC.
    pub(super) fn time(&self) -> Option<DateTime<Utc>> {
        let text = self.text("time").ok().flatten()?;
        let with_offset = DateTime::parse_from_rfc3339(&text).map(|time| time.to_utc());
        let local = |_| text.parse::<NaiveDateTime>().map(|time| time.and_utc());
        let time = with_offset.or_else(local).ok()?;
        // The offset may move the time out of the years that RFC 3339 can express.
        (0..=9999).contains(&time.year()).then_some(time)
    }

    /// The trace context, if it is a valid one.
    pub(super) fn traceparent(&self) -> Option<String> {
        self.text("traceparent").ok().flatten().filter(|text| traceparent::is_valid(text))
    }

    /// The data, which must be an object.
    pub(super) fn data(&self) -> Result<&'a RawValue, Reject> {
        let bad = |detail: &str| Err(Reject::new(Reason::BadData, detail));
        let Some(raw) = self.present("data") else {
            return match self.present("data_base64") {
                Some(_) => bad("the data is in data_base64; publish it as a JSON object in data"),
                None => bad("data is missing; publish a JSON object in data"),
            };
        };
        match raw.get().bytes().next() {
            Some(b'{') => Ok(raw),
            Some(b'"') if holds_json(raw) => {
                bad("data is a text that holds JSON; publish the JSON object itself in data")
            }
            Some(b'[') => bad(
                "data is an array and must be a JSON object; several events are published as a \
                 batch, with the content type application/cloudevents-batch+json",
            ),
            _ => bad("data must be a JSON object"),
        }
    }

    /// An attribute that is present and not null: `CloudEvents` JSON 3.1 treats null as absent.
    fn present(&self, name: &str) -> Option<&'a RawValue> {
        self.0.get(name).copied().filter(|raw| raw.get() != "null")
    }
}

/// The directory revision in a JSON value: a number without a fraction, or its canonical decimal
/// text, as `CloudEvents` writes integers beyond 32 bits (1.0.2, "Type System"). Returns `None` for
/// any other value, for a negative number, and for one beyond 64 bits.
#[must_use]
pub fn access_revision(raw: &RawValue) -> Option<i64> {
    let is_text = raw.get().starts_with('"');
    if !is_text {
        return json::integer(raw.get()).filter(|revision| *revision >= 0);
    }
    let text: String = serde_json::from_str(raw.get()).ok()?;
    let revision: i64 = text.parse().ok().filter(|revision| *revision >= 0)?;
    (revision.to_string() == text).then_some(revision)
}

/// Whether a JSON string contains JSON that was serialised twice.
fn holds_json(raw: &RawValue) -> bool {
    let text: Result<String, _> = serde_json::from_str(raw.get());
    text.is_ok_and(|text| {
        let text = text.trim_start();
        text.starts_with(['{', '[']) && serde_json::from_str::<&RawValue>(text).is_ok()
    })
}

fn not_cloudevents(name: &str, expected: &str) -> Reject {
    Reject::new(Reason::NotCloudEvents, format!("the attribute {name} must be {expected}"))
}

/// The members of an object in order, duplicates included.
pub(crate) struct Members<'a>(pub(crate) Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Object)
    }
}
