//! What of an event's data is kept from everyone: values replaced by `***` before the event is
//! stored or sent.
//!
//! Events of connections carry connection strings; receivers need to know which server a report
//! reads, never the password that it uses there. [`MaskPolicy::apply`] rewrites those strings, and
//! whatever a person named by path, and leaves every other byte as it was. `walk` goes through the
//! JSON text, `path` says what was named, `text` knows connection strings, and `keys` the names
//! that passwords go by.

mod keys;
mod path;
mod text;
mod walk;

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::filter::Filter;
use path::Path;

/// What stands in place of a masked value.
pub const MASK: &str = "***";

/// The word that asks for connection strings to be masked.
const CONNECTION_STRINGS: &str = "connection-strings";
/// The word that asks for nothing to be masked.
const OFF: &str = "off";

/// What is masked in which events.
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
    /// There is nothing in it.
    #[error("it is empty; write off to mask nothing")]
    Empty,
    /// `off` beside something else.
    #[error("off stands alone, or not at all")]
    NotAlone,
    /// A part of no known form.
    #[error("there is no part {0:?}; write connection-strings, off, or filter:path")]
    UnknownPart(String),
    /// A path of events that there are none of.
    #[error("there is no filter {0:?}; the filters are {known}", known = filters())]
    UnknownFilter(String),
    /// A path that can't be used.
    #[error("the path {path:?} can't be used: {problem}")]
    Path {
        /// The path.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
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
    /// A path starts at the data, `$`, and goes on with `.name`, `['name']`, `[0]`, `.*` or `[*]`
    /// for all members or elements, and `..name`, `..*` or `..[0]` for those at any depth; `[…]`
    /// takes several, separated by commas. That is RFC 9535 without filter expressions, slices and
    /// indexes from the end.
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

    /// Masks an event's data: valid JSON in, valid JSON of the same structure out, except that
    /// what a path names becomes the string `***` whatever it was.
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

/// The parts between commas, but for those within brackets; the empty ones are left out.
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
