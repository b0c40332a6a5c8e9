//! The properties in a content header, read without trust in their content.

use lapin::BasicProperties;
use lapin::protocol::basic::parse_properties;
use lapin::types::parsing::parse_value;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use std::fmt;

/// How deep header tables may be nested. The library's parser calls itself for each level, on a
/// thread with 2 MiB of stack.
pub(crate) const DEEPEST: usize = 16;

/// The reason why bytes can't be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// A short string is not UTF-8.
    NotUtf8,
    /// Tables are nested deeper than [`DEEPEST`].
    TooDeep,
    /// A value has an unknown type.
    UnknownType,
    /// A length goes beyond the end, or bytes are left over.
    Truncated,
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotUtf8 => "is not UTF-8",
            Self::TooDeep => "is nested too deeply",
            Self::UnknownType => "has a value of an unknown type",
            Self::Truncated => "is cut off",
        })
    }
}

/// The encoding of a property.
#[derive(Clone, Copy)]
enum Form {
    Short,
    Table,
    Octet,
    Time,
}

/// The properties in the order of their flags, from the highest bit down.
const PROPERTIES: [(&str, Form); 14] = [
    ("content_type", Form::Short),
    ("content_encoding", Form::Short),
    ("headers", Form::Table),
    ("delivery_mode", Form::Octet),
    ("priority", Form::Octet),
    ("correlation_id", Form::Short),
    ("reply_to", Form::Short),
    ("expiration", Form::Short),
    ("message_id", Form::Short),
    ("timestamp", Form::Time),
    ("type", Form::Short),
    ("user_id", Form::Short),
    ("app_id", Form::Short),
    ("cluster_id", Form::Short),
];

/// Whether the library can decode these properties.
pub(crate) fn is_readable(bytes: &[u8]) -> bool {
    check(bytes).is_ok()
}

/// The properties, if the library can decode them.
pub(crate) fn decode(bytes: &[u8]) -> Option<BasicProperties> {
    check(bytes).ok()?;
    parse_properties(bytes).ok().map(|(_, properties)| properties)
}

pub(crate) fn check(bytes: &[u8]) -> Result<(), Flaw> {
    let mut reader = Reader(bytes);
    let flags = reader.flags()?;
    for (index, (_, form)) in PROPERTIES.iter().enumerate() {
        if flags & (0x8000 >> index) == 0 {
            continue;
        }
        match form {
            Form::Short => reader.text().map(drop)?,
            Form::Table => table(reader.long()?, 0)?,
            Form::Octet => reader.take(1).map(drop)?,
            Form::Time => reader.take(8).map(drop)?,
        }
    }
    reader.end()
}

fn table(bytes: &[u8], depth: usize) -> Result<(), Flaw> {
    let mut reader = Reader(bytes);
    while !reader.0.is_empty() {
        reader.text()?;
        value(&mut reader, depth)?;
    }
    Ok(())
}

fn value(reader: &mut Reader<'_>, depth: usize) -> Result<(), Flaw> {
    let size = match reader.octet()? {
        b'V' => 0,
        b't' | b'b' | b'B' => 1,
        b's' | b'U' | b'u' => 2,
        b'I' | b'i' | b'f' => 4,
        b'D' => 5,
        b'L' | b'l' | b'd' | b'T' => 8,
        b'S' | b'x' => return reader.long().map(drop),
        b'F' | b'A' if depth >= DEEPEST => return Err(Flaw::TooDeep),
        b'F' => return table(reader.long()?, depth + 1),
        b'A' => {
            let mut values = Reader(reader.long()?);
            while !values.0.is_empty() {
                value(&mut values, depth + 1)?;
            }
            return Ok(());
        }
        _ => return Err(Flaw::UnknownType),
    };
    reader.take(size).map(drop)
}

/// The parts of undecodable properties that can be decoded, and a sentence about the others.
pub(crate) fn salvage(bytes: &[u8]) -> (BasicProperties, String) {
    let mut found = BasicProperties::default();
    let mut flaws = Vec::new();
    let mut reader = Reader(bytes);
    if let Err(flaw) = salvage_each(&mut reader, &mut found, &mut flaws) {
        flaws.push(format!("the end of the properties {flaw}"));
    }
    (found, flaws.join("; "))
}

