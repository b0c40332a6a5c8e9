//! The members of a body, read as Json.NET reads them into a webhook.
//!
//! Names are compared without case, the last of duplicate members counts, `null` counts as absent,
//! and unknown members are ignored. Scalars are coerced. A text may be a number, which gives its
//! digits, or a boolean, which gives `true` or `false`. A boolean may be a number, which is true
//! unless it is zero, or the text `true` or `false` in any case (`JsonTextReader.ReadAsString` and
//! `ReadAsBoolean` of Json.NET 8 and later).

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::{form, relaxed};

/// The members of an object in order. A value stays unparsed until it is read as a type.
#[derive(Clone)]
pub struct Members(Vec<(String, Box<RawValue>)>);

/// The encoding of a body, as its content type declares it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Charset {
    /// UTF-8, unless a byte order mark says otherwise.
    #[default]
    Utf8,
    /// UTF-16, little-endian unless a byte order mark says otherwise.
    Utf16,
}

/// A body that can't be parsed: each wrong member with its problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Malformed(Vec<(String, String)>);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let described = |(path, problem): &(String, String)| match path.as_str() {
            "" => problem.clone(),
            path => format!("{path}: {problem}"),
        };
        f.write_str(&self.0.iter().map(described).collect::<Vec<_>>().join(" "))
    }
}

impl std::error::Error for Malformed {}

impl Malformed {
    pub(super) fn of(path: &str, problem: impl Into<String>) -> Self {
        Self(vec![(path.to_owned(), problem.into())])
    }

    /// Combines the problems of all members.
    pub(super) fn all(each: impl Iterator<Item = Self>) -> Self {
        Self(each.flat_map(|wrong| wrong.0).collect())
    }

    /// The problems as the API answers them, by the path of their member below `webHook`.
    #[must_use]
    pub fn model_state(&self) -> Map<String, Value> {
        let mut state = Map::new();
        for (path, problem) in &self.0 {
            let key = match path.as_str() {
                "" => "webHook".to_owned(),
                path => format!("webHook.{path}"),
            };
            let problems = state.entry(key).or_insert_with(|| Value::Array(Vec::new()));
            if let Value::Array(problems) = problems {
                problems.push(problem.as_str().into());
            }
        }
        state
    }
}

/// Prints no values, because some are secrets.
impl fmt::Debug for Members {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;

        impl<'de> Visitor<'de> for InOrder {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(InOrder)
    }
}

impl Members {
    /// Parses a JSON object in UTF-8, or in the encoding of its byte order mark.
    pub fn parse(json: &[u8]) -> Result<Self, Malformed> {
        Self::parse_in(json, Charset::Utf8)
    }

    /// Parses a JSON object, with the extensions of Json.NET.
    pub fn parse_in(json: &[u8], charset: Charset) -> Result<Self, Malformed> {
        let text = decoded(json, charset).ok_or_else(|| {
            Malformed::of("", "The body is not in the encoding that it declares.")
        })?;
        if text.trim_ascii().is_empty() {
            return Err(Malformed::of("", "The body is empty; a webhook in JSON is required."));
        }
        let strict = match serde_json::from_str(&text) {
            Ok(members) => return Ok(members),
            Err(error) => error,
        };
        let relaxed = relaxed::to_json(&text).and_then(|json| serde_json::from_str(&json).ok());
        relaxed.ok_or_else(|| {
            Malformed::of("", format!("The body is not a webhook in JSON: {strict}."))
        })
    }

    /// Parses a form (`application/x-www-form-urlencoded`).
    #[must_use]
    pub fn parse_form(form: &[u8]) -> Self {
        let raw = |(name, value): (String, Value)| {
            // Texts and maps of texts can always be serialised.
            serde_json::value::to_raw_value(&value).ok().map(|raw| (name, raw))
        };
        Self(form::members(form).into_iter().filter_map(raw).collect())
    }

