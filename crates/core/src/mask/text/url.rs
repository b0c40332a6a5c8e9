//! URLs: the password in `scheme://user:password@host`, and in Oracle's `jdbc:oracle:`.

use std::borrow::Cow;
use std::ops::Range;

use super::super::MASK;
use super::name_of_pair;

/// The most bytes after `://` in which a password is searched for. It has room for long tokens.
const REACH: usize = 4096;

const ORACLE: &str = "jdbc:oracle:";

/// Masks the passwords of all URLs in a text. User names stay.
pub(super) fn mask(text: &str) -> Cow<'_, str> {
    if !text.contains('@') {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut copied = 0;
    let mut replace = |range: Range<usize>| {
        // An Oracle URL may contain `://` too, and its password is masked only once.
        if range.start >= copied {
            out.push_str(text.get(copied..range.start).unwrap_or_default());
            out.push_str(MASK);
            copied = range.end;
        }
    };
    if let Some(range) = oracle_password(text) {
        replace(range);
    }
    for (at, separator) in text.match_indices("://") {
        let start = at + separator.len();
        let behind = text.get(start..).unwrap_or_default();
        let reach = behind.get(..behind.floor_char_boundary(REACH)).unwrap_or_default();
        if let Some(password) = password(reach) {
            replace(start + password.start..start + password.end);
        }
    }
    out.push_str(text.get(copied..).unwrap_or_default());
    Cow::Owned(out)
}

/// The position of the password in the text after `://`.
fn password(text: &str) -> Option<Range<usize>> {
    let ends = |c: char| matches!(c, '"' | '<' | '>') || c.is_whitespace();
    let text = text.get(..text.find(ends).unwrap_or(text.len()))?;
    let authority = text.get(..text.find(['/', '?', '#', '\\']).unwrap_or(text.len()))?;
    let start = authority.find(':')? + 1;
    if authority.get(..start)?.contains([';', '=', ',', '@', '[']) {
        return None;
    }
    let mut behind = authority.get(start..)?;
    let after_digits = behind.trim_start_matches(|c: char| c.is_ascii_digit());
    if let Some(next) = after_digits.strip_prefix(';')
        && name_of_pair(next.trim_start()).is_some()
    {
        // The digits are a port, and the pairs of a connection string follow.
        return None;
    }
    if !behind.contains('@') {
        if after_digits.is_empty() || after_digits.starts_with([';', ',']) {
            return None;
        }
        // It is not a port, so it is a password with a character that should have been escaped.
        behind = text.get(start..)?;
    }
    let first = behind.find('@')?;
    let until = behind.get(first..)?.find(';').map_or(behind.len(), |at| first + at);
    let last = behind.get(..until)?.rfind('@')?;
    Some(start..start + last)
}

/// The position of the password in the first `jdbc:oracle:thin:user/password@…`.
fn oracle_password(text: &str) -> Option<Range<usize>> {
    let at = text.to_ascii_lowercase().find(ORACLE)? + ORACLE.len();
    let behind = text.get(at..)?;
    let behind = behind.get(..behind.find(char::is_whitespace).unwrap_or(behind.len()))?;
    let host = behind.rfind('@')?;
    let slash = behind.get(..host)?.find('/')?;
    Some(at + slash + 1..at + host)
}