fn salvage_each(
    reader: &mut Reader<'_>,
    found: &mut BasicProperties,
    flaws: &mut Vec<String>,
) -> Result<(), Flaw> {
    let present = reader.flags()?;
    for (index, (name, form)) in PROPERTIES.iter().enumerate() {
        if present & (0x8000 >> index) == 0 {
            continue;
        }
        let now = std::mem::take(found);
        *found = match form {
            Form::Short => match short(reader.short()?) {
                Ok(text) => with_text(now, name, text),
                Err(flaw) => {
                    flaws.push(format!("{name} {flaw}"));
                    now
                }
            },
            Form::Table => now.with_headers(salvage_table(reader.long()?, flaws)),
            Form::Octet if *name == "priority" => now.with_priority(reader.octet()?),
            Form::Octet => now.with_delivery_mode(reader.octet()?),
            Form::Time => {
                let mut bytes = [0; 8];
                bytes.copy_from_slice(reader.take(8)?);
                now.with_timestamp(u64::from_be_bytes(bytes))
            }
        };
    }
    reader.end()
}

fn with_text(found: BasicProperties, name: &str, text: ShortString) -> BasicProperties {
    match name {
        "content_type" => found.with_content_type(text),
        "content_encoding" => found.with_content_encoding(text),
        "correlation_id" => found.with_correlation_id(text),
        "reply_to" => found.with_reply_to(text),
        "message_id" => found.with_message_id(text),
        "type" => found.with_type(text),
        "app_id" => found.with_app_id(text),
        "cluster_id" => found.with_cluster_id(text),
        // The properties that Fanfare never publishes again.
        _ => found,
    }
}

/// The headers whose name and value can both be decoded.
fn salvage_table(bytes: &[u8], flaws: &mut Vec<String>) -> FieldTable {
    let mut found = FieldTable::default();
    let mut reader = Reader(bytes);
    let (mut lost, mut why) = (0_u32, None);
    while !reader.0.is_empty() {
        let Ok(name) = reader.short().map(short) else {
            why = Some(Flaw::Truncated);
            break;
        };
        let from = reader.0;
        let checked = value(&mut reader, 0);
        if checked.is_err() {
            // The check stopped inside the value, so its end is found by its outermost length.
            reader = Reader(from);
            if let Err(flaw) = skip(&mut reader) {
                why = Some(flaw);
                break;
            }
        }
        let value = from.get(..from.len() - reader.0.len()).unwrap_or_default();
        match (name, checked) {
            (Ok(name), Ok(())) => {
                if let Ok((_, value)) = parse_value(value) {
                    found.insert(name, value);
                }
            }
            (Err(flaw), _) | (_, Err(flaw)) => {
                lost += 1;
                why = Some(flaw);
            }
        }
    }
    match (lost, why) {
        (_, None) => {}
        (0, Some(flaw)) => flaws.push(format!("the table of headers {flaw}")),
        (1, Some(flaw)) => flaws.push(format!("one header {flaw}")),
        (_, Some(flaw)) => flaws.push(format!("{lost} headers can't be decoded: one {flaw}")),
    }
    found
}

/// Skips a value, whatever its content is.
fn skip(reader: &mut Reader<'_>) -> Result<(), Flaw> {
    match reader.0.first() {
        Some(b'F' | b'A') => {
            reader.take(1)?;
            reader.long().map(drop)
        }
        _ => value(reader, 0),
    }
}

fn short(bytes: &[u8]) -> Result<ShortString, Flaw> {
    let text = std::str::from_utf8(bytes).map_err(|_| Flaw::NotUtf8)?;
    ShortString::try_new(text).map_err(|_| Flaw::Truncated)
}

/// Bytes as a header's value.
pub(crate) fn byte_array(bytes: &[u8]) -> AMQPValue {
    AMQPValue::ByteArray(bytes.to_vec().into())
}

/// Bytes that are read from the front.
#[derive(Clone, Copy)]
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn take(&mut self, count: usize) -> Result<&'a [u8], Flaw> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Flaw::Truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(crate) fn octet(&mut self) -> Result<u8, Flaw> {
        self.take(1)?.first().copied().ok_or(Flaw::Truncated)
    }

    fn flags(&mut self) -> Result<u16, Flaw> {
        Ok(u16::from_be_bytes([self.octet()?, self.octet()?]))
    }

    /// The bytes of a short string.
    pub(crate) fn short(&mut self) -> Result<&'a [u8], Flaw> {
        let length = self.octet()?;
        self.take(usize::from(length))
    }

    fn text(&mut self) -> Result<&'a str, Flaw> {
        std::str::from_utf8(self.short()?).map_err(|_| Flaw::NotUtf8)
    }

    /// The bytes of a long string, a byte array, a table or an array.
    fn long(&mut self) -> Result<&'a [u8], Flaw> {
        let mut length = [0; 4];
        length.copy_from_slice(self.take(4)?);
        self.take(usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX))
    }

    fn end(&self) -> Result<(), Flaw> {
        if self.0.is_empty() { Ok(()) } else { Err(Flaw::Truncated) }
    }
}
