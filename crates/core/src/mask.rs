//! Masking: confidential values of an event are replaced by `***` before it is stored or sent.
//!
//! Events of connections contain connection strings. Receivers may need the name of the server, but
//! never the password. [`MaskPolicy::apply`] masks the passwords in those strings, and the values
//! that an administrator selects by path; every other byte stays unchanged. `walk` traverses the
//! JSON text, `path` parses and matches paths, `text` finds passwords in connection strings, and
//! `keys` has the names of secrets. `message` masks a message that may hold no valid event.

mod keys;
mod message;
mod path;
mod text;
mod walk;

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::filter::Filter;
use path::Path;

/// The replacement of a masked value.
pub const MASK: &str = "***";

/// The part of a policy that masks passwords in connection strings.
const CONNECTION_STRINGS: &str = "connection-strings";
/// The policy that masks nothing.
const OFF: &str = "off";

/// The values to mask, for each kind of events.
///
/// The default masks the passwords of connection strings in events of connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MaskPolicy {
    connection_strings: bool,
    paths: BTreeMap<Filter, Vec<Path>>,
}

/// A part of a policy's text that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MaskError {
    /// The policy is empty.
    #[error("it is empty; write off to mask nothing")]
    Empty,
    /// `off` is combined with another part.
    #[error("off can't be combined with other parts; remove off or the others")]
    NotAlone,
    /// A part is neither a keyword nor a path with a filter.
    #[error("there is no part {0:?}; write connection-strings, off, or filter:path")]
    UnknownPart(String),
    /// The filter of a path does not exist.
    #[error("there is no filter {0:?}; the filters are {known}", known = filters())]
    UnknownFilter(String),
    /// A path that can't be used.
    #[error("the path {path:?} can't be used: {problem}")]
    Path { path: String, problem: String },
}

fn filters() -> String {
    Filter::ALL.map(Filter::name).join(", ")
}

impl Default for MaskPolicy {
    fn default() -> Self {
        Self { connection_strings: true, paths: BTreeMap::new() }
    }
}

impl MaskPolicy {
    /// Masks nothing.
    #[must_use]
    pub fn off() -> Self {
        Self { connection_strings: false, paths: BTreeMap::new() }
    }

    /// Parses `off`, or a list, separated by commas, of `connection-strings` and JSON paths with
    /// their filter, such as `connection-strings,reports:$.Owner.Email`.
    ///
    /// A path begins with `$`, the event's data, and continues with segments: `.name`, `['name']`
    /// or `[0]` for one value; `.*` or `[*]` for all members or elements; and `..name`, `..*` or
    /// `..[0]` for values at any depth. Brackets accept several selectors, separated by commas. The
    /// syntax is RFC 9535 without filter expressions, slices and negative indexes.
    pub fn parse(text: &str) -> Result<Self, MaskError> {
        let mut policy = Self::off();
        let mut off = false;
        let parts = split(text);
        for part in &parts {
            if part.eq_ignore_ascii_case(OFF) {
                off = true;
            } else if part.eq_ignore_ascii_case(CONNECTION_STRINGS) {
                policy.connection_strings = true;
            } else {
                let (filter, path) = part
                    .split_once(':')
                    .ok_or_else(|| MaskError::UnknownPart((*part).to_owned()))?;
                let filter = Filter::parse(filter.trim())
                    .ok_or_else(|| MaskError::UnknownFilter(filter.trim().to_owned()))?;
                policy.paths.entry(filter).or_default().push(parse_path(path.trim())?);
            }
        }
        match (parts.len(), off) {
            (0, _) => Err(MaskError::Empty),
            (1, true) | (_, false) => Ok(policy),
            (_, true) => Err(MaskError::NotAlone),
        }
    }

    /// Masks an event's data. Valid JSON stays valid JSON with the same structure, except that a
    /// value selected by a path becomes the string `***`, whatever its type.
    #[must_use]
    pub fn apply<'a>(&self, filter: Filter, data: &'a str) -> Cow<'a, str> {
        let paths = self.paths.get(&filter).map_or(&[][..], Vec::as_slice);
        let connection_strings = self.connection_strings && filter == Filter::Connections;
        if paths.is_empty() && !connection_strings {
            return Cow::Borrowed(data);
        }
        walk::mask(data, paths, connection_strings, text::NESTING)
    }
}

fn parse_path(text: &str) -> Result<Path, MaskError> {
    Path::parse(text).map_err(|problem| MaskError::Path { path: text.to_owned(), problem })
}

/// Splits at commas outside of brackets, and leaves out empty parts.
fn split(text: &str) -> Vec<&str> {
    let mut in_brackets = false;
    let mut quote = None;
    let mut escaped = false;
    let separates = |c: char| {
        if quote.is_some() {
            if escaped {
                escaped = false;
            } else if c == '\\' {
                escaped = true;
            } else if quote == Some(c) {
                quote = None;
            }
            return false;
        }
        match c {
            '[' => in_brackets = true,
            ']' => in_brackets = false,
            '\'' | '"' if in_brackets => quote = Some(c),
            _ => {}
        }
        c == ',' && !in_brackets
    };
    text.split(separates).map(str::trim).filter(|part| !part.is_empty()).collect()
}

#[cfg(test)]
#[path = "mask_tests.rs"]
mod tests;
