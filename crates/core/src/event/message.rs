//! A message with events: its `CloudEvents` content mode says where the attributes and the data are
//! (AMQP Protocol Binding for `CloudEvents` 1.0.2, section 3).
//!
//! An event in binary mode is converted to the JSON of structured mode, so that the other modules
//! know one format only.

use serde_json::value::RawValue;

use crate::json;
use crate::reject::{Reason, Reject};

/// The prefix of content types that name an event format, which means structured mode.
const EVENT_FORMATS: &str = "application/cloudevents";
/// The names of UTF-8 and of its subset ASCII.
const UTF_8: [&str; 4] = ["utf-8", "utf8", "us-ascii", "ascii"];
/// Values of `content_encoding` that leave the body as it is.
const PLAIN: [&str; 4] = ["", "identity", "utf-8", "utf8"];
/// AMQP's limit for a routing key, in bytes.
const LONGEST_ROUTING_KEY: usize = 255;
/// The most bytes of a publisher's text that an error message quotes.
const LONGEST_SHOWN: usize = 64;

/// A message as it was published: its body, and the properties and headers that say how to read it.
#[derive(Debug, Clone, Default)]
pub struct EventMessage<'a> {
    /// The body as it was sent.
    pub body: &'a [u8],
    /// The property `content_type`.
    pub content_type: Option<&'a str>,
    /// The property `content_encoding`.
    pub content_encoding: Option<&'a str>,
    /// The attributes of binary mode, which are headers; the names are without the prefix
    /// `cloudEvents:` or `cloudEvents_`.
    pub attributes: Vec<(&'a str, AttributeValue)>,
    /// The header `traceparent`, for events without that attribute.
    pub traceparent: Option<&'a str>,
}

/// The value of a header that is an attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttributeValue {
    /// A text, or a time in the format of RFC 3339.
    Text(String),
    /// A whole number.
    Integer(i64),
    /// A flag.
    Flag(bool),
    /// A value of a type that no attribute has.
    Other,
}

/// The content mode: where the attributes of a message are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ContentMode {
    /// In the body, with the data: one event.
    Single,
    /// In the body: an array of events.
    Batch,
    /// In the body; the content type does not say whether it is one event or an array.
    Structured,
    /// In headers; the body is the data.
    Binary,
}

/// The part of an event that the broker routes by.
#[derive(serde::Deserialize)]
struct Typed {
    r#type: String,
}