    /// The member with this name; `None` if it is absent or `null`.
    fn get(&self, name: &str) -> Option<&RawValue> {
        let named = |(known, _): &&(String, Box<RawValue>)| known.eq_ignore_ascii_case(name);
        let value = self.0.iter().rev().find(named).map(|(_, value)| &**value);
        value.filter(|value| value.get() != "null")
    }

    /// The member with this name as text, if it is present. Scalars are coerced to text.
    pub fn text(&self, name: &str) -> Result<Option<Cow<'_, str>>, Malformed> {
        let text = |value| text(value).ok_or_else(|| Malformed::of(name, TEXT));
        self.get(name).map(text).transpose()
    }

    pub(super) fn flag(&self, name: &str) -> Result<bool, Malformed> {
        let flag = |value| {
            flag(value).ok_or_else(|| Malformed::of(name, "The value must be true or false."))
        };
        self.get(name).map_or(Ok(false), flag)
    }

    pub(super) fn texts(&self, name: &str) -> Result<Vec<String>, Malformed> {
        let Some(value) = self.get(name) else { return Ok(Vec::new()) };
        let values: Vec<Box<RawValue>> = serde_json::from_str(value.get())
            .map_err(|_| Malformed::of(name, "The value must be an array of texts."))?;
        let each = |(n, value): (usize, Box<RawValue>)| match text(&value) {
            Some(text) => Ok(text.into_owned()),
            None => Err(Malformed::of(&format!("{name}[{n}]"), TEXT)),
        };
        values.into_iter().enumerate().map(each).collect()
    }

    pub(super) fn headers(&self, name: &str) -> Result<Vec<(String, String)>, Malformed> {
        let Some(value) = self.get(name) else { return Ok(Vec::new()) };
        let Self(headers) =
            serde_json::from_str(value.get()).map_err(|_| Malformed::of(name, OBJECT))?;
        let header = |(header, value): (String, Box<RawValue>)| match text(&value) {
            Some(text) => Ok((header, text.into_owned())),
            None => Err(Malformed::of(&format!("{name}.{header}"), TEXT)),
        };
        headers.into_iter().map(header).collect()
    }

    /// The member with this name as an object; its values keep their types.
    pub(super) fn values(&self, name: &str) -> Result<Map<String, Value>, Malformed> {
        let read = |value: &RawValue| {
            serde_json::from_str(value.get()).map_err(|_| Malformed::of(name, OBJECT))
        };
        self.get(name).map_or_else(|| Ok(Map::new()), read)
    }
}

const TEXT: &str = "The value must be a text.";
const OBJECT: &str = "The value must be an object.";

/// Coerces a value to text. The digits of a number stay as they were written, since a secret may
/// consist of digits only.
fn text(value: &RawValue) -> Option<Cow<'_, str>> {
    let written = value.get();
    match written.as_bytes().first()? {
        b'"' => serde_json::from_str(written).ok().map(Cow::Owned),
        b'-' | b'0'..=b'9' | b't' | b'f' => Some(Cow::Borrowed(written)),
        _ => None,
    }
}

/// Coerces a value to a boolean.
fn flag(value: &RawValue) -> Option<bool> {
    match serde_json::from_str(value.get()).ok()? {
        Value::Bool(flag) => Some(flag),
        Value::Number(number) => Some(number.as_f64() != Some(0.0)),
        Value::String(text) => match text.trim() {
            text if text.eq_ignore_ascii_case("true") => Some(true),
            text if text.eq_ignore_ascii_case("false") => Some(false),
            _ => None,
        },
        _ => None,
    }
}

/// Decodes a body and removes its byte order mark. Returns `None` if it is not in that encoding.
fn decoded(body: &[u8], charset: Charset) -> Option<Cow<'_, str>> {
    match body {
        [0xEF, 0xBB, 0xBF, rest @ ..] => utf8(rest),
        [0xFF, 0xFE, rest @ ..] => utf16(rest, u16::from_le_bytes),
        [0xFE, 0xFF, rest @ ..] => utf16(rest, u16::from_be_bytes),
        rest if charset == Charset::Utf16 => utf16(rest, u16::from_le_bytes),
        rest => utf8(rest),
    }
}

fn utf8(bytes: &[u8]) -> Option<Cow<'_, str>> {
    std::str::from_utf8(bytes).ok().map(Cow::Borrowed)
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Option<Cow<'_, str>> {
    let units = bytes.chunks(2).map(|pair| pair.try_into().map(unit));
    let units: Vec<u16> = units.collect::<Result<_, _>>().ok()?;
    String::from_utf16(&units).ok().map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Members {
        Members::parse(json.as_bytes()).unwrap()
    }

    #[test]
    fn scalars_are_coerced_to_text() {
        for (value, expected) in [
            (r#""a\u00e4""#, "a\u{e4}"),
            ("12345678901234567890123456789012", "12345678901234567890123456789012"),
            ("-1.50e3", "-1.50e3"),
            ("true", "true"),
            ("false", "false"),
        ] {
            let members = read(&format!("{{\"A\":{value}}}"));
            assert_eq!(members.text("a").unwrap().as_deref(), Some(expected), "{value}");
        }
        assert_eq!(read(r#"{"A":null}"#).text("A"), Ok(None));
        for value in ["[]", "{}", r#"["a"]"#, r#""\ud83d""#] {
            assert!(read(&format!("{{\"A\":{value}}}")).text("A").is_err(), "{value}");
        }
    }

    #[test]
    fn scalars_are_coerced_to_booleans() {
        for (value, expected) in [
            ("true", true),
            (r#""true""#, true),
            (r#"" True ""#, true),
            (r#""FALSE""#, false),
            ("1", true),
            ("-1", true),
            ("0.5", true),
            ("99999999999999999999", true),
            ("0", false),
            ("-0.0", false),
            ("null", false),
        ] {
            assert_eq!(read(&format!("{{\"A\":{value}}}")).flag("A"), Ok(expected), "{value}");
        }
        for value in [r#""""#, r#""1""#, r#""yes""#, "[]", "{}", "[true]"] {
            assert!(read(&format!("{{\"A\":{value}}}")).flag("A").is_err(), "{value}");
        }
    }

    #[test]
    fn a_body_is_decoded_by_its_byte_order_mark_or_charset() {
        let json = r#"{"A":"ä"}"#;
        let units =
            |bytes: fn(u16) -> [u8; 2]| json.encode_utf16().flat_map(bytes).collect::<Vec<u8>>();
        let (little, big) = (units(u16::to_le_bytes), units(u16::to_be_bytes));
        for (body, charset) in [
            (json.as_bytes().to_vec(), Charset::Utf8),
            ([b"\xEF\xBB\xBF", json.as_bytes()].concat(), Charset::Utf8),
            ([b"\xEF\xBB\xBF", json.as_bytes()].concat(), Charset::Utf16),
            (little.clone(), Charset::Utf16),
            ([b"\xFF\xFE".to_vec(), little.clone()].concat(), Charset::Utf8),
            ([b"\xFE\xFF".to_vec(), big].concat(), Charset::Utf16),
        ] {
            let members = Members::parse_in(&body, charset).unwrap();
            assert_eq!(members.text("A").unwrap().as_deref(), Some("ä"), "{body:?}");
        }
        for (body, charset) in [
            (&b"{\"A\":\"\xE4\"}"[..], Charset::Utf8),
            (b"\xFF\xFE{", Charset::Utf8),
            (&little, Charset::Utf8),
        ] {
            assert!(Members::parse_in(body, charset).is_err(), "{body:?}");
        }
    }

    #[test]
    fn values_are_not_printed() {
        assert!(!format!("{:?}", read(r#"{"Secret":"word"}"#)).contains("word"));
    }
}