impl EventMessage<'_> {
    /// The id of the message's single event, if it can be read. The event need not be valid.
    #[must_use]
    pub fn id(&self) -> Option<String> {
        #[derive(serde::Deserialize)]
        struct Named {
            id: String,
        }
        if self.is_binary() {
            return self.attribute("id").and_then(AttributeValue::to_text);
        }
        let body = json::without_byte_order_mark(self.body);
        serde_json::from_slice(body).ok().map(|Named { id }| id)
    }

    /// The message as a person edits it: the JSON of structured mode, even if its attributes are headers.
    /// `None` if its data is no JSON.
    #[must_use]
    pub fn structured_text(&self) -> Option<String> {
        if self.is_binary() {
            return self.structured().ok().map(|event| event.get().to_owned());
        }
        std::str::from_utf8(self.json()).ok().map(str::to_owned)
    }

    /// Whether the type of the message is that of a directory document. It is false for a batch,
    /// which may contain events too.
    #[must_use]
    pub fn is_directory_document(&self) -> bool {
        let event_type = if self.is_binary() {
            self.attribute("type").and_then(AttributeValue::to_text)
        } else if self.begins_with(b"{") {
            serde_json::from_slice(self.json()).ok().map(|Typed { r#type }| r#type)
        } else {
            None
        };
        event_type.is_some_and(|it| it.to_ascii_lowercase().starts_with("directory."))
    }

    /// The routing key to publish the message with: the type of its first event, cut to the length
    /// that AMQP allows. It is empty if there is no such type.
    #[must_use]
    pub fn routing_key(&self) -> String {
        let typed = |raw: &[u8]| serde_json::from_slice(raw).ok().map(|Typed { r#type }| r#type);
        let event_type = if self.is_binary() {
            self.attribute("type").and_then(AttributeValue::to_text)
        } else if self.begins_with(b"[") {
            let entries = serde_json::from_slice::<Vec<&RawValue>>(self.json()).ok();
            entries.and_then(|entries| typed(entries.first()?.get().as_bytes()))
        } else {
            typed(self.json())
        };
        let key = event_type.unwrap_or_default();
        key.get(..key.floor_char_boundary(LONGEST_ROUTING_KEY)).unwrap_or_default().to_owned()
    }

    /// Checks that the body is in a form that is read here: not encoded, in UTF-8, and JSON if it is
    /// in an event format.
    ///
    /// # Errors
    /// The content type or the content encoding declares another form.
    pub fn check_form(&self) -> Result<(), Reject> {
        self.check_encoding()?;
        self.mode().map(drop)
    }

    /// Whether the content type names an event format, so that the attributes are in the body.
    #[must_use]
    pub fn names_event_format(&self) -> bool {
        self.media_type().starts_with(EVENT_FORMATS)
    }

    fn json(&self) -> &[u8] {
        json::without_byte_order_mark(self.body)
    }

    fn begins_with(&self, start: &[u8]) -> bool {
        self.json().trim_ascii_start().starts_with(start)
    }

    /// The content mode. A content type that names an event format takes precedence over headers.
    pub(super) fn mode(&self) -> Result<ContentMode, Reject> {
        let media_type = self.media_type();
        let Some(format) = media_type.strip_prefix(EVENT_FORMATS) else {
            let is_binary = !self.attributes.is_empty();
            return Ok(if is_binary { ContentMode::Binary } else { ContentMode::Structured });
        };
        match format {
            "" => Ok(ContentMode::Structured),
            "+json" => Ok(ContentMode::Single),
            "-batch" | "-batch+json" => Ok(ContentMode::Batch),
            _ => {
                let detail = format!(
                    "the content type {:?} names an event format that is not supported; publish \
                     application/cloudevents+json",
                    shown(&media_type)
                );
                Err(Reject::new(Reason::NotJson, detail))
            }
        }
    }

    /// Whether the attributes are headers.
    pub(crate) fn is_binary(&self) -> bool {
        self.mode() == Ok(ContentMode::Binary)
    }

    /// Refuses a body that is declared as compressed, or as text in another encoding than UTF-8.
    pub(super) fn check_encoding(&self) -> Result<(), Reject> {
        let is_one_of =
            |known: &[&str], text: &str| known.iter().any(|it| it.eq_ignore_ascii_case(text));
        if let Some(encoding) = self.content_encoding.filter(|it| !is_one_of(&PLAIN, it)) {
            let encoding = shown(encoding);
            let detail = format!(
                "the content encoding says that the body is encoded as {encoding:?}; publish the body \
                 unencoded and declare no content encoding"
            );
            return Err(Reject::new(Reason::NotJson, detail));
        }
        if let Some(charset) = self.charset().filter(|it| !is_one_of(&UTF_8, it)) {
            let charset = shown(charset);
            let detail = format!(
                "the content type says that the body is in {charset:?}; publish JSON in UTF-8"
            );
            return Err(Reject::new(Reason::NotJson, detail));
        }
        Ok(())
    }

    /// Converts a message in binary mode to the JSON of structured mode.
    pub(super) fn structured(&self) -> Result<Box<RawValue>, Reject> {
        let body = json::without_byte_order_mark(self.body);
        let is_empty = body.trim_ascii().is_empty();
        let data = if is_empty { None } else { Some(read(self.body)?) };
        let mut event = String::with_capacity(self.body.len() + 1024);
        event.push('{');
        for (name, value) in &self.attributes {
            if matches!(*name, "data" | "data_base64") {
                let detail = "in binary mode the data is the message's body, not a header";
                return Err(Reject::new(Reason::NotCloudEvents, detail));
            }
            json::push_string(&mut event, name);
            event.push(':');
            value.push_json(&mut event, name);
            event.push(',');
        }
        event.push_str("\"data\":");
        event.push_str(data.map_or("null", RawValue::get));
        event.push('}');
        RawValue::from_string(event).map_err(|error| not_json(self.body, &error))
    }

    /// The header of an attribute; its name is compared without case.
    pub(crate) fn attribute(&self, name: &str) -> Option<&AttributeValue> {
        let known = |it: &&(&str, AttributeValue)| it.0.eq_ignore_ascii_case(name);
        self.attributes.iter().find(known).map(|(_, value)| value)
    }

    /// The content type without its parameters, in lower case.
    fn media_type(&self) -> String {
        let content_type = self.content_type.unwrap_or_default();
        let media_type = content_type.split(';').next().unwrap_or_default();
        media_type.trim().to_ascii_lowercase()
    }

    /// The content type's parameter `charset`.
    fn charset(&self) -> Option<&str> {
        let parameters = self.content_type?.split(';').skip(1);
        let mut pairs = parameters.filter_map(|parameter| parameter.split_once('='));
        let (_, charset) = pairs.find(|(name, _)| name.trim().eq_ignore_ascii_case("charset"))?;
        Some(charset.trim().trim_matches('"'))
    }
}

impl AttributeValue {
    /// The value as text; `None` for a type that no attribute has.
    pub(crate) fn to_text(&self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text.clone()),
            Self::Integer(number) => Some(number.to_string()),
            Self::Flag(flag) => Some(flag.to_string()),
            Self::Other => None,
        }
    }

    /// Appends the value as JSON. An integer becomes the text of its digits, except for
    /// `accessrevision`, because publishing libraries choose the type of a header themselves. A
    /// value of a type that no attribute has becomes an array, which every attribute refuses.
    fn push_json(&self, out: &mut String, name: &str) {
        match (self, self.to_text()) {
            (Self::Integer(number), _) if name == "accessrevision" => {
                out.push_str(&number.to_string());
            }
            (_, Some(text)) => json::push_string(out, &text),
            (_, None) => out.push_str("[]"),
        }
    }
}

/// Parses the body as JSON.
pub(super) fn read(body: &[u8]) -> Result<&RawValue, Reject> {
    let text = json::without_byte_order_mark(body);
    serde_json::from_slice(text).map_err(|error| not_json(body, &error))
}

/// The refusal of a body that is not JSON. It says what the body seems to be instead.
pub(super) fn not_json(body: &[u8], error: &serde_json::Error) -> Reject {
    let is_wide = body.starts_with(b"\xFF\xFE")
        || body.starts_with(b"\xFE\xFF")
        || body.iter().take(4).any(|byte| *byte == 0);
    let detail = if is_wide {
        "the body is in UTF-16 or UTF-32; publish JSON in UTF-8 (in .NET Encoding.UTF8, not \
         Encoding.Unicode)"
            .to_owned()
    } else if body.starts_with(b"\x1F\x8B") {
        "the body is compressed by gzip; publish it as it is".to_owned()
    } else if let Err(error) = std::str::from_utf8(body) {
        format!("the body is not UTF-8: {error}")
    } else if json::without_byte_order_mark(body).trim_ascii().is_empty() {
        "the body is empty".to_owned()
    } else {
        format!("the body is not JSON: {error}")
    };
    Reject::new(Reason::NotJson, detail)
}

/// The beginning of a publisher's text, for an error message of bounded length.
fn shown(text: &str) -> &str {
    text.get(..text.floor_char_boundary(LONGEST_SHOWN)).unwrap_or_default()
}

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;
